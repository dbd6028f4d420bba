"""Whole transmissions: semantic, and separated (codec over the bit link)."""
