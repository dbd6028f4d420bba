"""Starts: initial weights that are better than random ones."""
