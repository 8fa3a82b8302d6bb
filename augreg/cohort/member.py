"""One image of a cohort: read, aligned, measured, written; the task of a worker.

What is wrong with an image is said on its line, and the others go on. What is wrong with the place (a full disk, a killed worker)
ends the work, which goes on with the next call.
"""

from __future__ import annotations

import errno
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from augreg.atlas import digests
from augreg.cohort.lines import Line, read_record, write_record
from augreg.cohort.names import Names
from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.jacobian import unmirrored
from augreg.geometry.resampling import background, warp
from augreg.geometry.transforms import Transform
from augreg.io import FileWarning, atomic, read_image, read_labels, read_transform, write_image, write_transform
from augreg.metrics import dice, folding, mean_overlap, similarity
from augreg.registration import Pair
from augreg.registration.method import Method, last

# (pair, start, transform) -> the bytes of a picture
Picture = Callable[[Pair, Transform, Transform], bytes]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# points per axis at which determinants are looked at
_PROBES = {2: 48, 3: 20}
# warnings are kept by the interpreter in one place for all threads
_READING = Lock()


@dataclass(frozen=True, eq=False)
class Members:
    """All that a worker must know of a cohort.

    Parameters
    ----------
    fixed : the image that all are aligned to
    fixed_labels : its label map, or None
    method : the registration
    folder : where files go
    images : paths
    labels : paths of the images' label maps, or empty
    names : of each image's files
    picture : draws a picture for a page, or None
    """

    fixed: Image
    fixed_labels: Labels | None
    method: Method
    folder: Path
    images: tuple[str, ...]
    labels: tuple[str, ...]
    names: tuple[Names, ...]
    picture: Picture | None = None

    def __call__(self, number: int) -> Line:
        """The line of an image, whose files are there if it has not failed."""
        names, image = self.names[number], self.images[number]
        try:
            return self._finished(number)
        except MemoryError as error:
            return Line(names.name, image, failed=f"not enough memory {error}".strip())
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
            said = " ".join(str(error).split())
            return Line(names.name, image, failed=said if isinstance(error, ValueError) else f"{type(error).__name__}: {said}")

    def _finished(self, number: int) -> Line:
        names, image = self.names[number], self.images[number]
        moving, labels, told = self._read(number)
        wanted = [names.transform, names.warped, *([names.labels] if labels is not None else [])]
        files = [self.folder / name for name in wanted]
        record, picture = self.folder / names.record, self.folder / names.picture
        inputs = self._inputs(moving, labels)
        for folder in {file.parent for file in (*files, record)}:
            folder.mkdir(parents=True, exist_ok=True)
        line = read_record(record, image, inputs, files)
        phi = None
        pair = Pair(fixed=self.fixed, moving=moving, fixed_labels=self.fixed_labels, moving_labels=labels)
        if line is None:
            # a picture of other files
            picture.unlink(missing_ok=True)
            line, phi = self._aligned(names, pair, image, told)
            self._write(pair, phi, files)
            write_record(record, line, inputs, files)
        if self.picture is not None and not picture.exists():
            drawn = self.picture(pair, pair.start, phi or read_transform(files[0]))
            with atomic(picture) as temporary:
                temporary.write_bytes(drawn)
        return line

    def _read(self, number: int) -> tuple[Image, Labels | None, list[str]]:
        """The image, its label map, and what their files leave open."""
        with _READING, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", FileWarning)
            moving = read_image(self.images[number])
            labels = read_labels(self.labels[number]) if self.labels else None
        if labels is not None and not labels.grid.matches(moving.grid):
            raise ValueError(
                f"{self.labels[number]}: expected labels on the grid of {self.images[number]}, got {labels.grid.shape}"
            )
        return moving, labels, [" ".join(str(one.message).split()) for one in caught]

    def _inputs(self, moving: Image, labels: Labels | None) -> dict[str, str]:
        """Digests of all that the files depend on."""
        images = {"fixed": self.fixed, "fixed_labels": self.fixed_labels, "image": moving, "labels": labels}
        found = {name: digests.of_image(image) for name, image in images.items() if image is not None}
        return found | {"registration": digests.of_registration(self.method)}

    def _aligned(self, names: Names, pair: Pair, image: str, told: list[str]) -> tuple[Line, Transform]:
        begin = time.perf_counter()
        # who judges by label maps must not have seen them
        state = last(self.method.steps(pair.fixed, pair.moving))
        phi, grid = state.transform, self.fixed.grid
        line = Line(
            names.name,
            image,
            seconds=time.perf_counter() - begin,
            objective=state.objective,
            similarity_before=similarity(pair.fixed, pair.moving, pair.start),
            similarity=similarity(pair.fixed, pair.moving, phi),
            folding=folding(unmirrored(phi), grid),
            growth=_growth(phi, grid),
            dice_before=_dice(pair, pair.start),
            dice=_dice(pair, phi),
            warnings=tuple(dict.fromkeys((*told, *state.warnings))),
        )
        return line, phi

    def _write(self, pair: Pair, phi: Transform, files: list[Path]) -> None:
        grid = self.fixed.grid
        write_transform(phi, files[0], grid)
        write_image(warp(pair.moving, phi, grid, fill=background(pair.moving)), files[1])
        if pair.moving_labels is not None:
            write_image(warp(pair.moving_labels, phi, grid), files[2])


def _dice(pair: Pair, phi: Transform) -> float:
    """Mean over the labels of both maps, where both are known."""
    fixed, moving = pair.fixed_labels, pair.moving_labels
    if fixed is None or moving is None:
        return math.nan
    known = set(fixed.unique()) & set(moving.unique())
    return mean_overlap(dice(fixed, warp(moving, phi, fixed.grid), known=known))


def _growth(phi: Transform, grid: Grid) -> float:
    """The mean determinant of a transform, without the sign of a mirror."""
    points = grid.lattice([min(n, _PROBES[grid.ndim]) for n in grid.shape])
    found: Any = np.linalg.det(phi.jacobian(points)).mean()
    return abs(float(found))
