"""How the dense stage goes on: numbers for a dimension and for what it begins with.

After an affine map there are people, or hearts, who agree only roughly anywhere: every level moves far, weak structures are all
that tells where a boundary goes, and noise does less harm than their loss. After a map that has bent already, only what it
has left is sought, on two or three fine levels, and there noise is most of what is left. Chosen by `python -m benchmarks run
settings` on training people, and on known warps of images with noise.

What a bent start has left is wide, so some voxels of large images tell as much. Mean error, pixels, of elastic warps of 2048
pixels by what is looked at along the longer side (`python -m benchmarks run settings --only large --variants "as it is" "all
voxels" "512 voxels"`), which takes 0.9, 0.2 and 0.07 CPU s:

              2048     1024      512
    retina    0.721    0.724    0.737
    kidney    0.151    0.204    0.468
    lesion    0.148    0.180    0.205
    tissue    0.367    0.303    0.293    (immunohistochemistry)
    portrait  0.796    0.770    0.754    (astronaut)
    stars     0.154    0.155    0.151    (hubble_deep_field)

With 1024 sharp tissue loses and noisy images gain; with 512 tissue loses more than the stage has brought. At 4096 pixels the
retina has 0.974 in 6.9 CPU s by all of them, 0.939 in 0.28 by 1024. AMD EPYC, 2 cores, one thread, 2026-11-27.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Settings:
    """Of all levels.

    Parameters
    ----------
    iterations : from the finest level on; coarser ones as the last
    radii : half widths of windows in units of two voxels, likewise
    wiener : how many times its variance counts as noise
    floor : what is added to variances, of images of variance 1
    most : levels, at most
    finest : voxels along the longest axis of the smaller image, about, of which larger images keep every 2^k-th
    """

    iterations: tuple[int, ...]
    radii: tuple[int, ...]
    wiener: float
    floor: float
    most: int = 99
    finest: int | None = None

    def thinning(self, voxels: float) -> int:
        """k, a power of two, of images with so many voxels along the longest axis: at least `finest` of them are kept."""
        return 1 if self.finest is None else 2 ** max(int(np.log2(voxels / self.finest)), 0)

    def iterations_at(self, number: int) -> int:
        """At a level, 0 the finest."""
        return self.iterations[min(number, len(self.iterations) - 1)]

    def radius_at(self, number: int) -> int:
        """At a level, 0 the finest."""
        return self.radii[min(number, len(self.radii) - 1)]


# dimension, whether the start has bent
SETTINGS = {
    (2, False): Settings((6, 10, 15), (3, 3, 2), wiener=0.0, floor=0.001),
    (2, True): Settings((6, 10, 15), (2, 2, 2), wiener=10.0, floor=0.01, most=2, finest=1024),
    (3, False): Settings((6, 10, 15), (2, 2, 1), wiener=0.0, floor=0.01),
    (3, True): Settings((3, 10, 15), (2, 2, 1), wiener=0.0, floor=0.01, most=3),
}
