"""Pairs drawn from an appearance model.

A pair is two instances. Its shapes are b_k ~ N(0, amplitude^2 I), or of another density (`augreg.sam.density`); its appearances
g_1 (fields of a mosaic) and a_1 (modes, see `augreg.sam.model`), and

    g_2 = rho g_1 + sqrt(1 - rho^2) g',      a_2 alike,      rho = 1 shared, 0 independent, or anything between.

Gains, the images' overall intensities, are log-normal with the training images' spread, and correlated like appearances; no
image goes beyond the range of the training images, unless `intensity` asks for it. Poses are Gaussian with the covariance of the
training poses.

A model knows what its landmarks have shown. Of what moves beside them, and of motions finer than they are dense, it knows
nothing, and its shapes are smooth there: `rest` adds a random field to every shape, in the model's coordinates, before folding is
looked for and maps are made of the shapes, so pairs stay exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.splines import control_grid
from augreg.sam.density import Kind
from augreg.sam.model import SHARPNESS, AppearanceModel
from augreg.synthesis.generators.fields import Field, bounded_normal, described
from augreg.synthesis.generators.instances import AppearanceDraw, InstanceRenderer
from augreg.synthesis.pairs import PairBatch
from augreg.synthesis.render.maps import MADE
from augreg.synthesis.render.renderer import INTENSITY_NODES


@dataclass(frozen=True)
class AppearancePairs:
    """Pairs of instances of an appearance model.

    Parameters
    ----------
    model : the appearance model
    appearance : correlation of the two appearances: "shared" (1), "independent" (0) or a number from 0 to 1
    amplitude : factor on the shape modes' standard deviations; coefficients beyond 3 are drawn again
    mosaic : sharpness beta of the mosaics of training textures; 0 is the mean appearance
    modes : factor on the appearance modes' standard deviations. Mosaics look real; `mosaic=0, modes=1` is the classical model.
    pose : factor on the training poses' spread; 0 for none
    intensity : standard deviation of the logarithm of a smooth gain, independent for both images
    rest : families of random fields, of which one is taken at random for every image and added to its shape; by default none
    shapes : where shape coefficients are drawn from, see `augreg.sam.density`: "gaussian", "kernel", "mixture" or "best" of them

    Raises
    ------
    ValueError : for a correlation outside [0, 1] or negative factors, or a density that the model cannot have.
    """

    model: AppearanceModel = field(repr=False)
    appearance: float | str = "shared"
    amplitude: float = 1.0
    mosaic: float = SHARPNESS
    modes: float = 0.0
    pose: float = 1.0
    intensity: float = 0.0
    rest: tuple[Field, ...] = ()
    shapes: Kind = "gaussian"

    def __post_init__(self) -> None:
        _correlation(self.appearance)
        for name in ("amplitude", "mosaic", "modes", "pose", "intensity"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise ValueError(f"{name}: expected a factor of at least 0, got {value}")
        if self.shapes != "gaussian":
            self.model.density(self.shapes)

    @property
    def grid(self) -> Grid:
        """The template's grid."""
        return self.model.template

    def draw(self, rngs: Sequence[np.random.Generator]) -> AppearanceDraw:
        """The random numbers of one pair per random generator."""
        rho = _correlation(self.appearance)
        parts = (np.stack(column) for column in zip(*[_draw_one(self.model, rng, self.shapes) for rng in rngs], strict=True))
        shapes, mosaics, modes, gains, poses, light = parts
        for both in (mosaics, modes, gains):
            both[:, 1] = rho * both[:, 0] + np.sqrt(1 - rho**2) * both[:, 1]
        return AppearanceDraw(
            shape=self.amplitude * shapes,
            mosaic=(self.mosaic * mosaics).astype(np.float32),
            modes=self.modes * modes,
            gain=np.exp(np.log(self.model.gains).mean() + np.log(self.model.gains).std(ddof=1) * gains),
            pose=self.pose * poses,
            light=self.intensity * light,
            rest=np.stack([self._rest(rng) for rng in rngs]),
        )

    def _rest(self, rng: np.random.Generator) -> FloatArray:
        if not self.rest:
            return np.empty((2, 0))
        control = control_grid(self.grid)
        chosen = (self.rest[rng.integers(len(self.rest))] for _ in range(2))
        return np.stack([family.draw(rng, control, self.grid) for family in chosen])

    def render(self, draw: AppearanceDraw, device: torch.device | str | None = None) -> PairBatch:
        """The pairs of a draw on the template's grid."""
        return InstanceRenderer.on(self.model, torch.device(device or "cpu")).pairs(draw)

    def describe(self) -> Mapping[str, Any]:
        """The options and a hash of the model."""
        options = {part.name: getattr(self, part.name) for part in fields(self) if part.name not in ("model", "rest")}
        rest = {"rest": described(self.rest)} if self.rest else {}
        return {"kind": "appearance model", "model": self._fingerprint, **options, **rest, "range": "clipped", "maps": MADE}

    @cached_property
    def _fingerprint(self) -> str:
        model, digest = self.model, hashlib.sha256()
        for array in (model.shape.mean, model.shape.basis, model.shape.variance, model.appearance.mean, model.appearance.basis):
            digest.update(np.ascontiguousarray(array).tobytes())
        for array in (model.appearance.variance, model.textures, model.gains, model.poses, model.mode_splines):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(b"" if model.label_maps is None else np.ascontiguousarray(model.label_maps).tobytes())
        digest.update(repr((model.template, model.locality, model.maps.name, model.intensities, model.range)).encode())
        return digest.hexdigest()[:16]


def _draw_one(model: AppearanceModel, rng: np.random.Generator, shapes: Kind) -> tuple[npt.NDArray[Any], ...]:
    n = len(model.poses)
    b, *others = (
        bounded_normal(rng, (2, model.shape.rank)),
        rng.standard_normal((2, n, model.mixing.columns), dtype=np.float32),
        bounded_normal(rng, (2, model.appearance.rank)),
        bounded_normal(rng, (2,)),
        rng.standard_normal((2, n)) @ model.poses / np.sqrt(n - 1),
        rng.standard_normal((2, INTENSITY_NODES**model.ndim)),
    )
    if shapes != "gaussian":
        density = model.density(shapes)
        b = density.shaped(density.choose(rng, 2), b)
    return b, *others


def _correlation(appearance: float | str) -> float:
    named = {"shared": 1.0, "independent": 0.0}
    rho = named.get(appearance) if isinstance(appearance, str) else float(appearance)
    if rho is None or not 0 <= rho <= 1:
        raise ValueError(f"appearance: expected shared, independent or a correlation from 0 to 1, got {appearance!r}")
    return rho
