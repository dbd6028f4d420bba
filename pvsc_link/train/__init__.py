"""Training: losses, stages, curriculum, trainer."""
