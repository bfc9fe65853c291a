"""The Results tab: measured figures beside the paper's."""
