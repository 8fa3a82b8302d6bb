"""ITK's transforms as files state them: a kind, parameters and fixed parameters, checked before anything is made of them.

matrix-offset kinds     phi(x) = A (x - c) + c + t; c are the fixed parameters
BSplineTransform        per component `coefficients[..., d].ravel(order="F")`; fixed: size, origin, spacing, direction
DisplacementFieldTransform   per voxel D components; fixed alike
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.transforms import Affine, BSpline, Composition, DisplacementField, Transform

# parameters of the kinds that are linear, in 2-D and 3-D; 0 where the kind has no such dimension
_LINEAR: dict[str, tuple[int, int]] = {
    "IdentityTransform": (0, 0),
    "TranslationTransform": (2, 3),
    "ScaleTransform": (2, 3),
    "ScaleLogarithmicTransform": (2, 3),
    "AffineTransform": (6, 12),
    "MatrixOffsetTransformBase": (6, 12),
    "FixedCenterOfRotationAffineTransform": (6, 12),
    "ScalableAffineTransform": (6, 12),
    "CenteredAffineTransform": (8, 15),
    "Rigid2DTransform": (3, -1),
    "Euler2DTransform": (3, -1),
    "CenteredRigid2DTransform": (5, -1),
    "CenteredEuler2DTransform": (5, -1),
    "Similarity2DTransform": (4, -1),
    "CenteredSimilarity2DTransform": (6, -1),
    "Rigid3DTransform": (-1, 12),
    "Euler3DTransform": (-1, 6),
    "CenteredEuler3DTransform": (-1, 9),
    "VersorTransform": (-1, 3),
    "VersorRigid3DTransform": (-1, 6),
    "QuaternionRigidTransform": (-1, 7),
    "Similarity3DTransform": (-1, 7),
    "ScaleVersor3DTransform": (-1, 9),
    "ScaleSkewVersor3DTransform": (-1, 15),
    "ComposeScaleSkewVersor3DTransform": (-1, 12),
}
_MATRICES = (
    "AffineTransform",
    "MatrixOffsetTransformBase",
    "FixedCenterOfRotationAffineTransform",
    "ScalableAffineTransform",
    "Rigid3DTransform",
)
# those that SimpleITK makes
_MADE = {
    name: getattr(sitk, name)
    for name in (
        "Euler2DTransform",
        "Similarity2DTransform",
        "Euler3DTransform",
        "VersorTransform",
        "VersorRigid3DTransform",
        "Similarity3DTransform",
        "ScaleVersor3DTransform",
        "ScaleSkewVersor3DTransform",
        "ComposeScaleSkewVersor3DTransform",
    )
}
COMPOSITE = "CompositeTransform"
_FIELDS = ("BSplineTransform", "DisplacementFieldTransform")


class UnknownKindError(ValueError):
    """A kind that only ITK itself can make something of."""


@dataclass(frozen=True, eq=False)
class Part:
    """A transform of a file.

    Parameters
    ----------
    kind : name of the class in ITK
    ndim : number of dimensions D
    parameters, fixed : ITK's parameters and fixed parameters
    """

    kind: str
    ndim: int
    parameters: FloatArray
    fixed: FloatArray


def kind_of(name: str) -> tuple[str, int]:
    """Class and dimension of a name such as `AffineTransform_double_3_3`.

    Raises
    ------
    ValueError : for other names, other dimensions and other orders of B-splines.
    """
    found = re.fullmatch(r"([A-Za-z0-9]+)_(?:double|float)_(\d+)_(\d+)(?:_(\d+))?", name)
    if found is None:
        raise ValueError(f"expected a kind of transform such as AffineTransform_double_3_3, got {name[:60]!r}")
    kind, here, there, order = found.groups()
    if here != there or here not in ("2", "3"):
        raise ValueError(f"expected a 2-D or 3-D transform, got {name}")
    if kind == "BSplineTransform" and order not in (None, "3"):
        raise ValueError(f"expected a B-spline of order 3, got order {order}")
    return kind, int(here)


def composed(parts: Sequence[Part]) -> Transform:
    """What the parts of a file are: one transform, or a composite with those after it.

    Raises
    ------
    ValueError : for parts that are none, several without a composite, or damaged. UnknownKindError : for rare kinds.
    """
    if not parts:
        raise ValueError("expected a transform, got none")
    if parts[0].kind != COMPOSITE:
        if len(parts) > 1:
            raise ValueError(
                f"expected one transform or a composite, got {len(parts)} transforms side by side; which one is meant cannot be "
                "known: write a file for each, or a composite"
            )
        return transform_of(parts[0])
    if len(parts) == 1:
        raise ValueError("expected a composite with its transforms, got one without any: the file was cut after its header")
    if len({part.ndim for part in parts}) > 1:
        raise ValueError(f"expected transforms of one dimension, got {sorted({part.ndim for part in parts})}")
    made = tuple(transform_of(part) for part in parts[1:])
    return made[0] if len(made) == 1 else Composition(made)


def transform_of(part: Part) -> Transform:
    """One part as ours.

    Raises
    ------
    ValueError : for numbers that do not fit its kind. UnknownKindError : for rare kinds.
    """
    ndim, numbers = part.ndim, part.parameters
    if not (np.isfinite(numbers).all() and np.isfinite(part.fixed).all()):
        raise ValueError(f"expected finite parameters of the {part.kind}, got NaN or infinity")
    if part.kind in _FIELDS:
        return _field(part)
    if part.kind not in _LINEAR:
        raise UnknownKindError(f"expected a matrix, B-spline or displacement-field transform, got {part.kind}")
    wanted = _LINEAR[part.kind][ndim - 2]
    if wanted < 0:
        raise ValueError(f"expected a {5 - ndim}-D {part.kind}, got {ndim}-D")
    if len(numbers) != wanted:
        raise ValueError(f"expected {wanted} parameters of a {ndim}-D {part.kind}, got {len(numbers)}; copy the file again")
    if part.kind == "IdentityTransform":
        return Affine.identity(ndim)
    if part.kind == "TranslationTransform":
        return Affine(np.eye(ndim), numbers)
    if len(part.fixed) not in ((0, ndim, 4) if part.kind.startswith("Centered") or part.kind == "Euler3DTransform" else (ndim,)):
        raise ValueError(f"expected a centre of {ndim} coordinates of the {part.kind}, got {len(part.fixed)} fixed parameters")
    if part.kind == "ScaleTransform":
        return Affine.about(np.diag(numbers), part.fixed)
    if part.kind == "ScaleLogarithmicTransform":
        return Affine.about(np.diag(np.exp(numbers)), part.fixed)
    if part.kind.startswith("Centered"):
        # the centre stands between the others and the translation
        k = len(numbers) - 2 * ndim
        plain = {"CenteredRigid2DTransform": "Euler2DTransform"}.get(part.kind, part.kind.removeprefix("Centered"))
        return transform_of(Part(plain, ndim, np.concatenate([numbers[:k], numbers[k + ndim :]]), numbers[k : k + ndim]))
    if part.kind in _MATRICES:
        return Affine.about(numbers[: ndim * ndim].reshape(ndim, ndim), part.fixed, numbers[ndim * ndim :])
    if part.kind not in (*_MADE, "Rigid2DTransform"):
        raise UnknownKindError(f"expected a kind of transform that SimpleITK makes, got {part.kind}")
    theirs = _MADE["Euler2DTransform" if part.kind == "Rigid2DTransform" else part.kind]()
    try:
        # of three angles the fourth says in which order they turn; older files leave it out
        short = part.kind == "Euler3DTransform" and len(part.fixed) == 3
        theirs.SetFixedParameters([*part.fixed.tolist(), 0.0] if short else part.fixed.tolist())
        theirs.SetParameters(numbers.tolist())
    except RuntimeError as error:
        raise ValueError(f"expected parameters of a {part.kind}, got some that ITK refuses") from error
    return affine_of(theirs)


def affine_of(transform: sitk.Transform) -> Affine:
    """A linear transform, whatever its parameters mean: it is known by the images of D + 1 points."""
    ndim = transform.GetDimension()
    offset = np.array(transform.TransformPoint(np.zeros(ndim).tolist()))
    columns = [np.array(transform.TransformPoint(e.tolist())) - offset for e in np.eye(ndim)]
    return Affine(np.stack(columns, axis=1), offset)


def _field(part: Part) -> Transform:
    ndim, fixed = part.ndim, part.fixed
    if len(fixed) != ndim * (ndim + 3):
        raise ValueError(
            f"expected {ndim * (ndim + 3)} fixed parameters of a {ndim}-D {part.kind} (size, origin, spacing, direction), got "
            f"{len(fixed)}; copy the file again"
        )
    size = fixed[:ndim]
    if not (np.array_equal(size, np.rint(size)) and size.min() >= 1):
        raise ValueError(f"expected whole sizes of the {part.kind}, got {size.tolist()}")
    # as exact integers: giants must not overflow
    shape = tuple(int(n) for n in size)
    total = ndim
    for n in shape:
        total *= n
    if total != len(part.parameters):
        raise ValueError(
            f"expected {total} parameters of a {part.kind} of {shape}, got {len(part.parameters)}; copy the file again"
        )
    try:
        grid = Grid(
            shape, tuple(fixed[2 * ndim : 3 * ndim]), tuple(fixed[ndim : 2 * ndim]), fixed[3 * ndim :].reshape(ndim, ndim)
        )
    except ValueError as error:
        raise ValueError(f"{part.kind}: {error}") from error
    if part.kind == "BSplineTransform":
        components = part.parameters.reshape(ndim, -1)
        return BSpline(np.stack([c.reshape(shape, order="F") for c in components], axis=-1), grid)
    vectors = part.parameters.reshape(*shape[::-1], ndim)
    return DisplacementField(vectors.transpose((*range(ndim)[::-1], ndim)), grid)
