"""What travels to the card: images and labels of a study's people, volumes, two appearance models, and the study's settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.io import read_arrays, write_arrays
from augreg.sam import AppearanceModel, read_model
from augreg.synthesis import AppearancePairs, SmoothField

_KIND = "people"


@dataclass(frozen=True, eq=False)
class People:
    """Images of some people on one grid.

    Parameters
    ----------
    images : (n, *shape)
    labels : (n, *shape)
    tested : (n,), who is not learned from
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.integer]
    tested: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pack:
    """A folder of it.

    Parameters
    ----------
    folder : of the files
    people : of every set: `z08`, `z20` (slices) and `volumes`
    settings : of the study of slices, by name
    """

    folder: Path
    people: dict[str, People]
    settings: dict[str, Any]

    @cached_property
    def slices(self) -> AppearancePairs:
        """Pairs as the study draws them."""
        known = self.settings
        families = tuple(SmoothField(spacing, (0.0, most / 2, most)) for spacing, most in known["rest"])
        how = {"pose": known["pose"], "intensity": known["intensity"], "rest": families}
        return AppearancePairs(self._model("slices"), known["appearance"], known["amplitude"], **how)

    @cached_property
    def volumes(self) -> AppearancePairs:
        """Pairs of volumes."""
        return AppearancePairs(self._model("volumes"), intensity=self.settings["intensity"])

    def _model(self, name: str) -> AppearanceModel:
        return read_model(self.folder / f"{name}-model.npz")


def write_people(folder: Path, people: dict[str, People], settings: dict[str, Any]) -> None:
    """The arrays of a pack; models are written beside them."""
    arrays = {f"{name}_{part}": getattr(one, part) for name, one in people.items() for part in ("images", "labels", "tested")}
    write_arrays(folder / "people.npz", arrays, {"kind": _KIND, "settings": settings, "sets": list(people)})


def read_pack(folder: Path) -> Pack:
    """The pack in a folder."""
    arrays, about = read_arrays(folder / "people.npz", _KIND)
    people = {name: People(*(arrays[f"{name}_{part}"] for part in ("images", "labels", "tested"))) for name in about["sets"]}
    return Pack(folder, people, about["settings"])
