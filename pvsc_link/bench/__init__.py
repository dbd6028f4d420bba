"""Benchmarks of this package against the tools it builds on, each printed as ratios in one run."""
