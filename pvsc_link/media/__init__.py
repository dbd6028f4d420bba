"""Video in and out: readers, BT.709 colour, padding, named clips and datasets."""
