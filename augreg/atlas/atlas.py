"""A labelled image, and several of them on one grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import read_at, sample
from augreg.geometry.transforms import Transform

# of a table of labels
_LONGEST = 1 << 16


@dataclass(frozen=True, eq=False)
class Atlas:
    """An image and its label map.

    Parameters
    ----------
    image : image
    labels : its label map, on its grid
    seen : where the atlas shows something, on its grid, not 0; None for everywhere

    Raises
    ------
    ValueError : for maps on another grid.
    """

    image: Image
    labels: Labels
    seen: Labels | None = None

    def __post_init__(self) -> None:
        for name in ("labels", "seen"):
            part = getattr(self, name)
            if part is not None and not part.grid.matches(self.image.grid):
                raise ValueError(f"{name}: expected a map on the grid of its image, got one on {part.grid}; resample it")

    def through(self, phi: Transform, grid: Grid) -> Atlas:
        """The atlas on another grid, from whose space phi leads into its own; what lies outside is not seen."""
        return self.at(phi(grid.points()), grid)

    def at(self, points: FloatArray, grid: Grid) -> Atlas:
        """The same where points (*grid.shape, D) of its space are those that the other grid's nodes go to."""
        image, labels, inside = read_at(self.image, self.labels, points)
        seen = inside if self.seen is None else inside & (sample(self.seen, points, fill=0) != 0)
        return Atlas(Image(image, grid), Labels(labels, grid), Labels(seen.astype(np.uint8), grid))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Atlases on the grid of a target.

    Parameters
    ----------
    target : intensities of the target, (n0, n1, n2) float32, n0 = 1 in 2-D
    images : those of the atlases, matched to the target's, (n, n0, n1, n2) float32
    labels : ranks of their labels in `ids`, (n, n0, n1, n2); -1 where an atlas shows nothing
    ids : the numbers of the labels, ascending
    disputed : flat indices of the voxels at which they disagree, ascending
    """

    target: npt.NDArray[np.float32]
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    ids: npt.NDArray[np.integer]
    disputed: npt.NDArray[np.int64]

    @staticmethod
    def of(target: Image, atlases: Sequence[Atlas]) -> Candidates:
        """Those atlases, brightness and contrast brought to the target's by least squares over what they show.

        Raises
        ------
        ValueError : for no atlas, one on another grid, and images with NaN or infinite voxels, which no weight survives.
        """
        if not atlases:
            raise ValueError("atlases: expected at least one, got none")
        for i, atlas in enumerate(atlases):
            if not atlas.image.grid.matches(target.grid):
                raise ValueError(f"atlases[{i}]: expected the grid of the target, got {atlas.image.grid}; see Atlas.through")
        for name, image in (("target", target), *((f"atlases[{i}]", atlas.image) for i, atlas in enumerate(atlases))):
            if bad := int(np.count_nonzero(~np.isfinite(image.values))):
                raise ValueError(f"{name}: expected finite intensities, got {bad} NaN or infinite voxels; fill them first")
        shape = (1, *target.grid.shape)[-3:]
        wanted = target.luminance().values.astype(np.float32).reshape(shape)
        ids, ranked = _ranked([atlas.labels.values for atlas in atlases])
        images = np.empty((len(atlases), *shape), dtype=np.float32)
        labels = np.empty((len(atlases), *shape), dtype=np.int32)
        for image, ranks, atlas in zip(images, labels, atlases, strict=True):
            seen = np.ones(shape, dtype=bool) if atlas.seen is None else (atlas.seen.values != 0).reshape(shape)
            ranks[...] = ranked(atlas.labels.values).reshape(shape)
            ranks[~seen] = -1
            image[...] = _matched(atlas.image.luminance().values.astype(np.float32).reshape(shape), wanted, seen)
        most = labels.max(axis=0)
        # -1 is the greatest number without a sign
        least = labels.view(np.uint32).min(axis=0)
        return Candidates(wanted, images, labels, ids, np.flatnonzero((most >= 0) & (least != most.view(np.uint32))))

    def agreed(self) -> npt.NDArray[np.int32]:
        """The rank that all name, (n0, n1, n2); that of 0, or the least, where none shows anything. Undefined where disputed."""
        nothing = int(np.searchsorted(self.ids, 0)) if 0 in self.ids else 0
        most = self.labels.max(axis=0)
        return np.where(most < 0, np.int32(nothing), most)

    def votes(self) -> npt.NDArray[np.int32]:
        """Ranks named at the disputed voxels, (V, n); -1 for nothing."""
        return np.ascontiguousarray(self.labels.reshape(len(self.labels), -1)[:, self.disputed].T)


def _ranked(
    maps: Sequence[npt.NDArray[np.integer]],
) -> tuple[npt.NDArray[np.integer], Callable[[npt.NDArray[np.integer]], npt.NDArray[np.int32]]]:
    """The numbers that stand in label maps, ascending, and the function label map -> their places among these."""
    least, most = min(int(values.min()) for values in maps), max(int(values.max()) for values in maps)
    kind = np.result_type(*(values.dtype for values in maps))
    if most - least > _LONGEST:
        ids = np.unique(np.concatenate([np.unique(values) for values in maps]))
        return ids, lambda values: np.searchsorted(ids, values).astype(np.int32)
    # a table is read faster than a list is searched
    there = np.zeros(most - least + 1, dtype=bool)
    for values in maps:
        there[values.ravel().astype(np.int64) - least] = True
    table = (np.cumsum(there) - 1).astype(np.int32)
    found = (np.flatnonzero(there) + least).astype(kind)
    return found, lambda values: table[values.astype(np.int64) - least]


def _matched(
    image: npt.NDArray[np.float32], target: npt.NDArray[np.float32], seen: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """a image + b with sum (a image + b - target)^2 least over what is seen."""
    x, y = image[seen].astype(np.float64), target[seen].astype(np.float64)
    spread = x.var() if x.size else 0.0
    if spread == 0:
        return image
    a = ((x - x.mean()) * (y - y.mean())).mean() / spread
    return (a * image + (y.mean() - a * x.mean())).astype(np.float32)
