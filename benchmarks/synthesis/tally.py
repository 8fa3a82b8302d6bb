"""What is known of many errors, kept in a file so that a run which was stopped goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import augreg as ar
from augreg.geometry.grid import FloatArray
from augreg.synthesis.pairs import TOLERANCE

SHORTCUTS = "thin-plate spline of landmarks", "minus the displacement"

# errors are counted in bins half a per cent wide, voxels
_BINS = np.geomspace(1e-10, 1e3, 6001)


class Tally:
    """What quantiles need of many errors: how many lie in each bin, their sum, the largest, how many are below TOLERANCE."""

    def __init__(self, known: npt.NDArray[np.float64] | None = None) -> None:
        # in an array, to be kept in a file: bins, sum, largest, below
        self.known = np.zeros(len(_BINS) + 4) if known is None else known

    def add(self, errors: FloatArray) -> None:
        """Count some more."""
        finite = np.ravel(errors)[np.isfinite(np.ravel(errors))]
        self.known[: len(_BINS) + 1] += np.bincount(np.searchsorted(_BINS, finite), minlength=len(_BINS) + 1)
        self.known[-3] += finite.sum(dtype=np.float64)
        self.known[-2] = max(self.known[-2], finite.max(initial=0.0))
        self.known[-1] += np.count_nonzero(finite < TOLERANCE)

    @property
    def count(self) -> float:
        """How many there are."""
        return float(self.known[: len(_BINS) + 1].sum())

    def told(self) -> dict[str, float]:
        """Mean, quantiles (to half a per cent), largest."""
        reached = np.cumsum(self.known[: len(_BINS) + 1]) / self.count
        largest = float(self.known[-2])
        median, p99, p999 = (
            min(float(_BINS[min(np.searchsorted(reached, q), len(_BINS) - 1)]), largest) for q in (0.5, 0.99, 0.999)
        )
        return {"mean": float(self.known[-3] / self.count), "median": median, "p99": p99, "p999": p999, "max": largest}


COLUMNS = ("error", "template", "back", "drawn", "reverse")
_MEANS = ("kept", "inside", "photometric", "photometric twin", "none")
LEAST = ("splines", "id + u")


@dataclass(frozen=True, eq=False)
class Progress:
    """What was measured of the first pairs, kept in a file after every batch: a run that was stopped goes on.

    Parameters
    ----------
    tallies : errors, by name; those of shortcuts too
    lists : a number of each pair, by name
    """

    tallies: dict[str, Tally]
    lists: dict[str, list[float]]

    @staticmethod
    def read(path: Path | None) -> Progress:
        """From a file, or nothing yet."""
        names = (*COLUMNS, *SHORTCUTS)
        lists = (*_MEANS, *LEAST, "shrunk", "rejected", *(f"photometric {name}" for name in SHORTCUTS))
        if path is None or not path.exists():
            return Progress({name: Tally() for name in names}, {name: [] for name in lists})
        with np.load(path, allow_pickle=False) as kept:
            return Progress({name: Tally(kept[name]) for name in names}, {name: kept[f"each {name}"].tolist() for name in lists})

    def write(self, path: Path | None) -> None:
        """To a file."""
        if path is None:
            return
        parts: dict[str, Any] = {name: tally.known for name, tally in self.tallies.items()}
        parts |= {f"each {name}": np.array(values, dtype=np.float64) for name, values in self.lists.items()}
        with ar.io.atomic(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **parts)
