"""Video in and out: reading, BT.709 colour, padding, clips and test sets by name."""
