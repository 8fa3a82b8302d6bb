"""The template of some images: their mean shape with their mean appearance.

Every round registers the template T to all images I_i and moves it into the middle of them (`augreg.atlas.middle`):

    phi_i = registration(T, I_i),    phi_i <- phi_i @ m^-1,    T <- S mean_i level(I_i o phi_i)

where `level` brings intensities to one mean and spread. No image is preferred: the first template is the image most like all
others, and what it had of its own leaves with m. Images are warped once, however many rounds there were.

What registrations leave makes a mean blurred, and blurred edges are found less well in the next round and by everyone who
registers to the template later. S gives back some of them: T + s (T - G T), within the range of T, G a Gaussian of one voxel
(unsharp masking; Avants et al., NeuroImage 2010, sharpen their templates too).

It serves many people and the visits of one person alike: for the latter a rigid registration leaves in every visit what has
changed, and no visit is the reference.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from augreg.atlas.atlas import Atlas
from augreg.atlas.common import common_grid
from augreg.atlas.fusion import Fused, Fusion, Majority, fuse
from augreg.atlas.middle import from_middle
from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels, as_image
from augreg.geometry.resampling import Interpolation, warp
from augreg.geometry.transforms import Transform
from augreg.registration import Pair, Registration
from augreg.registration.method import as_method, last
from augreg.tasks import Place, place

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Template:
    """A template after some rounds.

    Parameters
    ----------
    image : the mean image, sharpened, grey float32
    transforms : phi_i from the template to every image
    round : number of rounds so far
    shift : how far the middle lay from the space before, root of the mean square over the grid, mm: small once it has settled
    doubts : what the registrations of the last round have warned of, each with the number of its image
    """

    image: Image
    transforms: tuple[Transform, ...]
    round: int
    shift: float
    doubts: tuple[str, ...] = ()

    def fused(self, maps: Sequence[Labels], fusion: Fusion | None = None, images: Sequence[Image] = ()) -> Fused:
        """One label map on the template's grid, of those of the images.

        Parameters
        ----------
        maps : label maps of the images, in their order
        fusion : how they become one; default `Majority()`
        images : the images, on the grids of their maps, for a fusion that compares them with the template

        Raises
        ------
        ValueError : for other numbers of maps or images than there are transforms.
        """
        looks = images or [Image(np.zeros(one.grid.shape, dtype=np.float32), one.grid) for one in maps]
        for name, given in (("maps", maps), ("images", looks)):
            if len(given) != len(self.transforms):
                raise ValueError(f"{name}: expected one per image, {len(self.transforms)}, got {len(given)}")
        carried = zip(looks, maps, self.transforms, strict=True)
        atlases = [Atlas(look, one).through(phi, self.image.grid) for look, one, phi in carried]
        return fuse(self.image, atlases, fusion or Majority())


def template(
    images: Sequence[Image | Array],
    registration: Registration,
    rounds: int = 3,
    *,
    start: Image | None = None,
    sharpening: float = 1.0,
    at: Place | None = None,
) -> Template:
    """The template after so many rounds.

    Parameters
    ----------
    images : two images or more of one dimension, on any grids; colours count as grey
    registration : a callable (fixed, moving) -> Transform, template to image; other processes must be able to pickle it
    rounds : number of times that all images are registered
    start : first template; default the image most like the mean of all. It counts for where the first round begins, and no more
    sharpening : s, see the module; 0 for the mean as it is
    at : where images are registered, as `augreg.tasks.place` gives it; default in this process

    Raises
    ------
    ValueError : for fewer than two images, images of several dimensions, no round, or a sharpening below 0. TypeError : for what
    is no registration.
    """
    return deque(template_rounds(images, registration, rounds, start=start, sharpening=sharpening, at=at), maxlen=1).pop()


def template_rounds(
    images: Sequence[Image | Array],
    registration: Registration,
    rounds: int = 3,
    *,
    start: Image | None = None,
    sharpening: float = 1.0,
    at: Place | None = None,
) -> Iterator[Template]:
    """The template after each round; see `template`."""
    method, grey = as_method("registration", registration), _checked(images, rounds, start)
    if not 0 <= sharpening < math.inf:
        raise ValueError(f"sharpening: expected a number of at least 0, got {sharpening}")
    if at is None:
        with place() as here:
            yield from template_rounds(grey, method, rounds, start=start, sharpening=sharpening, at=here)
        return
    grid = common_grid([image.grid for image in grey])
    current = most_typical(grey, grid) if start is None else start.luminance()
    for number in range(1, rounds + 1):
        found: list[Transform | None] = [None] * len(grey)
        doubts: dict[int, tuple[str, ...]] = {}
        for i, (phi, said) in at(partial(_registered, method, current, grey), range(len(grey))):
            found[i], doubts[i] = phi, said
        phis = [phi for phi in found if phi is not None]
        back = from_middle(phis, current.grid)
        moved = tuple(phi @ back for phi in phis)
        current = sharpened(mean_image(grey, moved, grid), sharpening)
        x = grid.lattice([min(n, 16) for n in grid.shape])
        shift = float(np.sqrt(np.mean(np.sum((back(x) - x) ** 2, axis=1))))
        told = tuple(f"image {i + 1}: {text}" for i in sorted(doubts) for text in doubts[i])
        yield Template(current, moved, number, shift, told)


def mean_image(images: Sequence[Image], transforms: Sequence[Transform], grid: Grid) -> Image:
    """The mean of images seen through transforms of a grid, brought to one mean and spread; 0 where none shows anything."""
    seen = np.stack([_seen(image, phi, grid) for image, phi in zip(images, transforms, strict=True)])
    return Image(_mean(levelled(seen)), grid)


def sharpened(image: Image, amount: float) -> Image:
    """T + s (T - G T) within the range of T: S of the module."""
    smooth = scipy.ndimage.gaussian_filter(image.values, 1.0)
    values = image.values + np.float32(amount) * (image.values - smooth)
    return image.with_values(np.clip(values, image.values.min(), image.values.max()))


def levelled(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Images (n, *shape), NaN where they show nothing, with their common mean and standard deviation where all show something.

    Common are the means of both over the images; a constant image, and images that nowhere overlap, are left as they are.
    """
    shown = np.isfinite(values).all(axis=0)
    if not shown.any():
        return values
    parts = values[:, shown].astype(np.float64)
    means, spreads = parts.mean(axis=1), parts.std(axis=1)
    mean, spread = means.mean(), spreads.mean()
    out = values.copy()
    for one, m, s in zip(out, means, spreads, strict=True):
        if s > 0:
            one[...] = (one - m) * (spread / s) + mean
    return out


def most_typical(images: Sequence[Image], grid: Grid) -> Image:
    """The image that is least far from the mean of all, seen on one grid, on which it is returned.

    Where an image does not overlap with the grid their centres are put on each other.
    """
    place = Image(np.zeros(grid.shape, dtype=np.float32), grid)
    starts = [Pair(fixed=place, moving=image).start for image in images]
    seen = levelled(np.stack([_seen(image, phi, grid) for image, phi in zip(images, starts, strict=True)]))
    mean = _mean(seen)
    away = [np.square(np.nan_to_num(one) - mean).mean() for one in seen]
    chosen = int(np.argmin(away))
    return images[chosen] if images[chosen].grid.matches(grid) else Image(np.nan_to_num(seen[chosen]), grid)


def _registered(method: Any, current: Image, images: Sequence[Image], number: int) -> tuple[Transform, tuple[str, ...]]:
    """The template to one image, and what there is to doubt."""
    state = last(method.steps(current, images[number]))
    return state.transform, state.warnings


def _seen(image: Image, phi: Transform, grid: Grid) -> npt.NDArray[np.float32]:
    """The image through a transform, cubic, within its own range; NaN outside, and where it has some itself."""
    values = np.asarray(image.values, dtype=np.float32)
    # a spline would carry one NaN along whole lines
    way: Interpolation = "cubic" if np.isfinite(values).all() else "linear"
    seen = warp(Image(values, image.grid), phi, grid, interpolation=way, fill=np.nan).values
    return np.clip(seen, np.nanmin(values), np.nanmax(values))


def _mean(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    shown = np.isfinite(values)
    total = np.where(shown, values, 0).sum(axis=0, dtype=np.float64)
    return (total / np.maximum(shown.sum(axis=0), 1)).astype(np.float32)


def _checked(images: Sequence[Image | Array], rounds: int, start: Image | None) -> list[Image]:
    if rounds < 1:
        raise ValueError(f"rounds: expected at least 1, got {rounds}")
    grey = [as_image(f"images[{i}]", image).luminance() for i, image in enumerate(images)]
    if len(grey) < 2:
        raise ValueError(f"images: expected two or more, got {len(grey)}")
    dimensions = {image.ndim for image in (*grey, *([] if start is None else [start]))}
    if len(dimensions) > 1:
        raise ValueError(f"images: expected images of one dimension, got {' and '.join(f'{d}-D' for d in sorted(dimensions))}")
    return grey
