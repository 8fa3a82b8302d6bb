"""Registration by a network."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from augreg.geometry.grid import Grid
from augreg.geometry.resampling import resample, warp
from augreg.geometry.transforms import Affine, DisplacementField
from augreg.networks.files import read_network
from augreg.networks.predictor import Predictor
from augreg.networks.tensors import flow_to_displacement, image_to_tensor, normalised
from augreg.registration import Method, Pair, State


@dataclass(frozen=True, eq=False)
class FlowRegistration(Method):
    """Registration by a network: a callable (fixed, moving) -> phi, for images of any size and spacing.

    Both images are brought to the fixed image's domain at the network's spacing; the flow becomes world vectors there. Gain and
    offset of the images do not matter; where the moving image ends its least value goes on. phi = initial @ (id + u).

    Parameters
    ----------
    network : a FlowNet, or what wraps one, such as `augreg.networks.SymmetricFlow(RefinedFlow(network))`
    spacing : mm per voxel that the network was trained on
    """

    network: Predictor
    spacing: tuple[float, ...]

    @staticmethod
    def from_file(path: str | os.PathLike[str]) -> FlowRegistration:
        """The registration with a network from a file, or of the name of one that comes with augreg; see `read_network`."""
        file = read_network(path)
        return FlowRegistration(file.network, file.spacing)

    def _states(self, pair: Pair) -> Iterator[State]:
        """One state: a network needs one pass. Masks, labels and landmarks are without effect, and that is said."""
        begin = time.perf_counter()
        fixed, scenes = pair.fixed, pair.scenes
        if fixed.ndim != self.network.ndim:
            raise ValueError(f"fixed: expected a {self.network.ndim}-D image for this network, got {fixed.ndim}-D")
        warnings = list(pair.warnings)
        if pair.known().keys() - {"initial"}:
            warnings.append("masks, labels and landmarks are not used by a network")
        grid = fixed.grid.with_spacing(self.spacing)
        images = [scenes.fixed, scenes.moving]
        if scenes.fixed.channels != self.network.channels:
            images = [image.luminance() for image in images]
        if images[0].channels != self.network.channels:
            raise ValueError(f"fixed: expected {self.network.channels} channels for this network, got {images[0].channels}")
        # outside of an image stands its least value, the air of most: with 0 the answer would depend on an offset
        outside = [float(image.values.min()) for image in images]
        seen = (resample(images[0], grid, fill=outside[0]), warp(images[1], pair.start, grid, fill=outside[1]))
        with torch.no_grad():
            flow = self.network.predict(*(normalised(image_to_tensor(image)) for image in seen))
        displacement = _on_grid(DisplacementField(flow_to_displacement(flow, grid), grid), fixed.grid)
        identity = isinstance(pair.start, Affine) and np.array_equal(pair.start.matrix, np.eye(fixed.ndim))
        identity = identity and not np.any(getattr(pair.start, "translation", 1))
        transform = displacement if identity else pair.start @ displacement
        seconds = time.perf_counter() - begin
        yield State(0, 0, float("nan"), float("nan"), transform, seconds, tuple(warnings))


def _on_grid(field: DisplacementField, grid: Grid) -> DisplacementField:
    return field if field.grid == grid else DisplacementField(field.displacement(grid), grid)
