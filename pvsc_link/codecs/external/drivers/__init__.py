"""Scripts that run in a codec's own Python (3.6 and later) and never import pvsc_link."""
