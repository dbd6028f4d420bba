"""Separated source codecs: the contract and one file per family."""
