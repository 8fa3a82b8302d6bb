"""Registration by a network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from augreg.geometry.grid import Grid
from augreg.geometry.resampling import resample, warp
from augreg.geometry.transforms import Affine, DisplacementField, Transform
from augreg.networks.files import read_network
from augreg.networks.predictor import Predictor
from augreg.registration import Centred, Clock, Method, Pair, State
from augreg.tensors import image_to_tensor


@dataclass(frozen=True, eq=False)
class FlowRegistration(Method):
    """Registration by a network: a callable (fixed, moving) -> phi, for images of any size and spacing.

    Both images are brought to the fixed image's domain at the network's spacing; phi = initial @ (the map that the network
    predicts), and that is what it is: an affine transform or the flow of a velocity, both with exact inverses, a displacement
    field, or a composition of them. Where the moving image ends its least value goes on.

    Parameters
    ----------
    network : a network, or what wraps one, such as `augreg.networks.SymmetricFlow(RefinedFlow(network))`
    spacing : voxel size of the images that the network was trained on, mm
    centred : whether the centres of the grids are put on each other first, where no `initial` says how images lie: for images of
        two scanners, whose world coordinates have nothing in common
    """

    network: Predictor
    spacing: tuple[float, ...]
    centred: bool = False

    @staticmethod
    def from_file(path: str | os.PathLike[str]) -> FlowRegistration:
        """The registration with a network from a file, or of the name of one that comes with augreg; see `read_network`."""
        file = read_network(path)
        return FlowRegistration(file.network, file.spacing, file.centred)

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        """One state: a network needs one pass. Masks, labels and landmarks are without effect, and that is said."""
        if self.centred and pair.initial is None:
            pair = pair.with_initial(Centred()(pair.fixed, pair.moving))
        fixed, scenes = pair.fixed, pair.scenes
        if fixed.ndim != self.network.ndim:
            raise ValueError(f"fixed: expected a {self.network.ndim}-D image for this network, got {fixed.ndim}-D")
        warnings = list(pair.warnings)
        if pair.known().keys() - {"initial"}:
            warnings.append("masks, labels and landmarks are not used by a network")
        grid = fixed.grid.with_spacing(self.spacing)
        images = [image.with_values(image.values.astype(np.float32, copy=False)) for image in (scenes.fixed, scenes.moving)]
        if scenes.fixed.channels != self.network.channels:
            images = [image.luminance() for image in images]
        if images[0].channels != self.network.channels:
            raise ValueError(f"fixed: expected {self.network.channels} channels for this network, got {images[0].channels}")
        # outside of an image stands its least value, the air of most: with 0 the answer would depend on an offset
        outside = [float(image.values.min()) for image in images]
        seen = (resample(images[0], grid, fill=outside[0]), warp(images[1], pair.start, grid, fill=outside[1]))
        with torch.no_grad():
            phi = self.network.predict(*(self.network.prepare(image_to_tensor(image)) for image in seen))
        transform = _after(pair.start, _on_grid(phi.as_transform(grid), fixed.grid))
        yield State(0, 0, float("nan"), float("nan"), transform, clock.seconds, tuple(warnings), stage="network")


def _after(start: Transform, found: Transform) -> Transform:
    """start @ found; found alone where the start does nothing."""
    still = isinstance(start, Affine) and np.array_equal(start.matrix, np.eye(start.ndim)) and not start.translation.any()
    return found if still else start @ found


def _on_grid(transform: Transform, grid: Grid) -> Transform:
    """A field on a grid; others need none."""
    if not isinstance(transform, DisplacementField) or transform.grid == grid:
        return transform
    return DisplacementField(transform.displacement(grid), grid)
