"""Linear transforms of FSL (FLIRT) and FreeSurfer (`.lta`), read by nitransforms where it is installed.

Both map points of the moving image to the fixed one, in coordinates of their own; nitransforms gives the way back in RAS, R. With
S = diag(-1, -1, 1),

    phi(x) = S R S x,      fixed to moving points, LPS, mm

FLIRT's matrices mean nothing without both images: their coordinates are the images' voxels times their spacing.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from augreg.geometry.transforms import Affine
from augreg.io.files import existing_file
from augreg.missing import missing

_SIGNS = np.array([-1.0, -1.0, 1.0, 1.0])


def read_fsl(path: str | os.PathLike[str], fixed: str | os.PathLike[str], moving: str | os.PathLike[str]) -> Affine:
    """phi of a matrix of FLIRT, `flirt -in MOVING -ref FIXED -omat PATH`.

    Parameters
    ----------
    fixed, moving : NIfTI files of the two images; their geometry alone is looked at

    Raises
    ------
    FileNotFoundError, or ValueError for other files, a singular matrix, a missing nitransforms.
    """
    found = existing_file(path)
    images = {}
    for name, file in (("fixed", fixed), ("moving", moving)):
        try:
            images[name] = nibabel.load(existing_file(file))
        except nibabel.filebasedimages.ImageFileError as error:
            raise ValueError(f"{file}: expected a NIfTI file, as FSL takes it, got something else") from error
    return _affine(found, "fsl", reference=images["fixed"], moving=images["moving"])


def read_freesurfer(path: str | os.PathLike[str]) -> Affine:
    """phi of a linear transform of FreeSurfer, `.lta`, which maps its source, the moving image, to its destination.

    Raises
    ------
    FileNotFoundError, or ValueError for other files, a singular matrix, a missing nitransforms.
    """
    return _affine(existing_file(path), "fs")


def _affine(path: Path, kind: str, **images: Any) -> Affine:
    try:
        from nitransforms import linear
    except ModuleNotFoundError as error:
        raise missing(str(path), error, "neuro") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            matrix = np.asarray(linear.load(path, fmt=kind, **images).matrix, dtype=np.float64)
    except Exception as error:
        # whatever its readers raise
        named = {"fsl": "a matrix of FLIRT", "fs": "a linear transform of FreeSurfer"}[kind]
        raise ValueError(f"{path}: expected {named}, got a file that cannot be read as one; copy it again") from error
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise ValueError(f"{path}: expected one invertible matrix of 4 x 4 numbers, got shape {matrix.shape} or a singular one")
    lps = _SIGNS[:, None] * matrix * _SIGNS
    return Affine(lps[:3, :3], lps[:3, 3])
