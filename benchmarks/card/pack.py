"""What travels to the card, made from the data folder: slices of `brain2d`, volumes of `brain3d`, and a model of each.

The model of slices is the one that the experiments learn from. That of volumes is fitted by registration to the first four
people, in voxels of 2 mm; the others are tested.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import augreg as ar
from augreg.geometry.image import Image, Labels
from augreg.sam import AppearanceModel
from benchmarks.card.pack_files import People, write_people
from benchmarks.experiments.people import read_slices, read_study
from benchmarks.experiments.settings import SETTINGS
from benchmarks.experiments.sources import fitted
from benchmarks.harness.places import TEST_BRAINS
from benchmarks.synthesis.people import brain3d, brain3d_labels

_VOXEL, _SHAPE = 2.0, (80, 96, 80)
_LEARNED_VOLUMES = 4
_LARGEST = 30e6


def prepare(folder: Path, models: Path | None) -> None:
    """Pack, and say how large the folder is."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = models or folder
    study, settings = read_study("brain"), SETTINGS["brain"]
    _write(fitted(study, settings, 5, kept / "slices"), folder / "slices-model.npz")
    people = {level: _slices(level) for level in ("z08", "z20")}
    volumes = brain3d(_VOXEL, _SHAPE)
    path = kept / "volumes" / "model.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        known = volumes.images[:_LEARNED_VOLUMES]
        ar.write_model(ar.fit_appearance_model(known, registration=ar.LPRegistration(), alignment="similarity"), path)
    _write(ar.read_model(path), folder / "volumes-model.npz")
    tested = np.arange(len(volumes.images)) >= _LEARNED_VOLUMES
    people["volumes"] = _people(volumes.images, brain3d_labels(_VOXEL, _SHAPE), tested)
    (turn,) = settings.recipe.turns
    names = ("steps", "batch", "learning_rate", "intensity", "likeness")
    known = {name: getattr(settings.recipe, name) for name in names}
    known |= {"smoothness": settings.smoothness, "refining": settings.refining}
    drawn = {"appearance": turn.appearance, "pose": turn.pose, "amplitude": turn.amplitude}
    rest = [(family.spacing, max(family.magnitudes)) for family in turn.rest]
    write_people(folder, people, {**known, **drawn, "rest": rest})
    size = sum(file.stat().st_size for file in folder.glob("*.npz"))
    print(f"{folder}: {size / 1e6:.1f} MB")
    if size > _LARGEST:
        raise SystemExit(f"{folder}: expected at most {_LARGEST / 1e6:.0f} MB, got {size / 1e6:.1f}; take coarser volumes")


def _write(model: AppearanceModel, path: Path) -> None:
    # pairs are mosaics of textures: modes of the appearance are most of a file, and no part of them
    ar.write_model(model.truncate(model.shape.rank, 1), path)


def _slices(level: str) -> People:
    subjects = read_slices(level)
    tested = np.array([one.person in TEST_BRAINS for one in subjects])
    return _people([one.image for one in subjects], [one.labels for one in subjects], tested)


def _people(images: list[Image], labels: list[Labels], tested: np.ndarray) -> People:
    intensities = np.rint(np.stack([one.values for one in images])).astype(np.int16)
    return People(intensities, np.stack([one.values for one in labels]).astype(np.int16), tested)
