"""How the dense stage goes on: numbers for a dimension and for what it begins with.

After an affine map there are people, or hearts, who agree only roughly anywhere: every level moves far, weak structures are all
that tells where a boundary goes, and noise does less harm than their loss. After a map that has bent already, only what it
has left is sought, on two or three fine levels, and there noise is most of what is left. Chosen by `python -m benchmarks run
settings` on training people, and on known warps of images with noise.
"""

from __future__ import annotations

from dataclasses import dataclass


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
    """

    iterations: tuple[int, ...]
    radii: tuple[int, ...]
    wiener: float
    floor: float
    most: int = 99

    def iterations_at(self, number: int) -> int:
        """At a level, 0 the finest."""
        return self.iterations[min(number, len(self.iterations) - 1)]

    def radius_at(self, number: int) -> int:
        """At a level, 0 the finest."""
        return self.radii[min(number, len(self.radii) - 1)]


# dimension, whether the start has bent
SETTINGS = {
    (2, False): Settings((6, 10, 15), (3, 3, 2), wiener=0.0, floor=0.001),
    (2, True): Settings((6, 10, 15), (2, 2, 2), wiener=10.0, floor=0.01, most=2),
    (3, False): Settings((6, 10, 15), (2, 2, 1), wiener=0.0, floor=0.01),
    (3, True): Settings((3, 10, 15), (2, 2, 1), wiener=0.0, floor=0.01, most=3),
}
