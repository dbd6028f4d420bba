"""Separated source codecs: the contract and one file per family."""

from pvsc_link.codecs.registry import CODECS, CodecType

__all__ = ["CODECS", "CodecType"]
