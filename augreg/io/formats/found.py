"""What a reader found in the file of a slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Source(Protocol):
    """Where the pixels come from."""

    def rows(self, number: int, y: slice, x: slice, channels: Sequence[int]) -> npt.NDArray[Any]:
        """Values (rows, columns, channels) of a part of a level, 0 the finest."""


@dataclass(frozen=True, eq=False)
class Found:
    """A slide as its file has it.

    Parameters
    ----------
    source : reads parts
    shapes : width and height of the levels, fine to coarse
    channels : their number
    dtype : of the values
    size : sides of a pixel of the finest level, mm; None where none is noted
    names : of the channels, where there are some
    colour : whether they are red, green and blue
    lossy : whether the file holds its values as JPEG or the like do
    """

    source: Source
    shapes: Sequence[tuple[int, int]]
    channels: int
    dtype: np.dtype
    size: tuple[float, float] | None
    names: Sequence[str] = ()
    colour: bool = False
    lossy: bool = False
