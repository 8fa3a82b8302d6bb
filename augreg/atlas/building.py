"""The registrations of a bank: every template to every atlas once, as tasks that resume.

The transform of a pair is a function of both images and the registration, and so is its file, to the byte: in one process, in
several, on a cluster.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from augreg.atlas import digests
from augreg.atlas.atlas import Atlas
from augreg.atlas.folder import Folder, Manifest
from augreg.atlas.likeness import likeness
from augreg.atlas.rough import small
from augreg.geometry.image import Image
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Transform
from augreg.io import read_transform, remove_partial, write_transform
from augreg.registration.method import Registration, as_method, last
from augreg.tasks import at_work, place

# of a likeness
_DIGITS = 6


@dataclass(frozen=True)
class BankState:
    """Progress, earlier runs included.

    Parameters
    ----------
    done, total : number of registrations
    kept : how many of them an earlier run has made
    repaired : how many were there, but damaged, and were made again
    warnings : of registrations made now, each with the numbers of its template and its atlas
    """

    done: int
    total: int
    kept: int = 0
    repaired: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Report:
    kept: bool
    repaired: bool
    likeness: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Registered:
    """Register a pair of the bank unless its transform is there and whole."""

    folder: Folder
    manifest: Manifest
    registration: Registration
    known: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def __call__(self, number: int) -> _Report:
        template, image = self.manifest.pairs[number]
        path = self.folder.route(self.manifest.registration, template, image)
        there = path.exists()
        if there:
            try:
                phi = read_transform(path)
                return _Report(kept=True, repaired=False, likeness=self._likeness(template, image, phi))
            except ValueError:
                pass
        fixed, moving = self.folder.image(template), self.folder.image(image)
        try:
            state = last(as_method("registration", self.registration).steps(fixed, moving))
        except ValueError as error:
            raise ValueError(f"{_who(self.manifest, template, image)}: {error}") from error
        write_transform(state.transform, path, fixed.grid)
        # of the file, as whoever finds it there
        alike = self._likeness(template, image, read_transform(path))
        return _Report(kept=False, repaired=there, likeness=alike, warnings=state.warnings)

    def _likeness(self, template: str, image: str, phi: Transform) -> float:
        """How much the image looks like the template; 0 where that cannot be told."""
        if (template, image) in self.known:
            return self.known[template, image]
        few = small(self.folder.image(template))
        found = likeness(few)(warp(self.folder.image(image), phi, few.grid))
        return round(found, _DIGITS) if math.isfinite(found) else 0.0


def building(
    templates: Iterable[Image],
    atlases: Iterable[Atlas],
    registration: Registration,
    folder: str | os.PathLike[str],
    *,
    workers: int = 1,
    scheduler: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Iterator[BankState]:
    """Build a bank, yielding a state at the start and after each registration; see `TemplateBank.of`."""
    as_method("registration", registration)
    with place(workers, scheduler) as finished:
        # workers elsewhere have another current folder
        bank = Folder(Path(folder).absolute())
        bank.make()
        with at_work(bank.path) as alone:
            manifest = _kept(bank, templates, atlases, registration, about or {})
            known, pairs = _known(bank, manifest), manifest.pairs
            state = BankState(0, len(pairs))
            yield state
            for number, report in finished(_Registered(bank, manifest, registration, known), range(state.total)):
                pair = pairs[number]
                known[pair] = report.likeness
                if not bank.route(manifest.registration, *pair).exists():
                    raise ValueError(f"{bank.path}: expected a folder that all workers share, transforms are elsewhere")
                who = _who(manifest, *pair)
                said = (*state.warnings, *(f"{who}: {text}" for text in report.warnings))
                state = BankState(state.done + 1, state.total, state.kept + report.kept, state.repaired + report.repaired, said)
                yield state
            bank.claim(replace(manifest, likeness=tuple(known[pair] for pair in pairs)))
            if alone():
                remove_partial(bank.path / "transforms", "*.h5")


def _kept(
    bank: Folder, templates: Iterable[Image], atlases: Iterable[Atlas], registration: Registration, about: Mapping[str, Any]
) -> Manifest:
    """The list of what is given, all of which is in the folder now; one image at a time is in memory.

    Raises
    ------
    ValueError : for none, images of different dimensions, and one that is given twice.
    """
    images, labelled = [], []
    ndim = 0
    for i, image in enumerate(templates):
        ndim = _ndim(f"templates[{i}]", image, ndim)
        images.append(bank.keep(image))
    for i, atlas in enumerate(atlases):
        if not isinstance(atlas, Atlas):
            raise TypeError(f"atlases[{i}]: expected an Atlas, got {type(atlas).__name__}; an atlas has labels")
        ndim = _ndim(f"atlases[{i}]", atlas.image, ndim)
        labelled.append(bank.keep_atlas(atlas))
    if not images or not labelled:
        raise ValueError(f"templates, atlases: expected at least one of each, got {len(images)} and {len(labelled)}")
    for name, found in (("templates", images), ("atlases", [image for image, _, _ in labelled])):
        if twice := [i for i, digest in enumerate(found) if digest in found[:i]]:
            raise ValueError(f"{name}[{twice[0]}]: expected different images, got one that is there before; leave it out")
    return Manifest(digests.of_registration(registration), ndim, tuple(images), tuple(labelled), about)


def _known(bank: Folder, manifest: Manifest) -> dict[tuple[str, str], float]:
    """What an earlier run has found out of pairs, by the same registration."""
    before = bank.manifest() if bank.there() else manifest
    return before.known if before.registration == manifest.registration else {}


def _who(manifest: Manifest, template: str, image: str) -> str:
    """The pair, to be read."""
    images = [image for image, _, _ in manifest.atlases]
    other = f"atlas {images.index(image)}" if image in images else f"template {manifest.templates.index(image)}"
    return f"template {manifest.templates.index(template)}, {other}"


def _ndim(name: str, image: Image, known: int) -> int:
    """The dimension of an image, which is that of those before."""
    if not isinstance(image, Image):
        raise TypeError(f"{name}: expected an Image, got {type(image).__name__}; read files with read_image")
    if known and image.ndim != known:
        raise ValueError(f"{name}: expected a {known}-D image, as the first, got a {image.ndim}-D one")
    return image.ndim
