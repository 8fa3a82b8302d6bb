"""elastix: its default parameter maps `rigid`, `affine` and `bspline` one after another, as many levels as fit the size.

Two departures from the defaults: without the rigid map the affine one is lost on every other known warp, and with steps of one
pixel at most the B-spline does not arrive where images are large.
"""

from __future__ import annotations

from typing import Any

import itk
import numpy as np
import numpy.typing as npt

from benchmarks.registration.rivals import Array, Maps, field_maps, levels, luminance

# of the longest side: distances between control points, and largest steps of the B-spline's optimiser
_CELLS, _STEPS = 12, 128
# iterations a level, of 256
_QUICK = 128


def use(threads: int) -> None:
    """Threads of all filters; the option of the filter itself lets the B-spline crash."""
    itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(threads)
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)


def image(values: npt.NDArray[np.float32], spacing: tuple[float, ...]) -> Any:
    """Axes along those of the world."""
    found = itk.image_from_array(np.ascontiguousarray(luminance(values, len(spacing)).T))
    found.SetSpacing(spacing)
    return found


def affine(fixed: Any, moving: Any) -> Maps:
    """Rigid, affine."""
    return _register(fixed, moving, ("rigid", "affine"))


def bspline(fixed: Any, moving: Any) -> Maps:
    """Rigid, affine, then a cubic B-spline."""
    return _register(fixed, moving, ("rigid", "affine", "bspline"))


def affine_quick(fixed: Any, moving: Any) -> Maps:
    """Half of the iterations."""
    return _register(fixed, moving, ("rigid", "affine"), iterations=_QUICK)


def bspline_quick(fixed: Any, moving: Any) -> Maps:
    """Half of the iterations."""
    return _register(fixed, moving, ("rigid", "affine", "bspline"), iterations=_QUICK)


def _register(fixed: Any, moving: Any, stages: tuple[str, ...], iterations: int | None = None) -> Maps:
    shape = tuple(int(n) for n in itk.size(fixed))
    spacings = np.array(itk.spacing(fixed)), np.array(itk.spacing(moving))
    longest = float((np.array(shape) * spacings[0]).max())
    parameters = itk.ParameterObject.New()
    for stage in stages:
        settings = parameters.GetDefaultParameterMap(stage, levels(shape), longest / _CELLS)
        if stage == "bspline":
            settings["MaximumStepLength"] = [str(longest / _STEPS)]
        if iterations is not None:
            settings["MaximumNumberOfIterations"] = [str(iterations)]
        parameters.AddParameterMap(settings)
    result = itk.elastix_registration_method(fixed, moving, parameter_object=parameters, log_to_console=False)[1]

    def maps(points: Array) -> Array:
        field = itk.transformix_deformation_field(moving, result)
        values = itk.array_from_image(field)
        axes = (*range(len(shape))[::-1], len(shape))
        return field_maps(values.transpose(axes), spacings)(points)

    return maps
