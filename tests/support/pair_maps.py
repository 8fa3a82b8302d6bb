"""The maps of pairs as transforms of numpy, in index units, from nothing but the splines that a renderer says it uses."""

from dataclasses import dataclass

import numpy as np
import torch

from augreg import Affine, BSpline, Grid
from augreg.geometry.transforms import Composition, Transform
from augreg.synthesis.generators.instances import InstanceRenderer
from augreg.synthesis.render.maps import PairMaps


@dataclass(frozen=True, eq=False)
class Twin:
    """phi: fixed -> moving image, and B: image -> template, of fixed and moving image; the splines alone, and their grid."""

    phi: Transform
    images: tuple[Transform, Transform]
    splines: tuple[BSpline, BSpline]


def maps_of(generator, draw) -> PairMaps:
    """Those of a draw of an appearance model."""
    found = InstanceRenderer.on(generator.model, torch.device("cpu"))
    return found.renderer.maps(found.shapes(draw))


def twins(maps: PairMaps, frame) -> list[Twin]:
    """Of pairs whose base is the moving image."""
    assert not maps.swapped.any()
    control = Grid(
        frame.shape, tuple(1 / s for s in frame.step), tuple(-b / s for b, s in zip(frame.start, frame.step, strict=True))
    )
    out = []
    for i in range(len(maps.swapped)):
        base, other = (BSpline(part[i].numpy(), control) for part in (maps.base, maps.other))
        home, there = (Affine(part[i, :, :-1].numpy(), part[i, :, -1].numpy()) for part in (maps.home, maps.there))
        B, phi = Composition((home, base)), Composition((there, other))
        out.append(Twin(phi, (Composition((home, base, there, other)), B), (base, other)))
    return out


def pixels(grid: Grid) -> np.ndarray:
    """Indices of all pixels, (*shape, D)."""
    return np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1).astype(float)
