"""SimpleITK: mutual information (Mattes, 32 bins), four levels.

Rigid from aligned centres, then affine, by gradient descent with regular steps on all pixels; the B-spline by LBFGS on a fifth of
them, three levels, its mesh doubled from level to level until control points are a twelfth of the longest side apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from benchmarks.registration.rivals import Array, Maps, field_maps, luminance, matrix_maps

_SHRINK = (8, 4, 2, 1)
_SEED = 1
# cells of the coarsest mesh along the longest side, and how much finer that of each level is
_CELLS, _FINER = 3, (1, 2, 4)


def use(threads: int) -> None:
    """Threads of all filters."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def image(values: npt.NDArray[np.float32], spacing: tuple[float, ...]) -> sitk.Image:
    """Axes along those of the world; pixels of 1 mm."""
    found = sitk.GetImageFromArray(np.ascontiguousarray(luminance(values, len(spacing)).T))
    found.SetSpacing(spacing)
    return found


def affine(fixed: sitk.Image, moving: sitk.Image) -> Maps:
    """Affine."""
    transform = _affine(fixed, moving)
    zero = np.array(transform.TransformPoint((0.0, 0.0)))
    matrix = np.stack([np.array(transform.TransformPoint(e)) - zero for e in ((1.0, 0.0), (0.0, 1.0))], axis=-1)
    return matrix_maps(matrix, zero)


def bspline(fixed: sitk.Image, moving: sitk.Image) -> Maps:
    """Affine, then a cubic B-spline."""
    start = _affine(fixed, moving)
    shape = fixed.GetSize()
    mesh = [max(1, round(_CELLS * n / max(shape))) for n in shape]
    spline = sitk.BSplineTransformInitializer(fixed, mesh)
    method = _method(_SHRINK[1:])
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.2, _SEED)
    method.SetMovingInitialTransform(start)
    method.SetInitialTransformAsBSpline(spline, inPlace=True, scaleFactors=list(_FINER))
    method.SetOptimizerAsLBFGS2(solutionAccuracy=1e-6, numberOfIterations=30)
    method.Execute(fixed, moving)
    both = sitk.CompositeTransform([start, spline])

    def maps(points: Array) -> Array:
        field = sitk.TransformToDisplacementField(both, sitk.sitkVectorFloat64, shape)
        return field_maps(sitk.GetArrayFromImage(field).swapaxes(0, 1))(points)

    return maps


def _affine(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    rigid = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler2DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    _descend(fixed, moving, rigid, _SHRINK[:-1])
    affine = sitk.AffineTransform(2)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    _descend(fixed, moving, affine, _SHRINK)
    return affine


def _descend(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform, shrink: tuple[int, ...]) -> None:
    method = _method(shrink)
    method.SetInitialTransform(transform, inPlace=True)
    method.SetOptimizerAsRegularStepGradientDescent(learningRate=2.0, minStep=0.01, numberOfIterations=200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.Execute(fixed, moving)


def _method(shrink: tuple[int, ...]) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(list(shrink))
    method.SetSmoothingSigmasPerLevel([s / 2 if s > 1 else 0 for s in shrink])
    return method
