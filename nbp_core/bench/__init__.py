"""Speed: how fast each step runs, beside the floor of this machine and beside other samplers."""
