"""Images that show where they are, and judges that know what moves are worth."""

from dataclasses import dataclass

import numpy as np
import torch

from augreg import Affine, Grid, Image
from augreg.agents import View
from augreg.agents.pairs import turned
from augreg.agents.view import pose_of


def places(grid):
    """An image whose channels are the places of its voxels, mm about its middle along its axes."""
    x = (grid.points() - grid.center) @ grid.axes
    return Image(x.astype(np.float32), grid)


def about(degrees, axis, shift, fixed, moving):
    """A rigid map of worlds that turns about the fixed middle and puts it `shift` mm beside the moving one."""
    matrix = turned(np.deg2rad(degrees), np.asarray(axis, dtype=float), fixed.ndim)
    return Affine(matrix, moving.center + np.asarray(shift) - matrix @ fixed.center)


@dataclass(frozen=True, eq=False)
class Oracle:
    """A judge that reads the pose from an image of places, and knows where the moves should lead.

    Parameters
    ----------
    view : lattice and moves
    truth : the pose at which images lie as they should
    points : of what counts, (N, D) mm
    """

    view: View
    truth: np.ndarray
    points: np.ndarray

    @property
    def channels(self):
        return self.view.ndim

    def prepared(self, images, *, moving):
        return images

    def pose(self, fixed, moving):
        """The pose T of y = T x, from images of x and y, by least squares."""
        D = self.view.ndim
        middle = tuple(slice(n // 3, n - n // 3) for n in self.view.shape)
        x, y = (image[0][(slice(None), *middle)].reshape(D, -1).numpy().astype(float) for image in (fixed, moving))
        found, *_ = np.linalg.lstsq(np.vstack([x, np.ones(x.shape[1])]).T, y.T, rcond=None)
        pose = np.eye(D + 1)
        pose[:D] = found.T
        return pose

    def distance(self, pose):
        points = np.hstack([self.points, np.ones((len(self.points), 1))])
        return np.linalg.norm(points @ (pose - self.truth).T, axis=1).mean()

    def __call__(self, fixed, moving, steps):
        pose = self.pose(fixed, moving)
        here = self.distance(pose)
        worth = [[(here - self.distance(pose @ move)) / s for move in self.view.moves(s)] for s in steps.tolist()]
        return torch.tensor([worth])


def oracle(view, fixed, moving, truth):
    points = view.radius * np.random.default_rng(1).standard_normal((40, view.ndim)) / view.ndim**0.5
    return Oracle(view, pose_of(truth, fixed, moving), points)


def grids(ndim):
    """Of unlike size, spacing and direction."""
    if ndim == 2:
        return (
            Grid((40, 50), (2.0, 1.5), (3.0, -70.0), turned(0.3, np.zeros(3), 2)),
            Grid((60, 56), (2.2, 2.0), (200.0, 90.0), turned(-0.2, np.zeros(3), 2)),
        )
    return (
        Grid((24, 20, 16), (3.0, 3.5, 4.0), (3.0, -70.0, 11.0), turned(0.3, np.array([1.0, 2.0, 0.5]), 3)),
        Grid((30, 34, 28), (4.0, 3.5, 4.5), (20.0, 9.0, -300.0), turned(0.2, np.array([0.5, -1.0, 1.0]), 3)),
    )
