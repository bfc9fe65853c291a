"""What the attention heads look at: maps of one forward pass, and pictures of them."""
