"""Training (section III-D): phases, losses, starts, and the release of weights."""
