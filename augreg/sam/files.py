"""Appearance models as `.npz` files: arrays and a JSON description, nothing pickled."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.grid import Grid
from augreg.io import read_arrays, write_arrays
from augreg.sam.landmarks import Contours
from augreg.sam.locality import Locality
from augreg.sam.maps import DisplacementMaps, LandmarkMaps, Maps, VelocityMaps
from augreg.sam.model import AppearanceModel
from augreg.sam.subspace import Subspace

_KIND = "appearance model"
_FORMAT = 3


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
        "maps": {"name": model.maps.name, "steps": getattr(model.maps, "steps", 0)},
        "intensities": model.intensities,
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
    arrays, about = read_arrays(path, _KIND)
    if about.get("format") != _FORMAT:
        raise ValueError(f"{path}: expected an {_KIND} of format {_FORMAT}, got {about.get('format')}; write it again")
    try:
        grid = about["template"]
        contours = about["contours"]
        return AppearanceModel(
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
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected an {_KIND} file, got one with parts missing") from error


def _maps(about: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Maps:
    if about["name"] == LandmarkMaps.name:
        return LandmarkMaps(arrays["smoothing"])
    return VelocityMaps(about["steps"]) if about["name"] == VelocityMaps.name else DisplacementMaps()
