"""Sample data: the user's own images, real cardiac MR, or subjects simulated from real MNI152 maps, in this order.

* images given, or the folder named by the environment variable AUGREG_DATA; label maps lie beside them (`_labels` or `_lv`);
* the 30 patients of the Sunnybrook Cardiac Data (Radau et al. 2009, The MIDAS Journal; public domain), from the public
  repository SegNetCMR, fetched once, checked by SHA-256 and cached;
* an axial slice of the MNI152 T1 and tissue maps that nilearn ships, turned into subjects by smooth random deformation and
  contrast. This one needs no network.
"""

from __future__ import annotations

import importlib.util
import json
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pooch
import requests

from augreg.grid import Grid
from augreg.image import Image, Labels
from augreg.io import FileWarning, read_image, read_labels
from augreg.transforms import BSpline
from augreg.warp import warp

_LABEL_SUFFIXES = ("_labels", "_lv")
_PHASES = ("ed", "es")
_IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".jpg", ".tif", ".tiff", ".bmp")
_HOST = "https://raw.githubusercontent.com"
# a closed network must be recognised within seconds
_TIMEOUT = 4.0
_SUBJECTS = 24
_FEWEST = 4
_CONNECTIONS = 8


@dataclass(frozen=True, eq=False)
class SampleData:
    """Images of several subjects.

    Parameters
    ----------
    images, labels : in order of the subjects; labels is None where there are none
    names : of the images
    subjects : whom each image shows; two images of one subject are its end-diastole and end-systole
    source : one line that says where they come from
    """

    images: tuple[Image, ...]
    labels: tuple[Labels, ...] | None
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    source: str


def sample_data(images: Sequence[str] | None = None, *, host: str = _HOST, cache: Path | None = None) -> SampleData:
    """The first of the three sources that there is.

    Raises
    ------
    FileNotFoundError, ValueError : for given images that cannot be used. A failed download is no error: the next source serves.
    """
    folder = os.environ.get("AUGREG_DATA")
    if images:
        return own_images([Path(path) for path in images], "The images given")
    if folder:
        found = sorted(path for path in Path(folder).glob("*") if path.name.lower().endswith(_IMAGE_SUFFIXES))
        if not found:
            raise FileNotFoundError(f"AUGREG_DATA: expected a folder with images, got none in {folder}")
        return own_images(found, f"The folder {Path(folder).name} named by AUGREG_DATA")
    try:
        return sunnybrook(host, cache)
    except (OSError, ValueError) as error:
        lost = isinstance(error, requests.RequestException)
        reason = f"no answer from {host}" if lost else " ".join(str(error).split())[:120]
        return simulated_brains(f"Subjects simulated from MNI152 maps, since nothing could be downloaded ({reason})")


def own_images(paths: Sequence[Path], source: str) -> SampleData:
    """Images, and label maps beside them.

    Of images of several kinds (`SUBJECT_KIND`), only the first kind is taken; but end-diastole and end-systole (`_ed`, `_es`),
    two phases of one motion, stay together.

    Raises
    ------
    ValueError : for images of fewer than four subjects.
    """
    images = sorted((path for path in paths if not _stem(path).endswith(_LABEL_SUFFIXES)), key=_stem)
    kinds = sorted({_kind(path) for path in images})
    subjects = {_subject(path) for path in images}
    several = 1 < len(kinds) < len(images) and len(subjects) < len(images)
    if several and kinds != list(_PHASES):
        images = [path for path in images if _kind(path) == kinds[0]]
        source += f", the images ending in _{kinds[0]}"
    names = tuple(_stem(path) for path in images)
    of = tuple(_subject(path) for path in images) if several else names
    if len(set(of)) < _FEWEST:
        raise ValueError(f"images: expected those of at least {_FEWEST} subjects, got {len(set(of))}")
    maps = [_label_map(path) for path in images]
    known = [path for path in maps if path is not None]
    if 0 < len(known) < len(images):
        lacking = [path.name for path, found in zip(images, maps, strict=True) if found is None]
        warnings.warn(
            f"label maps: expected one beside every image or none, {len(lacking)} of {len(images)} images have none, such as "
            f"{lacking[0]}; no label map is used",
            FileWarning,
            stacklevel=2,
        )
    labels = tuple(read_labels(path) for path in known) if len(known) == len(images) else None
    return SampleData(tuple(read_image(path) for path in images), labels, names, of, source)


def sunnybrook(host: str = _HOST, cache: Path | None = None) -> SampleData:
    """Slices of 30 patients at end-diastole and end-systole with the endocardium of the left ventricle, fetched once.

    Raises
    ------
    OSError, ValueError : where a file cannot be fetched or has another checksum.
    """
    table = json.loads(resources.files("augreg").joinpath("data/sunnybrook.json").read_text(encoding="utf-8"))
    base = f"{host}/{table['repository']}/{table['commit']}/"
    parts = [part for entry in table["files"].values() for part in entry.values()]
    registry = {part["path"]: f"sha256:{part['sha256']}" for part in parts}
    store = pooch.create(path=cache or pooch.os_cache("augreg"), base_url=base, registry=registry, retry_if_failed=0)
    missing = [path for path in registry if not (store.abspath / path).is_file()]
    if missing:
        # one small request decides whether there is a way out
        requests.head(base + missing[0], timeout=_TIMEOUT, allow_redirects=True).raise_for_status()
    fetch = pooch.HTTPDownloader(timeout=_TIMEOUT, progressbar=False)
    pooch.get_logger().setLevel("WARNING")
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        found = list(pool.map(lambda path: store.fetch(path, downloader=fetch), registry))
    files = dict(zip(registry, found, strict=True))
    names = tuple(table["files"])
    images = tuple(read_image(files[entry["image"]["path"]]).luminance() for entry in table["files"].values())
    masks = [read_image(files[entry["lv"]["path"]]).luminance() for entry in table["files"].values()]
    labels = tuple(Labels(np.greater(mask.values, 0).astype(np.uint8), mask.grid) for mask in masks)
    subjects = tuple(name.rpartition("_")[0] for name in names)
    source = f"Sunnybrook Cardiac Data, {len(set(subjects))} patients at end-diastole and end-systole"
    return SampleData(images, labels, names, subjects, source)


def simulated_brains(source: str, seed: int = 0) -> SampleData:
    """Subjects made of one axial MNI152 slice: smooth random deformations (control spacing 30 mm), contrasts; three tissues."""
    found = importlib.util.find_spec("nilearn")
    if found is None or found.origin is None:
        raise ValueError("nilearn: expected the package with the MNI152 maps, got none; install nilearn")
    folder = Path(found.origin).parent / "datasets" / "data"
    t1, grey, white = (
        read_image(folder / f"mni_icbm152_{part}_tal_nlin_sym_09a_converted.nii.gz") for part in ("t1", "gm", "wm")
    )
    level = t1.grid.shape[2] // 2
    grid = Grid(t1.grid.shape[:2], t1.grid.spacing[:2])
    # the file's first axes run to the right and to the front; pictures show the front above
    planes = [np.ascontiguousarray(part.values[:, ::-1, level], dtype=np.float32) for part in (t1, grey, white)]
    head = planes[0] / planes[0].max()
    tissue = np.argmax(np.stack([np.full_like(head, 0.3 * max(planes[1].max(), 1e-6)), planes[1], planes[2]]), axis=0)
    tissue = np.where((tissue == 0) & (head > 0.05), 3, tissue).astype(np.uint8)
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for _ in range(_SUBJECTS):
        zero = BSpline.zeros(grid, 30.0)
        coefficients = np.where(zero.free[..., None], rng.normal(0, 5.0, zero.coefficients.shape), 0.0)
        coefficients = np.clip(coefficients, -0.45 * min(zero.grid.spacing), 0.45 * min(zero.grid.spacing))
        phi = BSpline(coefficients, zero.grid)
        contrast = rng.uniform(0.8, 1.25)
        gain = rng.uniform(0.9, 1.1)
        values = warp(Image(head, grid), phi, grid, interpolation="cubic").values.clip(0, 1) ** contrast * gain
        images.append(Image((1000 * values + rng.normal(0, 8, grid.shape)).astype(np.float32), grid))
        labels.append(warp(Labels(tissue, grid), phi, grid))
    names = tuple(f"simulated-{i:02d}" for i in range(_SUBJECTS))
    return SampleData(tuple(images), tuple(labels), names, names, source)


def _stem(path: Path) -> str:
    name = path.name
    for suffix in _IMAGE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _subject(path: Path) -> str:
    return _stem(path).rpartition("_")[0]


def _kind(path: Path) -> str:
    return _stem(path).rpartition("_")[2]


def _label_map(path: Path) -> Path | None:
    stem = _stem(path)
    candidates = [path.with_name(f"{stem}{kind}{path.name[len(stem) :]}") for kind in _LABEL_SUFFIXES]
    return next((candidate for candidate in candidates if candidate.is_file()), None)
