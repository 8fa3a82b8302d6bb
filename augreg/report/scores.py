"""What the demo measured, in figures and in words that are made of them: they say so too where a method has failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# gains below this are none
_LEAST = 0.005


@dataclass(frozen=True)
class Scores:
    """Agreement of the pairs of unseen images, larger where they agree better.

    Parameters
    ----------
    measure : name of the measure, Dice or NCC
    values : values of all pairs, by method; "before", "network" and "linear program" among them
    """

    measure: str
    values: Mapping[str, Sequence[float]]

    def mean(self, name: str) -> float:
        """Of a method over all pairs."""
        return float(np.mean(self.values[name]))

    @property
    def verdict(self) -> str:
        """Whether the network alone gains at least half of what the linear program gains."""
        before, network, program = (self.mean(name) for name in ("before", "network", "linear program"))
        count = len(self.values["before"])
        figures = (
            f"Mean {self.measure} over {count} unseen pairs: {before:.2f} before, "
            f"{network:.2f} by the network, {program:.2f} by the linear program."
        )
        return f"{figures} {compared(network - before, program - before)}"


def compared(network: float, program: float) -> str:
    """The gain of the network beside that of the linear program, in a sentence."""
    if program < _LEAST:
        other = "also gains nothing" if network < _LEAST else f"gains {network:.2f}"
        return f"The linear program gains nothing here; the network {other}."
    if network < _LEAST:
        return "The network alone gains nothing here: it has not learned what moves between these images."
    share = network / program
    if share >= 1:
        return "The network alone gains as much as the linear program, or more."
    if share >= 0.5:
        return f"The network alone gains {share:.0%} of what the linear program gains."
    return f"The network alone gains only {share:.0%} of what the linear program gains, less than half."


def learned(error: float, without: float) -> str:
    """The error of a network on unseen synthetic pairs beside that of doing nothing, in a sentence."""
    share = error / without
    figures = f"On unseen synthetic pairs the network's error is {error:.2f} voxels, {share:.0%} of that of doing nothing"
    if share > 0.95:
        return f"{figures}: it has learned nothing."
    return f"{figures}." if share <= 0.5 else f"{figures}, not half of it."
