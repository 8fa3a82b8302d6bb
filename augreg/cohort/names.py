"""Names of the files of a cohort.

    plain    NAME.h5  NAME.nii.gz  NAME_labels.nii.gz
    BIDS     sub-01/anat/sub-01_from-T1w_to-SPACE_mode-image_xfm.h5         sub-01/anat/sub-01_space-SPACE_T1w.nii.gz
             sub-01/anat/sub-01_space-SPACE_desc-T1w_dseg.nii.gz            dataset_description.json

An image that is not named as in BIDS is a subject of its own there. `from-T1w_to-SPACE` is said of what the transform does to
the image; like all ITK transforms the file maps points of SPACE to points of the image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from augreg.tasks import file_names

_BIDS = re.compile(r"(?P<entities>sub-[A-Za-z0-9]+(?:_[a-z]+-[A-Za-z0-9]+)*)_(?P<suffix>[A-Za-z0-9]+)")


@dataclass(frozen=True)
class Names:
    """Of one image's files, relative to the cohort's folder.

    Parameters
    ----------
    name : without suffix
    transform, warped, labels : files
    """

    name: str
    transform: str
    warped: str
    labels: str

    @property
    def record(self) -> str:
        """What is known of the image."""
        return f"records/{self.name}.json"

    @property
    def picture(self) -> str:
        """Before and after."""
        return f"records/{self.name}.webp"


def plain(images: Sequence[str]) -> list[Names]:
    """Names by the images' own."""
    return [Names(name, f"{name}.h5", f"{name}.nii.gz", f"{name}_labels.nii.gz") for name in file_names(images)]


def bids(images: Sequence[str], fixed: str) -> list[Names]:
    """Names of BIDS derivatives, in the space named after the fixed image.

    Raises
    ------
    ValueError : for images that would get the same names.
    """
    space = _letters(file_names([fixed])[0].removeprefix("tpl-"))
    found = [_bids(name, space) for name in file_names(images)]
    taken: dict[str, str] = {}
    for names, image in zip(found, images, strict=True):
        if names.warped in taken:
            raise ValueError(f"--bids: expected images with names of their own, {image} and {taken[names.warped]} have the same")
        taken[names.warped] = image
    return found


def _bids(name: str, space: str) -> Names:
    known = _BIDS.fullmatch(name)
    entities, suffix = (known["entities"], known["suffix"]) if known else (f"sub-{_letters(name)}", "image")
    parts = entities.split("_")
    folder = "/".join([part for part in parts if part.startswith(("sub-", "ses-"))] + ["anat"])
    where = f"{folder}/{entities}"
    return Names(
        f"{entities}_{suffix}",
        f"{where}_from-{suffix}_to-{space}_mode-image_xfm.h5",
        f"{where}_space-{space}_{suffix}.nii.gz",
        f"{where}_space-{space}_desc-{suffix}_dseg.nii.gz",
    )


def _letters(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", name) or "image"
