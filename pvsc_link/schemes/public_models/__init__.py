"""Drivers of public semantic models, each for the Python of that model."""
