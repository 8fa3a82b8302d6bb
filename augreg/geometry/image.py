"""Images and label maps: values on a grid. The type decides the interpolation, linear for `Image`, nearest for `Labels`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg import notebook
from augreg.geometry import cards
from augreg.geometry.grid import Grid, unmasked

# ITU-R BT.601, the weights of PIL and OpenCV
_LUMINANCE = np.array([0.299, 0.587, 0.114])
# of an array with three axes the last one holds channels if it is not longer
_CHANNELS = 4
# labels that a notebook names
_SHOWN = 8


@dataclass(frozen=True, eq=False)
class Image:
    """Intensities on a grid.

    Parameters
    ----------
    values : array (*shape) or, with channels, (*shape, C); bool, integer or floating point, kept as it is; where it is of another
        order than C's, or its bytes are, a copy is
    grid : the grid of the first D axes

    Raises
    ------
    ValueError : if the shapes disagree. TypeError : if the values are not real numbers.
    """

    values: npt.NDArray[np.generic]
    grid: Grid

    def __post_init__(self) -> None:
        values = unmasked("values", self.values)
        if values.dtype.kind not in "biuf":
            raise TypeError(f"values: expected real numbers, got dtype {values.dtype}; convert them first")
        if values.shape[: self.grid.ndim] != self.grid.shape or values.ndim > self.grid.ndim + 1:
            raise ValueError(
                f"values: expected shape {self.grid.shape} or {(*self.grid.shape, 'C')}, the grid's, got {values.shape}"
            )
        object.__setattr__(self, "values", _in_order(values))

    @property
    def ndim(self) -> int:
        """D, the number of spatial axes."""
        return self.grid.ndim

    @property
    def channels(self) -> int:
        """C, the number of channels; 1 if there is no channel axis."""
        return 1 if self.values.ndim == self.ndim else self.values.shape[-1]

    def __repr__(self) -> str:
        return cards.line(self, self.values, self.grid)

    def _repr_html_(self) -> str:
        values = self.values
        # fmin and fmax pass over NaN, and are NaN where nothing else is
        least, largest = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
        told = {**cards.facts(self.grid), "values": f"{values.dtype}, {least:.4g} to {largest:.4g}"}
        if self.channels > 1:
            told["channels"] = str(self.channels)
        return notebook.card("Image", told, cards.pictures(values, self.grid))

    def with_values(self, values: npt.NDArray[np.generic]) -> Image:
        """Other values on the same grid."""
        return Image(values, self.grid)

    def luminance(self) -> Image:
        """Grey float32 values: BT.601 weights for three or four channels (alpha is ignored), the mean for other numbers."""
        values = self.values
        if values.ndim == self.ndim:
            return self
        if values.shape[-1] in (3, 4):
            return self.with_values((values[..., :3] @ _LUMINANCE).astype(np.float32))
        return self.with_values(values.mean(axis=-1, dtype=np.float32))


@dataclass(frozen=True, eq=False)
class Labels:
    """A label map: integers (*shape) on a grid, 0 is background; copied in C order and native bytes where it is of another order.

    Raises
    ------
    ValueError : if the shapes disagree. TypeError : if the values are not integers.
    """

    values: npt.NDArray[np.integer]
    grid: Grid

    def __post_init__(self) -> None:
        values = unmasked("values", self.values)
        if values.dtype == bool:
            values = values.astype(np.uint8)
        if values.dtype.kind not in "iu":
            raise TypeError(
                f"values: expected integer labels, got dtype {values.dtype}; round them or read them with read_labels"
            )
        if values.shape != self.grid.shape:
            raise ValueError(f"values: expected shape {self.grid.shape}, the grid's, got {values.shape}")
        object.__setattr__(self, "values", _in_order(values))

    @property
    def ndim(self) -> int:
        """D, the number of spatial axes."""
        return self.grid.ndim

    def __repr__(self) -> str:
        return cards.line(self, self.values, self.grid)

    def _repr_html_(self) -> str:
        labels = self.unique()
        told = ", ".join(map(str, labels[:_SHOWN])) + (f", ... {labels[-1]}" if len(labels) > _SHOWN else "")
        shown = {**cards.facts(self.grid), "labels": f"{len(labels)}: {told}" if labels else "none"}
        return notebook.card("Labels", shown, cards.pictures(self.values, self.grid, notebook.coloured))

    def with_values(self, values: npt.NDArray[np.integer]) -> Labels:
        """Other labels on the same grid."""
        return Labels(values, self.grid)

    def unique(self) -> tuple[int, ...]:
        """The labels that occur, without the background 0, ascending."""
        present = np.unique(self.values)
        return tuple(int(v) for v in present if v != 0)


def kind_of(value: object) -> str:
    """The type of a value for messages; of other packages with its module: their images are called Image, too."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def as_image(name: str, image: Image | npt.NDArray[Any]) -> Image:
    """An image as it is; an array becomes one on a grid of spacing 1, origin 0: points are array indices.

    Two axes are a 2-D image, three a volume, unless the last one has at most four elements: then these are channels of a 2-D
    image, as in a photograph (H, W, 3). Of four axes the last one holds channels. One channel is none. Who has a volume of four
    slices or fewer says so with a `Grid`.

    Raises
    ------
    TypeError : for anything else. ValueError : for arrays of other numbers of axes.
    """
    if isinstance(image, Image):
        return image
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"{name}: expected an Image or an array, got {kind_of(image)}; read files with read_image, or give an array"
        )
    ndim = 3 if image.ndim == 4 else 2 if image.ndim == 3 and image.shape[-1] <= _CHANNELS else image.ndim
    if ndim not in (2, 3):
        raise ValueError(f"{name}: expected an array of 2 or 3 axes, and maybe one of channels, got shape {image.shape}")
    values = image[..., 0] if image.ndim > ndim and image.shape[-1] == 1 else image
    return Image(values, Grid(values.shape[:ndim]))


def as_labels(name: str, labels: Labels | npt.NDArray[Any], grid: Grid) -> Labels:
    """Labels as they are; an array of integers or booleans lies on `grid`, that of its image.

    Raises
    ------
    TypeError : for anything else. ValueError : for an array of another shape than the grid's.
    """
    if isinstance(labels, Labels):
        return labels
    if not isinstance(labels, np.ndarray):
        raise TypeError(f"{name}: expected Labels or an array, got {kind_of(labels)}; read files with read_labels")
    if labels.dtype.kind not in "biu":
        raise TypeError(f"{name}: expected integers or booleans, got dtype {labels.dtype}; round them first")
    if labels.shape != grid.shape:
        raise ValueError(f"{name}: expected an array of shape {grid.shape}, that of its image, got {labels.shape}")
    return Labels(labels, grid)


def _in_order(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same numbers in C order and native bytes: sums run over them in one order, so results have the same bytes.

    A copy of what may not be written to: kernels would be compiled once more for it.
    """
    return np.require(values, dtype=values.dtype.newbyteorder("="), requirements=["C", "A", "W"])
