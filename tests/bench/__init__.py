"""Measure what the engine costs, against the same work written by hand: python -m tests.bench."""
