"""Comparisons with other tools and with plain loops; `python -m benchmarks` runs those that measure time."""
