"""Appearance models as `.npz` files: arrays and a JSON description, nothing pickled."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import Grid
from augreg.io import read_arrays, write_arrays
from augreg.sam.alignment import pose_size
from augreg.sam.contours import Contours
from augreg.sam.locality import Locality
from augreg.sam.maps import DisplacementMaps, LandmarkMaps, Maps, VelocityMaps
from augreg.sam.model import AppearanceModel
from augreg.sam.subspace import Subspace

_KIND = "appearance model"
_FORMAT = 3
_SUBSPACES = [f"{name}_{part}" for name in ("shape", "appearance") for part in ("mean", "basis", "variance")]
_ARRAYS = [*_SUBSPACES, "textures", "gains", "poses", "label_maps", "residuals", "smoothing"]
# control points that a template may need, times numbers of a mode: a grid that was damaged asks for more than any memory
_LARGEST = 1 << 31


def write_model(model: AppearanceModel, path: str | os.PathLike[str]) -> None:
    """Write a model as `.npz`; an existing file is replaced in one step."""
    arrays: dict[str, npt.NDArray[np.generic]] = {"textures": model.textures, "gains": model.gains, "poses": model.poses}
    for name in ("shape", "appearance"):
        subspace: Subspace = getattr(model, name)
        arrays |= {f"{name}_{part}": getattr(subspace, part) for part in ("mean", "basis", "variance")}
    if model.label_maps is not None:
        arrays["label_maps"] = model.label_maps
    if model.residuals is not None:
        arrays["residuals"] = model.residuals
    if isinstance(model.maps, LandmarkMaps):
        arrays["smoothing"] = model.maps.smoothing
    description = {
        "kind": _KIND,
        "format": _FORMAT,
        "template": asdict(model.template),
        "alignment": model.alignment,
        "maps": _described(model.maps),
        "intensities": model.intensities,
        "observed": model.observed,
        "locality": model.locality.to_json(),
        "contours": None if model.contours is None else asdict(model.contours),
    }
    write_arrays(path, arrays, description)


def read_model(path: str | os.PathLike[str]) -> AppearanceModel:
    """Read a model that `write_model` wrote.

    Raises
    ------
    FileNotFoundError : if there is no file. ValueError : if it is truncated, foreign, of another kind or of a later version.
    """
    arrays, about = read_arrays(path, _KIND, _ARRAYS)
    if about.get("format") != _FORMAT:
        raise ValueError(f"{path}: expected an {_KIND} of format {_FORMAT}, got {about.get('format')}; write it again")
    try:
        grid = about["template"]
        contours = about["contours"]
        model = AppearanceModel(
            template=Grid(**{name: tuple(value) for name, value in grid.items()}),
            shape=Subspace(*(arrays[f"shape_{part}"] for part in ("mean", "basis", "variance"))),
            appearance=Subspace(*(arrays[f"appearance_{part}"] for part in ("mean", "basis", "variance"))),
            textures=arrays["textures"],
            gains=arrays["gains"],
            poses=arrays["poses"],
            alignment=about["alignment"],
            maps=_maps(about["maps"], arrays),
            intensities=(float(about["intensities"][0]), float(about["intensities"][1])),
            locality=Locality.from_json(about["locality"]),
            contours=None if contours is None else Contours(tuple(contours["structures"]), tuple(contours["counts"])),
            label_maps=arrays.get("label_maps"),
            residuals=arrays.get("residuals"),
            observed=None if about.get("observed") is None else (float(about["observed"][0]), float(about["observed"][1])),
        )
        _check(model)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path}: expected an {_KIND} file, got one with parts missing") from error
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: expected a whole {_KIND}, got one whose parts do not fit ({error}); fit it again") from error
    return model


def _check(model: AppearanceModel) -> None:
    """Shapes, types and ranges of all parts against each other.

    Raises
    ------
    ValueError : for the first that does not fit.
    """
    D, N = model.ndim, model.template.size
    n = len(model.textures)
    points = model.shape.size // D
    if N > _LARGEST:
        raise ValueError(f"template: a grid of {model.template.shape}")
    wanted = {
        "appearance_mean": (model.appearance.mean, (N,)),
        "shape_mean": (model.shape.mean, (points * D,)),
        "textures": (model.textures, (n, N)),
        "gains": (model.gains, (n,)),
        "poses": (model.poses, (n, pose_size(D))),
        "label_maps": (model.label_maps, (n, N)),
        "residuals": (model.residuals, (n, points, D)),
        "smoothing": (model.maps.smoothing if isinstance(model.maps, LandmarkMaps) else None, (points,)),
    }
    for name, (array, shape) in wanted.items():
        if array is not None and array.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    numbers = [(name, array) for name, (array, _) in wanted.items() if array is not None and name != "label_maps"]
    for about, part in (("shape", model.shape), ("appearance", model.appearance)):
        numbers += [(f"{about}_basis", part.basis), (f"{about}_variance", part.variance)]
    for name, array in numbers:
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(
                f"{name}: expected finite numbers, got {array.dtype}{' with NaN or infinity' * (array.dtype.kind == 'f')}"
            )
    if model.label_maps is not None and model.label_maps.dtype.kind not in "iu":
        raise ValueError(f"label_maps: expected integers, got {model.label_maps.dtype}")
    for name, part in (("shape", model.shape), ("appearance", model.appearance)):
        if (part.variance < 0).any():
            raise ValueError(f"{name}_variance: expected none below 0, got {part.variance.min():g}")
        if part.rank and np.abs(np.linalg.norm(part.basis[:, : min(part.rank, 16)], axis=0) - 1).max() > 1e-2:
            raise ValueError(f"{name}_basis: expected columns of length 1, got others")
    low, high = model.intensities
    if n < 1 or points < 1 or not (np.isfinite([low, high]).all() and low <= high):
        raise ValueError(f"intensities: expected the least and the largest of some textures, got {low:g}, {high:g} of {n}")
    low, high = model.range
    if not (np.isfinite([low, high]).all() and low <= high):
        raise ValueError(f"observed: expected the least and the largest intensity of some images, got {low:g}, {high:g}")
    if model.contours is not None:
        counts = model.contours.counts
        if len(counts) != len(model.contours.structures) or (not model.maps.dense and sum(counts) + len(counts) != points):
            raise ValueError(f"contours: expected {points} points, got {counts} and a centroid each")


def _described(maps: Maps) -> dict[str, Any]:
    steps = {"steps": maps.steps} if isinstance(maps, VelocityMaps) else {}
    return {"name": maps.name, **steps}


def _maps(about: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Maps:
    match about["name"]:
        case LandmarkMaps.name:
            return LandmarkMaps(arrays["smoothing"])
        case DisplacementMaps.name:
            return DisplacementMaps()
        case VelocityMaps.name:
            return VelocityMaps(int(about["steps"]))
    raise ValueError(f"maps: {about['name']}")
