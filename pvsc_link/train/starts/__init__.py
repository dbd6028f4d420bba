"""Starting points of training."""
