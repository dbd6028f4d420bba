"""pvsc_link: perception-aware video semantic communication over Sionna links."""

__version__ = "0.1.0"
