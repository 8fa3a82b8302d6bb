"""Transforms of elastix: its files of parameters `(Key value ...)`, and the chains that they make.

    HowToCombineTransforms "Compose"       phi = T @ phi0,     phi0 of the file named by InitialTransformParameterFileName

The kinds are ITK's with a centre of rotation: `TranslationTransform`, `EulerTransform`, `SimilarityTransform`,
`AffineTransform`, and cubic B-splines (`BSplineTransform`, `RecursiveBSplineTransform`). Points are LPS, mm. Directions stand
column by column, and the index of a grid's first control point moves its origin.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from augreg.geometry.grid import Grid
from augreg.geometry.transforms import Transform
from augreg.io.transform_parts import Part, transform_of

_LINE = re.compile(r"\((\w+)((?:\s+(?:\"[^\"]*\"|[^\s\"()]+))*)\s*\)")
_WORD = re.compile(r"\"([^\"]*)\"|(\S+)")
_START = re.compile(rb"\s*(//[^\n]*\n\s*)*\(\w+ [^)\n]*\)")
# of ITK's kinds
_KINDS = {
    "TranslationTransform": ("TranslationTransform", "TranslationTransform"),
    "EulerTransform": ("Euler2DTransform", "Euler3DTransform"),
    "SimilarityTransform": ("Similarity2DTransform", "Similarity3DTransform"),
    "AffineTransform": ("AffineTransform", "AffineTransform"),
}
_SPLINES = ("BSplineTransform", "RecursiveBSplineTransform")
_NONE = ("NoInitialTransform", "")
# chains are short; one that is longer leads in a circle
_MOST = 20

Values = dict[str, list[str]]


def is_elastix(content: bytes) -> bool:
    """Whether a file begins as elastix' files of parameters do."""
    return _START.match(content) is not None


def read_elastix(path: Path) -> Transform:
    """The transform of a file of elastix with those that it begins with.

    A file of an initial transform that is not where it was is looked for beside the file that names it.

    Raises
    ------
    ValueError : for what is damaged, cut, of another kind, added instead of composed, or without its initial transform.
    """
    made: Transform | None = None
    file = path
    for _ in range(_MOST):
        values = _values(file)
        part = _part(values, file)
        made = part if made is None else made @ part
        before = _initial(values, file)
        if before is None:
            return made
        file = before
    raise ValueError(f"expected a chain of initial transforms that ends, got more than {_MOST}: do they lead in a circle?")


def _values(path: Path) -> Values:
    values: Values = {}
    for k, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        # comments stand behind two slashes, which may also stand in the name of a file
        stated = line.strip()
        if not stated or stated.startswith("//"):
            continue
        found = _LINE.match(stated)
        if found is None:
            raise ValueError(
                f"expected lines (Key value ...) of elastix, got {stated[:40]!r} in line {k} of {path.name}: was it cut?"
            )
        if found[1] in values:
            raise ValueError(f"expected {found[1]} once in {path.name}, got it again in line {k}")
        values[found[1]] = [quoted or plain for quoted, plain in _WORD.findall(found[2])]
    return values


def _part(values: Values, path: Path) -> Transform:
    kind, ndim = _one(values, "Transform", path), int(_numbers(values, "FixedImageDimension", path, 1)[0])
    if ndim not in (2, 3) or values.get("MovingImageDimension", [str(ndim)]) != [str(ndim)]:
        raise ValueError(f"expected images of 2 or 3 dimensions, both alike, got {ndim} and {values.get('MovingImageDimension')}")
    if values.get("UseDirectionCosines", ["true"]) != ["true"]:
        raise ValueError(
            '(UseDirectionCosines "false"): expected a transform between points of the world, got one that takes images for '
            "upright; register again with true"
        )
    count = int(_numbers(values, "NumberOfParameters", path, 1)[0])
    stated = values.get("TransformParameters", [])
    if len(stated) == 1 != count:
        raise ValueError(
            f"expected {count} TransformParameters in {path.name}, got one word, {stated[0][:40]!r}: parameters in a file of "
            'their own are not read; write them as text by (UseBinaryFormatForTransformationParameters "false")'
        )
    parameters = _numbers(values, "TransformParameters", path, count)
    if kind in _SPLINES:
        return transform_of(Part("BSplineTransform", ndim, parameters, _control(values, path, ndim)))
    if kind not in _KINDS:
        known = ", ".join((*_KINDS, *_SPLINES))
        raise ValueError(
            f"expected one of {known}, got elastix' {kind[:40]}; make a displacement field of it with transformix -def all"
        )
    fixed = np.zeros(0) if kind == "TranslationTransform" else _numbers(values, "CenterOfRotationPoint", path, ndim)
    if kind == "EulerTransform" and ndim == 3:
        fixed = np.append(fixed, float(values.get("ComputeZYX", ["false"]) == ["true"]))
    return transform_of(Part(_KINDS[kind][ndim - 2], ndim, parameters, fixed))


def _control(values: Values, path: Path, ndim: int) -> np.ndarray:
    """ITK's fixed parameters of the control grid: size, origin, spacing, direction."""
    order = values.get("BSplineTransformSplineOrder", ["3"])
    if order != ["3"] or values.get("UseCyclicTransform", ["false"]) != ["false"]:
        raise ValueError(
            f"expected a B-spline of order 3 that is not cyclic, got order {order[0][:10]}; make a displacement field of it with "
            "transformix -def all"
        )
    size, spacing, origin, index = (
        _numbers(values, name, path, ndim) for name in ("GridSize", "GridSpacing", "GridOrigin", "GridIndex")
    )
    direction = np.eye(ndim)
    if "GridDirection" in values:
        direction = _numbers(values, "GridDirection", path, ndim * ndim).reshape(ndim, ndim).T
    if np.abs(index).max() > 0:
        origin = Grid((1,) * ndim, tuple(spacing), tuple(origin), direction).points_at(index)
    return np.concatenate([size, origin, spacing, direction.ravel()])


def _initial(values: Values, path: Path) -> Path | None:
    # newer versions write the second name
    names = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")
    stated = next((_one(values, name, path) for name in names if name in values), "")
    if stated in _NONE:
        return None
    if values.get("HowToCombineTransforms", ["Compose"]) != ["Compose"]:
        raise ValueError(
            '(HowToCombineTransforms "Add"): expected transforms that are composed, got a sum of displacements; make a '
            "displacement field of it with transformix -def all"
        )
    name = re.split(r"[\\/]", stated)[-1]
    for place in (Path(stated), path.parent / stated, path.parent / name):
        if place.is_file():
            return place
    raise ValueError(f"{path.name} begins with {stated}: expected this file, or {name} beside it, got neither; copy it there")


def _one(values: Values, name: str, path: Path) -> str:
    found = values.get(name)
    if found is None or len(found) != 1:
        raise ValueError(f"expected one value of {name} in {path.name}, got {'none' if not found else len(found)}: was it cut?")
    return found[0]


def _numbers(values: Values, name: str, path: Path, count: int) -> np.ndarray:
    found = values.get(name, [])
    try:
        numbers = np.array([float(word) for word in found], dtype=np.float64)
    except ValueError:
        numbers = np.full(len(found), np.nan)
    if len(found) != count or not np.isfinite(numbers).all():
        told = f"{len(found)} words" if len(found) != count else "other words"
        raise ValueError(f"expected {count} numbers of {name} in {path.name}, got {told}: was it cut?")
    return numbers
