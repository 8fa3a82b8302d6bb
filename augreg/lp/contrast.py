"""Which contrast two images have: whether one looks like the other, or like its negative.

NCC of a profile and of its negative are opposite. The sign is one for the whole image: it is decided where the registration
begins, and from there on the moving image is what looks like the fixed one, so that programs, polish, doubts and the dense stage
do what they do with images of one contrast. Costs that take both signs for good in each profile, 1 - |NCC| or 1 - NCC^2, find
affine maps of negatives as often (90 of 90 pairs each) and as exactly (medians of 0.023, 0.024 and 0.027 pixels), in half to two
thirds of the time, but doubts and the dense stage would not know them (`python -m benchmarks run start --parts negative`;
2 cores, AMD EPYC, 1 thread, 2026-11-27).
"""

from __future__ import annotations

from augreg.lp.agreement import agreement
from augreg.lp.descent import Descent, Outcome
from augreg.lp.doubts import PLAIN, SURE, at_home
from augreg.lp.level import Level
from augreg.lp.pose import MatrixPose
from augreg.lp.search import Search, begun, misfit, surer
from augreg.registration.clock import Clock


def begun_as_either(
    descent: Descent,
    level: Level,
    pose: MatrixPose,
    scout: Level | None,
    search: Search,
    clock: Clock,
    *,
    more: bool,
    roughly: bool = False,
) -> tuple[Outcome, bool]:
    """Where a registration begins, with the moving image or its negative, and whether it is the negative.

    Parameters
    ----------
    level, pose, scout, search : as those of `augreg.lp.search.begun`
    more : where the images hardly agree, more starts are tried (`surer`), then those of the other contrast
    roughly : what a dense stage can go on from is enough
    """
    sides = [(level, scout), (level.negative(), None if scout is None else scout.negative())]
    found = [begun(descent, here, pose, seen, search, clock) for here, seen in sides]
    order = sorted((0, 1), key=lambda side: misfit(sides[side][0], found[side].pose))
    if not more:
        return found[order[0]], bool(order[0])
    shares = {}
    for side in order:
        here, seen = sides[side]
        if seen is None or clock.spent:
            break
        found[side] = surer(descent, here, found[side], seen, search, clock, roughly=roughly)
        phi = found[side].pose.transform
        shares[side] = agreement(here, phi).share
        if at_home(here, phi) >= PLAIN or shares[side] >= SURE:
            return found[side], bool(side)
    best = max(shares, key=lambda side: shares[side], default=order[0])
    return found[best], bool(best)
