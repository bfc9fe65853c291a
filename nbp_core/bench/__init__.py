"""Speed of decode steps, beside the hardware's floor and beside Hugging Face transformers."""
