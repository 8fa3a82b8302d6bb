"""Transforms of ANTs: the files of a registration, in the order in which antsApplyTransforms takes them.

    -t t1 -t t2 ... -t tn          phi = tn @ ... @ t2 @ t1

so that `1Warp.nii.gz 0GenericAffine.mat` is the affine map after the warp: fixed points to moving points.
`[0GenericAffine.mat,1]` stands for the inverse of an affine map; that of a warp is the file `1InverseWarp.nii.gz`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from augreg.geometry.transforms import Affine, Transform
from augreg.io.transforms import read_transform

_INVERTED = re.compile(r"\[(.*),\s*([01])\s*\]")


def read_ants(files: Sequence[str | os.PathLike[str]]) -> Transform:
    """phi of files as antsApplyTransforms takes them, each a path or, for the inverse of an affine map, "[PATH,1]".

    Raises
    ------
    FileNotFoundError. TypeError : for a single name. ValueError : for no file, inverses of what is not affine, other files.
    """
    if isinstance(files, str | os.PathLike):
        raise TypeError(f"files: expected a list of files, got {files!r} alone; write [{files!r}]")
    made: Transform | None = None
    for file in files:
        found = _INVERTED.fullmatch(os.fspath(file))
        transform = read_transform(found[1] if found else file)
        if found and found[2] == "1":
            if not isinstance(transform, Affine):
                raise ValueError(
                    f"{file}: expected an affine map to invert, got another transform; give the file of its inverse, as "
                    "1InverseWarp.nii.gz"
                )
            transform = transform.inverse()
        made = transform if made is None else transform @ made
    if made is None:
        raise ValueError("files: expected one or more files of ANTs, got none")
    return made
