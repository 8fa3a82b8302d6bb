"""A network of `python -m benchmarks run hearts` beside atlases: what it registers, and what it marks in an image by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import resample
from augreg.networks import FlowRegistration, Marked
from augreg.networks.architectures.marker import Committee, Marker
from augreg.tensors import image_to_tensor


def flow_of(weights: Path) -> FlowRegistration:
    """The registration."""
    torch.set_num_threads(1)
    return FlowRegistration.from_file(weights)


@dataclass(frozen=True, eq=False)
class Marks:
    """A callable image -> label map, of the marks 1, 2, ... with the greatest probabilities.

    Parameters
    ----------
    marker : of images of a spacing
    flow : the registration that it is a part of
    """

    marker: Marker | Committee
    flow: FlowRegistration

    @staticmethod
    def of(flow: FlowRegistration) -> Marks | None:
        """Of the marker of the fixed image that the network of a registration has; None if it has none."""
        parts = (
            [part for part in flow.network.modules() if isinstance(part, Marked)]
            if isinstance(flow.network, torch.nn.Module)
            else []
        )
        return Marks(parts[0].markers[0], flow) if parts else None  # type: ignore[arg-type]  # a list of modules has lost its type

    def __call__(self, image: Image) -> Labels:
        """The label map, 0 where none is more probable than the background."""
        grid = image.grid.with_spacing(self.flow.spacing)
        seen = resample(image, grid, fill=float(image.values.min()))
        with torch.no_grad():
            found = self.marker(self.flow.network.prepare(image_to_tensor(seen)))[0].numpy()
        fine = np.stack([resample(Image(one, grid), image.grid).values for one in found])
        best = np.where(fine.max(axis=0) > 1 - fine.sum(axis=0), 1 + fine.argmax(axis=0), 0)
        return Labels(best.astype(np.int64), image.grid)
