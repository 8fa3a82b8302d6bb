"""Measurements of augreg and of other software beside it; see `benchmarks.__main__`."""
