"""Other libraries' random elastic deformations of one image: functions (image, device) -> callable that deforms it once more.

All are asked for random smooth displacements of about 4 pixels along each axis (root mean square) with details of some 32
pixels, as far as they let one choose (TorchIO warns of folding beyond half the spacing, so it stays below), and interpolate with
the order of their own defaults. Random numbers, deformation and interpolation count; making the objects does not.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float32]
Deform = Callable[[], Any]
# pixels between control points, and the standard deviation of Gaussian filters with about the same detail
_SPACING, _SIGMA = 32, 12.0


@dataclass(frozen=True)
class Rival:
    """One library's method.

    Parameters
    ----------
    name : as in tables
    package : whose version is recorded
    make : (image (*shape) float32, device) -> callable
    ndims : 2, 3 or both
    order : of its interpolation
    cuda : whether it runs there
    """

    name: str
    package: str
    make: Callable[[Array, str], Deform]
    ndims: tuple[int, ...]
    order: int
    cuda: bool = False

    @property
    def version(self) -> str:
        """The package's."""
        return importlib.metadata.version(self.package)


def set_threads(threads: int) -> None:
    """Of every library that has threads."""
    import SimpleITK as sitk

    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(threads)


def _torchio(image: Array, _device: str) -> Deform:
    import torchio

    flat = image.ndim == 2
    count = image.shape[0] // _SPACING + 1
    deform = torchio.RandomElasticDeformation(
        num_control_points=(count, count, 4) if flat else count,
        max_displacement=(15.0, 15.0, 0.0) if flat else 15.0,
        locked_borders=0,
    )
    subject = torchio.ScalarImage(tensor=torch.tensor(image.reshape(1, *image.shape, *(1,) * flat)))

    def once() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of folding where control points could cross
            return deform(subject).data

    return once


def _monai(image: Array, device: str) -> Deform:
    from monai.transforms import Rand2DElastic, Rand3DElastic

    where = torch.device(device)
    options: dict[str, Any] = {"prob": 1.0, "device": where, "padding_mode": "border"}
    if image.ndim == 2:
        deform = Rand2DElastic(spacing=(_SPACING, _SPACING), magnitude_range=(4.5, 4.5), **options)
    else:
        deform = Rand3DElastic(sigma_range=(_SIGMA, _SIGMA), magnitude_range=(3000.0, 3000.0), **options)
    tensor = torch.tensor(image[None], device=where)
    return lambda: deform(tensor)


def _elasticdeform(image: Array, _device: str) -> Deform:
    import elasticdeform

    points = image.shape[0] // _SPACING + 1
    return lambda: elasticdeform.deform_random_grid(image, sigma=5.5, points=points, order=3, mode="nearest")


def _batchgenerators(image: Array, _device: str) -> Deform:
    from batchgenerators.augmentations.spatial_transformations import augment_spatial

    alpha = 300.0 if image.ndim == 2 else 1900.0
    options: dict[str, Any] = {
        "alpha": (alpha, alpha),
        "sigma": (_SIGMA, _SIGMA),
        "do_rotation": False,
        "do_scale": False,
        "random_crop": False,
        "border_mode_data": "nearest",
    }
    return lambda: augment_spatial(image[None, None], None, image.shape, **options)[0]


def _batchgenerators2(image: Array, _device: str) -> Deform:
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    deform = SpatialTransform(
        image.shape,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=1,
        elastic_deform_scale=(0.1, 0.1),
        elastic_deform_magnitude=(15.0, 15.0),
    )
    tensor = torch.tensor(image[None])
    return lambda: deform(image=tensor)["image"]


def _gryds(image: Array, _device: str) -> Deform:
    import gryds

    rng = np.random.default_rng()
    count = image.shape[0] // _SPACING + 1
    # its coordinates run from 0 to 1
    size = (7.0 if image.ndim == 2 else 9.0) / image.shape[0]

    def once() -> Any:
        nodes = rng.uniform(-size, size, (image.ndim, *(count,) * image.ndim))
        return gryds.Interpolator(image, mode="mirror").transform(gryds.BSplineTransformation(nodes))

    return once


def _albumentations(image: Array, _device: str) -> Deform:
    import albumentations

    deform = albumentations.ElasticTransform(alpha=1000.0, sigma=_SIGMA, border_mode=1, p=1.0)
    return lambda: deform(image=image)["image"]


RIVALS = (
    Rival("TorchIO RandomElasticDeformation", "torchio", _torchio, (2, 3), 1),
    Rival("MONAI Rand2DElastic", "monai", _monai, (2,), 1, cuda=True),
    Rival("MONAI Rand3DElastic", "monai", _monai, (3,), 1, cuda=True),
    Rival("elasticdeform", "elasticdeform", _elasticdeform, (2, 3), 3),
    Rival("batchgenerators augment_spatial", "batchgenerators", _batchgenerators, (2, 3), 3),
    Rival("batchgeneratorsv2 SpatialTransform", "batchgeneratorsv2", _batchgenerators2, (2, 3), 1),
    Rival("gryds BSplineTransformation", "gryds", _gryds, (2, 3), 3),
    Rival("albumentations ElasticTransform", "albumentations", _albumentations, (2,), 1),
)
