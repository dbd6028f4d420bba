"""A user's own video over the link: reconstructions, side by side, a still, the numbers."""
