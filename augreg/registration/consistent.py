"""Forward-backward consistency: trust a registration where its two directions agree.

With phi from fixed to moving and psi from moving to fixed,

    e(x) = |psi(phi(x)) - x|      (mm)

is small where both found the same correspondence, and large where one image shows what the other does not. Places where e is
above a tolerance are masked, and the registration runs once more without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Labels
from augreg.geometry.resampling import resample
from augreg.geometry.transforms import Transform
from augreg.registration.clock import Clock
from augreg.registration.method import Method, Registration, State, as_method, last
from augreg.registration.pair import Pair

# points along the longest axis at which the directions are compared
_LATTICE = 64
# share of the image that must remain
_LEAST = 0.1


def inconsistency(forward: Transform, backward: Transform, grid: Grid) -> FloatArray:
    """e(x) = |psi(phi(x)) - x| at the points of a grid, (*shape) mm."""
    points = grid.points()
    return np.linalg.norm(backward(forward(points)) - points, axis=-1)


@dataclass(frozen=True)
class ConsistentRegistration(Method):
    """Any registration, made robust against what only one of the images shows.

    Everything given goes to all runs. Backwards it is exchanged, and the rigid mask, known in the fixed space only, left out.
    Where too little would remain, the result is that of the first run.

    Parameters
    ----------
    registration : takes `fixed_mask` and `moving_mask`, such as `LPRegistration`
    tolerance : largest e(x) that is trusted, mm; default three voxels of the fixed image
    """

    registration: Registration
    tolerance: float | None = None

    def __post_init__(self) -> None:
        as_method("registration", self.registration)

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        """Those of the first run, one that says how it compares with the way back, and those of the last run."""
        method = as_method("registration", self.registration)
        forward = None
        for state in method._states(pair, clock):
            forward = state
            yield state
        assert forward is not None
        if clock.spent:
            yield forward.late_saying(f"{clock.told} was spent before the way back: it was left out")
            return
        exchanged = pair.exchanged()
        backward = last(method._states(exchanged, clock.onward()))
        comparing = clock.onward()
        kept = self._trusted(pair, forward.transform, backward.transform)
        little = kept.mean() < _LEAST
        # what was said of the images themselves has been said
        said = {*forward.warnings, *(exchanged.warnings if exchanged.seen else ())}
        warnings = [*forward.warnings, *(f"moving to fixed: {text}" for text in backward.warnings if text not in said)]
        if little:
            share = f"{kept.mean():.0%} of the fixed image, less what is masked"
            warnings.append(f"both directions agree in only {share}: the result is that of the first run")
        compared = replace(
            forward,
            iteration=forward.iteration + 1,
            seconds=forward.seconds + backward.seconds + comparing.seconds,
            warnings=tuple(warnings),
            solve_seconds=forward.solve_seconds + backward.solve_seconds,
            stage="both directions compared",
            late=clock.spent,
        )
        yield compared
        if kept.all() or little or clock.spent:
            return
        mask = Labels(kept.astype(np.uint8), pair.fixed.grid)
        for state in method._states(pair.with_fixed_mask(mask), clock.onward()):
            yield state.after(compared)

    def _trusted(self, pair: Pair, forward: Transform, backward: Transform) -> npt.NDArray[np.bool_]:
        """Where the two directions agree, of what is not masked anyway, (*shape)."""
        grid = pair.fixed.grid
        lattice = grid.with_shape([max(2, round(_LATTICE * n / max(grid.shape))) for n in grid.shape])
        tolerance = 3 * min(grid.spacing) if self.tolerance is None else self.tolerance
        trusted = Labels((inconsistency(forward, backward, lattice) <= tolerance).astype(np.uint8), lattice)
        kept = resample(trusted, grid).values != 0
        if pair.fixed_mask is not None:
            kept &= resample(pair.fixed_mask, grid).values != 0
        return kept
