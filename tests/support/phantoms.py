"""Pairs with a known answer: real photographs and micrographs, warped by SimpleITK (never by augreg's own code)."""

import functools

import numpy as np
import SimpleITK as sitk
import skimage.data
import skimage.transform

from augreg import BSpline, Grid, Image

SIZE = 512


@functools.cache
def photograph(name: str) -> np.ndarray:
    """A grey image of scikit-image's own collection, [row, column] in [0, 1], 512 x 512."""
    values = getattr(skimage.data, name)()
    if values.ndim == 3:
        values = values[..., :3].mean(axis=-1)
    return scaled(values)


def scaled(values: np.ndarray) -> np.ndarray:
    """[row, column] brought to 512 x 512 and to [0, 1]."""
    values = skimage.transform.resize(values.astype(float), (SIZE, SIZE), anti_aliasing=True)
    return (values - values.min()) / (values.max() - values.min())


def affine(seed: int) -> sitk.AffineTransform:
    """10 degrees, 8 % scale and 8 % shift, with signs and a direction of shift drawn at random."""
    rng = np.random.default_rng(seed)
    sign, towards = rng.choice([-1, 1], 2), rng.uniform(0, 2 * np.pi)
    angle, scale = np.deg2rad(10 * sign[0]), 1.08 ** sign[1]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    transform = sitk.AffineTransform(2)
    transform.SetCenter([(SIZE - 1) / 2] * 2)
    transform.SetMatrix((scale * turn).ravel().tolist())
    transform.SetTranslation((0.08 * SIZE * np.array([np.cos(towards), np.sin(towards)])).tolist())
    return transform


def similarity(degrees: float, scale: float, shift: tuple[float, float]) -> sitk.AffineTransform:
    """About the middle; shift as a share of the size."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    transform = sitk.AffineTransform(2)
    transform.SetCenter([(SIZE - 1) / 2] * 2)
    transform.SetMatrix((scale * turn).ravel().tolist())
    transform.SetTranslation((SIZE * np.array(shift)).tolist())
    return transform


def elastic(seed: int) -> sitk.BSplineTransform:
    """A cubic B-spline on a mesh of 5 x 5 with coefficients up to 5 % of the image's size."""
    transform = sitk.BSplineTransformInitializer(sitk.Image(SIZE, SIZE, sitk.sitkFloat32), [5, 5], 3)
    count = len(transform.GetParameters())
    transform.SetParameters((np.random.default_rng(seed).uniform(-1, 1, count) * 0.05 * SIZE).tolist())
    return transform


def pair(
    values: np.ndarray, transform: sitk.Transform, seed: int, noise: float = 0.02
) -> tuple[Image, Image, np.ndarray, np.ndarray]:
    """Fixed, moving, and points x of the foreground with their images transform(x), (N, 2) each.

    fixed(x) = moving(transform(x)), then a gamma change, and independent noise on both images.
    """
    rng = np.random.default_rng(seed)
    original = sitk.GetImageFromArray(values)
    warped = sitk.GetArrayFromImage(sitk.Resample(original, original, transform, sitk.sitkBSpline, 0.0))
    fixed = np.clip(warped, 0, 1) ** 1.3 + rng.normal(0, noise, values.shape)
    moving = values + rng.normal(0, noise, values.shape)
    axis = np.arange(16.0, SIZE, 16.0)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    y = np.array([transform.TransformPoint(point.tolist()) for point in x])
    inside = np.all((y >= 0) & (y <= SIZE - 1), axis=1)
    column, row = np.clip(np.rint(y), 0, SIZE - 1).astype(int).T
    shown = inside & (values[row, column] > 0.04)
    grid = Grid(values.shape)
    return Image(fixed.T.astype(np.float32), grid), Image(moving.T.astype(np.float32), grid), x[shown], y[shown]


def bent(grid: Grid, spacing: float, seed: int) -> BSpline:
    """Random coefficients of up to a quarter of the control spacing."""
    zero = BSpline.zeros(grid, spacing)
    rng = np.random.default_rng(seed)
    coefficients = rng.uniform(-0.25, 0.25, zero.coefficients.shape) * np.asarray(zero.grid.spacing)
    return BSpline(np.where(zero.free[..., None], coefficients, 0.0), zero.grid)


def blobs(grid: Grid, count: int = 40, seed: int = 0) -> Image:
    """Bright and dark blobs of several sizes."""
    rng = np.random.default_rng(seed)
    unit = (grid.points() - grid.center) @ np.asarray(grid.direction) / (grid.extent / 2)
    values = np.zeros(grid.shape)
    for _ in range(count):
        size, center = rng.uniform(0.08, 0.3), rng.uniform(-0.8, 0.8, grid.ndim)
        edge = (np.linalg.norm((unit - center) / rng.uniform(0.7, 1.3, grid.ndim), axis=-1) - size) / 0.04
        values += rng.uniform(-1, 1) / (1 + np.exp(np.clip(edge, -30, 30)))
    return Image(values.astype(np.float32), grid)
