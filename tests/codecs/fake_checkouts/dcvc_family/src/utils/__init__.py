"""Package of the real repository."""
