"""Whole transmissions: semantic, and separated (codec over the coded link)."""

from pvsc_link.schemes.registry import SCHEMES, SchemeType

__all__ = ["SCHEMES", "SchemeType"]
