"""A folder with a series aligned.

moved.nii.gz or moved.tif    the frames seen through their transforms, as the series was
mean.nii.gz                  their mean, without frames that were lost
motion.csv                   a line per frame: the motion curve, how well it agrees, what there is to doubt
transforms/0007.tfm          of every frame, fixed space to the frame's; .h5 where they are elastic
records/                     what is known of each frame, by which another run goes on
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from augreg.atlas import digests
from augreg.geometry.resampling import background, warp
from augreg.io import atomic, read_transform, write_image, write_transform
from augreg.io.series import Series, write_series
from augreg.registration import Registration
from augreg.registration.method import as_method
from augreg.series.align import Aligned, FrameState, To, align_series, mean_of
from augreg.series.motion import Moved, moved_of

TABLE, MEAN, PAGE = "motion.csv", "mean.nii.gz", "index.html"
_AXES = "xyz"


def write_aligned(
    series: Series,
    registration: Registration,
    directory: str | os.PathLike[str],
    to: To = "mean",
    *,
    elastic: bool = False,
    suffix: str = ".nii.gz",
) -> Iterator[FrameState]:
    """Align a series into a folder, yielding the states of `align_series`; what is there of the same series is kept.

    Parameters
    ----------
    series, registration, to, elastic : see `align_series`
    directory : folder, made if it does not exist
    suffix : of the moved frames: .nii.gz, .nii, .tif or .tiff

    Raises
    ------
    As `align_series`, and TypeError for a registration of which nobody can know whether it is the same again.
    """
    folder = Path(directory)
    method = as_method("registration", registration)
    digest = digests.of_registration((method, series.values, series.grid, to, elastic))
    (folder / "records").mkdir(parents=True, exist_ok=True)
    (folder / "transforms").mkdir(exist_ok=True)
    ending = ".h5" if elastic else ".tfm"

    def known(number: int, frame: int) -> Aligned | None:
        return _read(folder / "records" / f"{number}-{frame:04}", ending, digest)

    found: dict[int, Aligned] = {}
    for state in align_series(series, method, to, elastic=elastic, known=known):
        if not state.kept:
            _write(folder / "records" / f"{state.round}-{state.number:04}", ending, digest, state.aligned, series)
        found[state.number] = state.aligned
        yield state
    aligned = [found[k] for k in range(len(series))]
    for k, one in enumerate(aligned):
        write_transform(one.transform, folder / "transforms" / f"{k:04}{ending}", series.grid)
    write_series(replace(series, values=moved_frames(series, aligned)), folder / f"moved{suffix}")
    write_image(mean_of(series, aligned)[0], folder / MEAN)
    with atomic(folder / TABLE) as temporary:
        temporary.write_text(table(aligned, motion_of(aligned, series), series.step), encoding="utf-8")


def moved_frames(series: Series, aligned: Sequence[Aligned]) -> np.ndarray:
    """All frames seen through their transforms, (T, *shape) or with channels, in their type."""
    out = np.empty_like(series.values)
    for k, one in enumerate(aligned):
        frame = series.frame(k)
        out[k] = warp(frame, one.transform, series.grid, fill=background(frame)).values
    return out


def motion_of(aligned: Sequence[Aligned], series: Series) -> list[Moved]:
    """The motion of all frames."""
    before = [None, *(one.transform for one in aligned[:-1])]
    return [moved_of(one.transform, last, series.grid) for one, last in zip(aligned, before, strict=True)]


def table(aligned: Sequence[Aligned], motion: Sequence[Moved], step: float | None) -> str:
    """The curve as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ndim, turns = len(motion[0].translation), len(motion[0].rotation)
    turned = ["rotation_deg"] if turns == 1 else [f"rotation_{axis}_deg" for axis in _AXES]
    moved = [f"translation_{axis}_mm" for axis in _AXES[:ndim]]
    judged = ["shift_mm", "step_mm", "similarity_before", "similarity", "seconds", "lost", "warnings"]
    writer.writerow(["frame", *(["time_s"] if step else []), *moved, *turned, *judged])
    for k, (one, at) in enumerate(zip(aligned, motion, strict=True)):
        numbers = [*at.translation, *at.rotation, at.shift, at.step, one.similarity_before, one.similarity, one.seconds]
        told = [f"{number:.6g}" if np.isfinite(number) else "" for number in numbers]
        writer.writerow([k, *([f"{k * step:g}"] if step else []), *told, int(one.lost), "; ".join(one.warnings)])
    return out.getvalue()


def _write(place: Path, ending: str, digest: str, aligned: Aligned, series: Series) -> None:
    write_transform(aligned.transform, place.with_name(place.name + ending), series.grid)
    told = {name: value for name, value in asdict(replace(aligned, transform=None)).items() if name != "transform"}  # type: ignore[arg-type]
    with atomic(place.with_name(place.name + ".json")) as temporary:
        temporary.write_text(json.dumps({"digest": digest, **told}), encoding="utf-8")


def _read(place: Path, ending: str, digest: str) -> Aligned | None:
    """What is known of a frame, if it is of the same series."""
    try:
        told = json.loads(place.with_name(place.name + ".json").read_text(encoding="utf-8"))
        if told.pop("digest") != digest:
            return None
        transform = read_transform(place.with_name(place.name + ending))
        return Aligned(transform=transform, **(told | {"warnings": tuple(told["warnings"])}))
    except (OSError, ValueError, KeyError, TypeError):
        return None
