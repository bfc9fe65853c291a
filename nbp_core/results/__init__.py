"""Files of measured figures, and the paper's figures beside them."""
