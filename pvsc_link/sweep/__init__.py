"""Run a scenario: build, share, store, resume."""
