"""Slow twins of kernels, phantoms, spaces, people: what tests share."""
