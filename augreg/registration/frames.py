"""What an image shows that is not the scene: padding, frames that both images share, a few extreme voxels.

A registration compares scenes. Padding (-2000 around a CT's circle), the rim of an ultrasound fan, dead columns or burnt-in text
stand still in the image while the scene moves, and their edges are stronger than those of the scene. Two rules find them; both
look at values that occur exactly, since interpolated and noisy scenes have none that fill areas.

padding     one value v at the end of the range, far from all others: below -1024 (no tissue of a CT), or so far below 0, or so
            far above everything, that the gap is half, or ten times, the range of the rest
frame       values v of one and w of the other image whose borders, where they are steps of a tenth of the range, lie at the same
            places of the arrays, in at least a quarter of the lines' crossings and far more often than by chance, although the
            scene between has moved

Extreme voxels (hot pixels, metal, markers) are no regions: values beyond three ranges of the middle 96 % are brought back to
there, so that they decide no scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray

# float32, or integers of up to 16 bits
Values = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

# voxels that suffice to know a distribution
_ENOUGH = 20000
# share of the voxels that a constant region has, at least
_FILLS = 1e-3
# constants that are looked at, the most frequent first
_CONSTANTS = 6
# gaps between padding and the rest, in ranges of the rest: below 0, above
_BELOW, _ABOVE = 0.5, 10.0
# no tissue of a computed tomogram is darker
_AIR = -1024.0
# share of values on each side that may be extreme, and how many ranges of the others are allowed
_TAIL, _RANGES = 2.0, 3.0
# steps that count as borders, in ranges of the middle 96 %
_STEP = 0.1
# lines along each axis on which borders are compared, and how many of these must agree
_LINES = 64
_SHARED, _CROSSINGS, _BY_CHANCE = 0.25, 12, 4.0
# correlation of differences along lines above which the scene stands still, as the frame does
_STILL = 0.8


@dataclass(frozen=True, eq=False)
class Frame:
    """What both images show at the same place of their arrays.

    Parameters
    ----------
    fixed, moving : masks of the frame in both images, (*shape) bool
    values : the constants, of fixed and moving, one pair for every part
    """

    fixed: Mask
    moving: Mask
    values: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class Sample:
    """Some values of an image, ascending: sorted once, all that is asked of its distribution costs little.

    Parameters
    ----------
    values : (n,), n > 0, real numbers
    """

    values: npt.NDArray[Any]

    @staticmethod
    def of(values: Values, allowed: Mask | None) -> Sample:
        """Of the values that may be looked at."""
        return Sample(np.sort(_some(values, allowed)))

    @cached_property
    def runs(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """The different values, ascending, and how often each occurs."""
        starts = np.flatnonzero(np.append(True, self.values[1:] != self.values[:-1]))
        return self.values[starts], np.diff(np.append(starts, len(self.values)))

    @property
    def most_frequent(self) -> tuple[float, int]:
        """A value, and how often it occurs."""
        found, counts = self.runs
        return float(found[np.argmax(counts)]), int(counts.max())

    def without(self, value: float) -> Sample:
        """The others."""
        return Sample(self.values[self.values != value])

    def middle(self, tail: float) -> tuple[float, float]:
        """Values with `tail` percent of the others below, and above."""
        last = len(self.values) - 1
        low, high = tail / 100 * last, (1 - tail / 100) * last
        return _between(self.values, low), _between(self.values, high)


def _between(ascending: npt.NDArray[Any], place: float) -> float:
    """The value at a place, linear between neighbours."""
    k = int(place)
    value, following = (float(ascending[min(i, len(ascending) - 1)]) for i in (k, k + 1))
    return value + (place - k) * (following - value)


def without_extremes(values: Values, allowed: Mask | None, sample: Sample | None = None) -> Values:
    """Values (*shape) or (*shape, C) with what is far beyond the others brought back to three times their range.

    `sample` is theirs, if it is known.
    """
    some = sample or Sample.of(values, allowed)
    common, count = some.most_frequent
    if count > len(some.values) // 2:
        # a background of one value says nothing about the range of what stands before it
        some = some.without(common)
    if len(some.values) < 8:
        return values
    low, high = some.middle(_TAIL)
    reach = _RANGES * (high - low)
    if not reach > 0 or (values.min() >= low - reach and values.max() <= high + reach):
        return values
    return np.clip(values.astype(np.float32), np.float32(low - reach), np.float32(high + reach))


def middle(values: npt.NDArray[np.generic]) -> tuple[float, float]:
    """Ends of the middle 96 % of the finite values of an image, without the one that fills most of it; (0, 1) without any."""
    found = _some(values, None).astype(np.float64)
    found = found[np.isfinite(found)]
    if not found.size:
        return 0.0, 1.0
    some = Sample(np.sort(found))
    common, count = some.most_frequent
    rest = some.without(common)
    if count > max(2, _FILLS * found.size) and len(rest.values) and rest.values[0] < rest.values[-1]:
        some = rest
    return some.middle(_TAIL)


def padding(values: Values, allowed: Mask | None, sample: Sample | None = None) -> tuple[Mask, float] | None:
    """Where grey values (*shape) are padding, and its value; None where there is none. `sample` is theirs, if it is known."""
    some = (sample or Sample.of(values, allowed)).values
    low_end, high_start = int(np.searchsorted(some, some[0], "right")), int(np.searchsorted(some, some[-1], "left"))
    for value, rest, gap, ranges in (
        (some[0], some[low_end:], lambda rest: rest[0] - some[0], _BELOW),
        (some[-1], some[:high_start], lambda rest: some[-1] - rest[-1], _ABOVE),
    ):
        if len(some) - len(rest) < max(2, _FILLS * len(some)) or len(rest) < _FILLS * len(some):
            continue
        low, high = Sample(rest).middle(0.5)
        if not high > low:
            continue
        below = value == some[0]
        if below and value >= 0:
            # a background of 0 is what masked scenes have: its border is theirs
            continue
        if (below and value < _AIR and value == np.rint(value)) or gap(rest) > ranges * (high - low):
            return values == value, float(value)
    return None


def shared_frame(
    fixed: Values,
    moving: Values,
    allowed: tuple[Mask | None, Mask | None],
    known: tuple[Sample | None, Sample | None] = (None, None),
) -> Frame | None:
    """What two grey images (*shape), not always of one size, share at the same places of their arrays; None if nothing.

    `known` are their samples, where they are.
    """
    pairs = []
    seen = [some or Sample.of(part, where) for part, where, some in zip((fixed, moving), allowed, known, strict=True)]
    constants = [_constants(some) for some in seen]
    if not all(constants):
        return None
    lines = [_Lines.of(fixed.shape, axis) for axis in range(fixed.ndim)]
    samples = [(line.of_fixed(fixed), line.of_moving(moving)) for line in lines]
    steps = [_STEP * (high - low) for low, high in (some.middle(_TAIL) for some in seen)]
    borders = [(w, [_border(m, w, steps[1]) for _, m in samples]) for w in constants[1]]
    for v in constants[0]:
        own = [_border(f, v, steps[0]) for f, _ in samples]
        pairs += [(v, w) for w, other in borders if _agree(own, other)]
    if not pairs:
        return None
    where = _both(fixed, moving, pairs)
    if where is None or _still(samples, pairs):
        return None
    on_moving = where if moving.shape == fixed.shape else _at_same_place(where, moving.shape)
    return Frame(_wider(where), _wider(on_moving), tuple(pairs))


@dataclass(frozen=True, eq=False)
class _Lines:
    """Some whole lines along an axis, spread over an image: places along the other axes, as shares of the size."""

    axis: int
    count: int
    shares: tuple[FloatArray, ...]

    @staticmethod
    def of(shape: tuple[int, ...], axis: int) -> _Lines:
        """About `_LINES` of them."""
        others = [n for a, n in enumerate(shape) if a != axis]
        each = _LINES ** (1 / len(others))
        shares = tuple((np.arange(k := min(n, max(1, round(each)))) + 0.5) / k for n in others)
        return _Lines(axis, shape[axis], shares)

    def of_fixed(self, values: Values) -> Values:
        """The lines (L, n) of the image they were made for."""
        return self._taken(values)

    def of_moving(self, values: Values) -> Values:
        """The lines at the same places of another image, with as many samples: its nearest voxels."""
        lines = self._taken(values)
        n = lines.shape[1]
        return lines if n == self.count else lines[:, _nearest(self.count, n)]

    def _taken(self, values: Values) -> Values:
        moved = np.moveaxis(values, self.axis, -1)
        places = [np.minimum((share * n).astype(int), n - 1) for share, n in zip(self.shares, moved.shape[:-1], strict=True)]
        return _real(moved[np.ix_(*places)].reshape(-1, moved.shape[-1]))


def _border(lines: Values, value: float, step: float) -> Mask:
    """Where lines (L, n) cross the border of the region of a value by more than a step, (L, n - 1)."""
    region = lines == value
    return (region[:, 1:] != region[:, :-1]) & (np.abs(np.diff(lines, axis=1)) > step)


def _agree(first: list[Mask], second: list[Mask]) -> bool:
    """Whether two borders, on lines along every axis, lie at the same places."""
    together = sum(int(np.count_nonzero(a & b)) for a, b in zip(first, second, strict=True))
    a, b = (sum(int(np.count_nonzero(part)) for part in border) for border in (first, second))
    places = sum(part.size for part in first)
    return together >= max(_CROSSINGS, _SHARED * min(a, b), _BY_CHANCE * a * b / max(places, 1))


def _still(samples: list[tuple[Values, Values]], pairs: list[tuple[float, float]]) -> bool:
    """Whether the scene stands still too: then there is nothing to part."""
    differences: list[list[Values]] = [[], []]
    for f, m in samples:
        outside = np.logical_or.reduce([(f == v) & (m == w) for v, w in pairs])
        scene = ~(outside[:, 1:] | outside[:, :-1])
        differences[0].append(np.diff(f, axis=1)[scene])
        differences[1].append(np.diff(m, axis=1)[scene])
    a, b = (np.concatenate(parts).astype(np.float64) for parts in differences)
    norm = np.sqrt((a @ a) * (b @ b))
    return bool(norm == 0 or a @ b > _STILL * norm)


def _both(fixed: Values, moving: Values, pairs: list[tuple[float, float]]) -> Mask | None:
    """Where fixed has v and moving w at the same place, (*fixed.shape); None if nothing else would remain."""
    if moving.shape != fixed.shape:
        moving = moving[np.ix_(*[_nearest(n, m) for n, m in zip(fixed.shape, moving.shape, strict=True)])]
    where = np.logical_or.reduce([(fixed == v) & (moving == w) for v, w in pairs])
    rest = fixed[~where]
    return where if rest.size and rest.min() < rest.max() else None


def _at_same_place(where: Mask, shape: tuple[int, ...]) -> Mask:
    return where[np.ix_(*[_nearest(n, m) for n, m in zip(shape, where.shape, strict=True)])]


def _nearest(count: int, size: int) -> npt.NDArray[np.int64]:
    """Of `size` voxels those that lie where `count` voxels of the same extent lie."""
    return np.minimum(((np.arange(count) + 0.5) * size / count).astype(np.int64), size - 1)


def _wider(where: Mask) -> Mask:
    """One voxel more: what lies between a frame and the scene is a mixture of both."""
    grown = where.copy()
    for axis in range(where.ndim):
        if where.shape[axis] > 8:
            low, high = [slice(None)] * where.ndim, [slice(None)] * where.ndim
            low[axis], high[axis] = slice(None, -1), slice(1, None)
            grown[tuple(low)] |= where[tuple(high)]
            grown[tuple(high)] |= where[tuple(low)]
    return grown


def _constants(some: Sample) -> list[float]:
    """The values that may fill regions: frequent ones."""
    found, counts = some.runs
    order = np.argsort(-counts, kind="stable")[:_CONSTANTS]
    return [float(found[k]) for k in order if counts[k] >= max(2, _FILLS * counts.sum())]


def _some(values: npt.NDArray[Any], allowed: Mask | None) -> npt.NDArray[Any]:
    """Some of the values that may be looked at, flat and evenly spread; small integers as float32."""
    flat = values.reshape(-1)
    # an odd step does not walk along columns of images with even sides
    step = max(1, flat.size // _ENOUGH) | 1
    some = flat[::step]
    if allowed is not None:
        repeats = values.size // allowed.size
        some = some[np.repeat(allowed.reshape(-1), repeats)[::step] if repeats > 1 else allowed.reshape(-1)[::step]]
    return _real(some if some.size else flat[:1])


def _real(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Float32 in place of integers of up to 16 bits, whose differences would overflow."""
    return values.astype(np.float32) if values.dtype.kind in "iu" and values.dtype.itemsize <= 2 else values
