"""Generators of training pairs: what is drawn at random, and from what."""
