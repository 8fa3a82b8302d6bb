"""Dense registration by damped Gauss-Newton steps on local correlation, coarse to fine, without folds.

    phi = initial @ (id + u),       det D(id + u) >= guard everywhere, u linear between the nodes of a grid of blocks

After an affine start steps begin at coarse levels; after any other one, which has bent already, two or three fine levels are
left. How far they go depends on how well the images agree at the start (rho, the mean local correlation): where it has explained
all but noise, steps shrink, or they would follow the noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import numpy as np

from augreg.dense.folds import faded, unfolded
from augreg.dense.known import KnownImage, pyramid
from augreg.dense.level import Field, Level, refined
from augreg.dense.settings import SETTINGS, Settings
from augreg.geometry.transforms import Affine, Composition, DisplacementField, Transform
from augreg.registration import Clock, Method, Pair, State
from augreg.registration.clock import as_budget
from augreg.registration.thinning import SEEING, factor_in_time, thinned, work

# voxels of the longest side at the coarsest level, about; of small images at the coarsest of three
_COARSEST, _SMALLEST = 56, 16
# iterations after which folds are looked for
_EVERY = 5
# agreement at the start, as odds, up to which steps keep their length
_ODDS = 2.7
# agreement of images that hardly have any
_HARDLY = 0.2
# and with nothing in common
_NOTHING = 0.05
# how far beyond the fixed image a start is looked through, in finest voxels
_MARGIN = 8
# seconds on a usual core: of any step; per voxel of looking at the images (through a start that bends), of a step, and of a look
# for folds
_ALWAYS, _SEEN, _SEEN_BENT, _STEP, _UNFOLD = 5e-4, 3e-8, 2e-7, 3e-8, 2e-8
# share of the time that is left that looking at them may take
_SHARE = 0.4


@dataclass(frozen=True)
class DenseRegistration(Method):
    """The dense rest after a start: a callable (fixed, moving) -> phi, fixed space to moving space.

    The start is `initial`, near the truth: `Chained(LPRegistration(transform="affine"), DenseRegistration())` is for people who
    differ. It compares brightness, or colours as vectors, within small windows and needs images of one contrast.

    Parameters
    ----------
    guard : least determinant of what is added to the start, between 0 and 1. 0.2 is for those who need inverses: it costs 0.003
        and 0.005 of 0.493 and 0.438 Jaccard between training people (z08, z20), and 0.006 of 0.870 Dice between phases of hearts
    budget : seconds after which the best transform so far is returned; None for no limit

    Raises
    ------
    ValueError : when called, for unusable images (see `augreg.registration.Pair`).
    """

    guard: float = 0.05
    budget: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.guard < 1:
            raise ValueError(f"guard: expected a determinant between 0 and 1, got {self.guard}")
        as_budget(self.budget)

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        """A state after every level, without folds; the first one is the start. `objective` is 1 - the mean local NCC."""
        clock = clock.within(self.budget)
        seen = _in_time(pair, pair.start, clock)
        if seen is None:
            yield State.unmoved(pair, clock)
            return
        agreement = seen.agreement
        # without a budget there is time to look at all voxels once, and what is said counts them
        said = (*(seen.pair if clock.limited else pair).warnings, *_unused(pair))
        if agreement < _HARDLY:
            said = (*said, f"local correlation is {agreement:.2f} at the start: expected images of one contrast that lie alike")
        yield State(0, 0, 1 - agreement, float("nan"), pair.start, clock.seconds, said, stage="start")
        yield from self._steps(seen, pair.start, clock, said)

    def continued(self, pair: Pair, before: State, clock: Clock) -> Iterator[State]:
        """The states that follow on the last one of another registration of the pair, on its clock; none where nothing agrees.

        The other one has said what speaks against the images, and what of the pair is not used.
        """
        seen = _in_time(pair, before.transform, clock)
        if seen is None:
            yield replace(before, seconds=clock.seconds).late_saying(
                f"{clock.told} was spent before the dense stage: it was left out"
            )
            return
        if seen.agreement < _NOTHING:
            return
        for state in self._steps(seen, before.transform, clock, before.warnings):
            yield replace(
                state,
                level=before.level + 1 + state.level,
                gap=before.gap,
                keypoints=before.keypoints,
                solve_seconds=before.solve_seconds,
            )

    def _steps(self, seen: _Seen, start: Transform, clock: Clock, said: tuple[str, ...]) -> Iterator[State]:
        """A state after every level, from a start."""
        levels, agreement = seen.levels, seen.agreement
        rho = min(max(agreement, 0.05), 0.99)
        caution = max(1.0, (rho / (1 - rho) / _ODDS) ** 2)
        field, skipped = levels[0].zeros(), seen.skipped
        told = State(0, 0, 1 - agreement, float("nan"), start, clock.seconds, said, stage="start")
        for number, level in enumerate(levels):
            if number > 0:
                field = refined(field, levels[number - 1].blocks)
            count = seen.settings.iterations_at(len(levels) - 1 - number + skipped)
            stage = f"dense, level {number + 1} of {len(levels) + skipped}"
            damping, size, done = 0.0, float(level.fixed.values.size), 0
            for iteration in range(1, count + 1):
                late = not clock.allows("dense", _ALWAYS + size * (_STEP + _UNFOLD))
                if not late:
                    with clock.timed("dense", _ALWAYS + size * _STEP):
                        system, agreement = level.system(field)
                        damping = damping or caution * level.damping(system)
                        field = level.moved_on(field, system, damping)
                    done = iteration
                ends = late or iteration == count
                if done and (ends or iteration % _EVERY == 0):
                    with clock.timed("unfolding", _ALWAYS + size * _UNFOLD):
                        field = unfolded(field, self.guard)
                        if ends:
                            transform = start @ self._transform(level, field)
                            told = State(number, done, 1 - agreement, float("nan"), transform, clock.seconds, said, stage=stage)
                if late:
                    told = replace(told, seconds=clock.seconds)
                    yield told.late_saying(f"{clock.told} was spent in {stage}: the best so far was returned")
                    return
            yield told
        if skipped:
            text = (
                f"{clock.told} was too short for the finest {'level' if skipped == 1 else f'{skipped} levels'} of the dense stage"
            )
            yield replace(told, seconds=clock.seconds).late_saying(text)

    def _transform(self, level: Level, field: Field) -> DisplacementField:
        """id + u, in mm."""
        field, margin = faded(field, self.guard)
        grid = level.grid.padded(margin)
        index = np.moveaxis(field.astype(np.float64), 0, -1).reshape(*grid.shape, grid.ndim)
        return DisplacementField(index @ grid.index_to_world.T, grid)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A pair as finely as there is time to look at it: its levels, how to go on them, and how many finer ones are left out."""

    pair: Pair
    settings: Settings
    levels: list[Level]
    skipped: int

    @cached_property
    def agreement(self) -> float:
        """Of the images at the start, on the finest level."""
        return self.levels[-1].agreement(self.levels[-1].zeros())


def _in_time(pair: Pair, start: Transform, clock: Clock) -> _Seen | None:
    """The pair as it can be seen in time; None if it cannot."""
    bent = _affine(start) is None
    settings = SETTINGS[pair.fixed.ndim, bent]
    pair = thinned(pair, settings.thinning(min(max(image.grid.shape) for image in (pair.fixed, pair.moving))))
    if not clock.limited:
        return _Seen(pair, settings, _levels(pair, start, settings), 0)
    count = min(_count(pair.fixed.grid.sides.max() / min(pair.fixed.grid.spacing)), settings.most)
    each = _SEEN_BENT if bent else _SEEN
    factor = factor_in_time(pair, clock, 2 ** (count - 1), each, _SHARE)
    if factor is None:
        return None
    with clock.timed(SEEING, work(pair, factor, each)):
        some, skipped = thinned(pair, factor), factor.bit_length() - 1
        try:
            seen = _Seen(some, settings, _levels(some, start, settings, skipped, count - skipped), skipped)
        except ValueError:
            # what is constant to a few voxels need not be to all
            seen = _Seen(pair, settings, _levels(pair, start, settings), 0)
        _ = seen.agreement
    return seen


def _levels(pair: Pair, start: Transform, settings: Settings, skipped: int = 0, most: int = 99) -> list[Level]:
    """Coarse to fine, so many at most, where so many finer ones are left out."""
    scenes, ndim = pair.scenes, pair.fixed.ndim
    fixed = KnownImage.of(scenes.fixed, scenes.fixed_mask)
    moving = KnownImage.of(scenes.moving, scenes.moving_mask)
    least = min(fixed.grid.spacing)
    affine = _affine(start)
    count = min(_count(fixed.grid.sides.max() / least), settings.most, most)
    if affine is None:
        # seen once through the start, the moving image lies on the fixed grid
        margin = [int(np.ceil(_MARGIN * least / size)) for size in fixed.grid.spacing]
        moving = moving.near(least).through(start, fixed.grid.padded(margin))
        affine = Affine.identity(ndim)
    levels: list[Level] = []
    for number, raster in enumerate(reversed(pyramid(fixed, count))):
        moving = moving.near(min(raster.grid.spacing))
        radius = settings.radius_at(number + skipped)
        levels.insert(0, Level(raster, moving, affine, radius, settings.wiener, settings.floor))
    return levels


def _count(voxels: float) -> int:
    """Levels for a longest side of so many of the finest voxels."""
    halvings = [round(float(np.log2(max(voxels / size, 1)))) for size in (_COARSEST, _SMALLEST)]
    return 1 + max(halvings[0], min(halvings[1], 2))


def _affine(transform: Transform) -> Affine | None:
    """The same, if it is made of affine maps alone."""
    parts = transform.transforms if isinstance(transform, Composition) else (transform,)
    found = [part for part in parts if isinstance(part, Affine)]
    return reduce(Affine.after, found) if len(found) == len(parts) else None


def _unused(pair: Pair) -> list[str]:
    """What is known of the pair and does not count here."""
    names = [name for name in pair.known() if name.endswith(("labels", "points")) or name == "rigid_mask"]
    return [f"{', '.join(names)}: not used by DenseRegistration, which compares brightness"] if names else []
