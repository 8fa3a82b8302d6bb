"""Pages of outlines: what each way of registering makes of some pairs that no network has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform
from augreg.io import atomic
from augreg.report import figures
from augreg.report.page import figure, page, section

_FIXED, _MOVED = "#ffd23f", "#27c4ff"


@dataclass(frozen=True, eq=False)
class Shown:
    """A pair, and the transforms that were found.

    Parameters
    ----------
    name : of the pair
    fixed : image
    inside, other : label maps of the fixed and the moving image
    found : transform of every method, fixed to moving
    """

    name: str
    fixed: Image
    inside: Labels
    other: Labels
    found: Mapping[str, Transform]


def write_page(path: Path, title: str, lead: str, pairs: Sequence[Shown]) -> None:
    """One page, a section per pair."""
    parts = []
    for pair in pairs:
        draws = []
        for name, phi in pair.found.items():
            moved = warp(pair.other, phi, pair.fixed.grid)
            groups = ((_structures(pair.inside), _FIXED), (_structures(moved), _MOVED))
            draws.append((name, figures.outlined(figures.picture(pair.fixed), *groups)))
        high = pair.fixed.grid.sides[1] / pair.fixed.grid.sides[0]
        text = "The fixed image, in yellow its structures, in blue those of the moving image; of volumes the middle slice."
        parts.append(section(pair.name, text, figure(figures.panels(draws, columns=4, aspect=high), "outlines")))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_text(page(title, lead, parts), encoding="utf-8")


def _structures(labels: Labels) -> list[Image]:
    numbers = [number for number in np.unique(labels.values) if number != 0]
    return [Image((labels.values == number).astype(np.float32), labels.grid) for number in numbers]
