"""Fields of real motions: keypoints that were found in two images of a patient, lifted to a dense field.

    u = a ((1 - s) lift(motion i) + s lift(motion j)),      i, j two motions, s ~ U(0, 1/2), a ~ U(amplitude)

`lift` is the thin-plate spline on a control grid of `augreg.geometry.splines`, with the least smoothing that keeps it from
folding, found once for each motion and control grid, there and back: half of all fields go back, from the partners to the points,
since minus a field that does not fold may fold. This is augreg's own: where Sokooti et al. 2019 (arXiv 1908.10235) invent
breathing, here it is real breathing, such as the keypoints of VoxelMorph++ (Heinrich and Hansen, WBIR 2022) in the COPDgene data
of Castillo et al. (Phys. Med. Biol. 2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import scipy.spatial

from augreg.geometry.grid import FloatArray, Grid, reals
from augreg.geometry.splines import least_smoothing, lift
from augreg.sam.one_thread import one_thread

Motion = tuple[FloatArray, FloatArray]

# lambda in units of the squared median distance of neighbouring points
_SMOOTHINGS = (1e-3, *(10.0 ** (k / 2) for k in range(-4, 9)))
_LEAST_DETERMINANT = 0.15


@dataclass(frozen=True, eq=False)
class CorrespondenceField:
    """Real motions.

    Parameters
    ----------
    motions : for every motion points (m, D) mm in the images' space, and where they have moved to, alike; see `placed`
    amplitude : least and largest factor
    points : of every motion so many points at most, chosen by chance: a lift takes time that grows with their cube

    Raises
    ------
    ValueError : for no motions, points of other shapes, or too few.
    """

    motions: tuple[Motion, ...] = field(repr=False)
    amplitude: tuple[float, float] = (0.5, 1.0)
    points: int = 400

    def __post_init__(self) -> None:
        if not self.motions:
            raise ValueError("motions: expected one or more, got none")
        checked = []
        for number, (points, partners) in enumerate(self.motions):
            p, q = reals(f"motions[{number}]", points), reals(f"motions[{number}]", partners)
            if p.ndim != 2 or p.shape != q.shape or len(p) <= p.shape[1] + 1:
                raise ValueError(f"motions[{number}]: expected as many points twice, D + 2 or more, got {p.shape} and {q.shape}")
            checked.append((p, q))
        object.__setattr__(self, "motions", tuple(checked))

    @staticmethod
    def placed(
        motions: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]],
        template: Grid,
        share: float = 0.8,
        amplitude: tuple[float, float] = (0.5, 1.0),
        points: int = 400,
    ) -> CorrespondenceField:
        """Motions of other patients: each box of points is scaled and moved to the middle of a grid's, displacements with it.

        Parameters
        ----------
        motions : see the class, each in a space of its own whose axes are the world's
        template : grid of the images
        share : of the sides of the grid's box
        amplitude, points : see the class
        """
        middle, sides = template.center, np.abs(template.axes) @ np.asarray(template.extent)
        placed = []
        for one, other in motions:
            p, q = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
            begin, end = p.min(axis=0), p.max(axis=0)
            scale = share * sides / np.maximum(end - begin, 1e-9)
            placed.append((middle + scale * (p - (begin + end) / 2), middle + scale * (q - (begin + end) / 2)))
        return CorrespondenceField(tuple(placed), amplitude, points)

    def draw(self, rng: np.random.Generator, control: Grid, template: Grid) -> FloatArray:
        """Coefficients (*control.shape, D) mm."""
        kept = _LIFTED.setdefault(self, {})
        if (control, template) not in kept:
            with one_thread():
                ways = [self.motions, [(partners, points) for points, partners in self.motions]]
                lifts = [[_lifted(motion, self.points, control, template) for motion in way] for way in ways]
                kept[control, template] = np.array(lifts)
        lifted = kept[control, template][rng.integers(2)]
        i, j = rng.integers(len(self.motions), size=2)
        s, a = rng.uniform(0, 0.5), rng.uniform(*self.amplitude)
        return a * ((1 - s) * lifted[i] + s * lifted[j])


# functions of the family and the grids alone, kept since each takes seconds
_LIFTED: WeakKeyDictionary[CorrespondenceField, dict[tuple[Grid, Grid], FloatArray]] = WeakKeyDictionary()


def _lifted(motion: Motion, most: int, control: Grid, template: Grid) -> FloatArray:
    """Coefficients (*control.shape, D) mm of a motion, without folds."""
    p, q = motion
    if len(p) > most:
        some = np.sort(np.random.default_rng(0).permutation(len(p))[:most])
        p, q = p[some], q[some]
    near = float(np.median(scipy.spatial.KDTree(p).query(p, 2)[0][:, 1]))

    def lifted(number: int) -> FloatArray:
        return lift((q - p)[None], p, template, control, np.full(len(p), _SMOOTHINGS[number] * near**2))

    return least_smoothing(lifted, len(_SMOOTHINGS), control, _LEAST_DETERMINANT)[1][0]
