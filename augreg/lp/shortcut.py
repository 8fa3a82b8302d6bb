"""The short way: where the coarsest level leaves no doubt, fine levels have nothing left to search.

Of one scene under a map of the group, a polish at the coarsest level leaves some hundredths of its voxel, and then programs at
finer levels, which look for whole voxels, move nothing any more. Mean errors of two photographs of 512 pixels, whose coarsest
level has voxels of 8:

    long way     start  programs at 4 pixels  polish  programs at 1 pixel  polish
    camera        0.79                  0.79    0.08                 0.08    0.01, 0.005
    retina        2.11                  0.43    0.13                 0.12    0.02, 0.020

    short way    start                        polish                       polish
    camera                                      0.61                         0.05, 0.011, 0.006
    retina                                      0.29                         0.03, 0.020

So after a plain start the polish goes on at every third level only. Whether it may is asked of the first of these: its keypoints
have to match best where they were put.
"""

from __future__ import annotations

import numpy as np

from augreg.lp import work
from augreg.lp.descent import Descent, Outcome, last
from augreg.lp.doubts import NEIGHBOURS, home_share
from augreg.lp.levels import Levels
from augreg.lp.plan import Plan, Stage
from augreg.lp.search import START_KEYPOINTS
from augreg.registration import Clock

# levels that a polish spans, and steps at each of them but the last
_OCTAVES, _STEPS = 3, 2
# shares of the finer level's keypoints that must be seen, and match best where they are: known warps have 0.66 (weak texture
# under noise) to 1, the same with a bend of a pixel behind it 0.6
_SEEN, _AT_HOME = 0.5, 0.75


def shortened(plan: Plan, levels: Levels, descent: Descent, here: Outcome, clock: Clock) -> tuple[Outcome, tuple[Stage, ...]]:
    """Where to go on, and the stages that are left: all of the plan unless the start is plain."""
    end = plan.stages[-1]
    if not here.plain or plan.rough or end.control is not None or end.polish == 0 or end.level == 0:
        return here, plan.stages
    numbers = range(end.level, 0, -_OCTAVES)[::-1]
    stages = tuple(Stage(number, (), end.polish if number == end.level else _STEPS, end.keypoints) for number in numbers)
    coarse = levels[0].with_count(START_KEYPOINTS)
    before, asking = 0.0, 0.0
    if clock.limited:
        before = _STEPS * work.of_polish(coarse, coarse.count, here.pose)
        asking = work.of_program(coarse, end.keypoints, here.pose, NEIGHBOURS)
        after = work.of_polish(coarse, end.keypoints, here.pose)
        if not levels.possible(numbers[0], before + asking + after):
            return here, plan.stages
    with clock.timed("matrix polish", before):
        here = last(descent.polished(coarse, here, _STEPS), here)
    fine = levels[numbers[0]].with_count(end.keypoints)
    with clock.timed("doubts", asking):
        costs = fine.costs(here.pose.transform, NEIGHBOURS)
    seen = np.isfinite(costs).all(axis=1).mean() > _SEEN
    return here, stages if seen and home_share(costs) >= _AT_HOME else plan.stages
