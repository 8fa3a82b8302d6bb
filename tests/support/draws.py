"""Pairs drawn from the models of simulated people."""

from augreg.synthesis import AppearancePairs, pair_rngs
from support.subjects import model


def drawn(count, seed=0, kind="labels", **options):
    """A generator and a draw of pairs."""
    generator = AppearancePairs(model(kind), **options)
    return generator, generator.draw(pair_rngs(seed, range(count)))
