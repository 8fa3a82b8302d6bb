"""A bank on disk: every part under a name that says what it is made of, so that what is there is never of other inputs.

    images/IMAGE.mha  labels/ATLAS.mha  seen/ATLAS.mha             copies of what was given
    transforms/REGISTRATION-TEMPLATE-IMAGE.h5                      template space -> space of the image, ITK composites
    bank.json                                                      what belongs to the bank, in order; written last

Names in capitals are digests. What another list of atlases has left in the folder is not read, and found again if it comes back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from augreg.atlas import digests
from augreg.atlas.atlas import Atlas
from augreg.geometry.image import Image, Labels
from augreg.geometry.transforms import Transform
from augreg.io import atomic, read_image, read_labels, read_transform, write_image

_KIND, _VERSION, _NAME = "augreg template bank", 1, "bank.json"


@dataclass(frozen=True)
class Manifest:
    """What belongs to a bank.

    Parameters
    ----------
    registration : digest of what made its transforms
    ndim : dimension of its images
    templates : digests of their images
    atlases : digests of image, atlas, and whether there is a map of what is seen
    about : what the caller wants to find again, such as options
    likeness : of every pair, how much the image looks like the template through its transform; nothing in banks of before
    """

    registration: str
    ndim: int
    templates: tuple[str, ...]
    atlases: tuple[tuple[str, str, bool], ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    likeness: tuple[float, ...] = ()

    @property
    def known(self) -> dict[tuple[str, str], float]:
        """The likeness of pairs."""
        return dict(zip(self.pairs, self.likeness, strict=True)) if self.likeness else {}

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Template and image of every registration, each once: every template to every atlas, the first to other templates, too.

        What leads an image to itself needs none.
        """
        images = [image for image, _, _ in self.atlases]
        wanted = [(template, image) for template in self.templates for image in images]
        wanted += [(self.templates[0], image) for image in self.templates[1:]]
        return tuple(dict.fromkeys((template, image) for template, image in wanted if template != image))


@dataclass(frozen=True)
class Folder:
    """The files of a bank.

    Parameters
    ----------
    path : of the folder
    """

    path: Path

    def make(self) -> None:
        """The folder and those in it.

        Raises
        ------
        ValueError : for a folder that holds something else.
        """
        if self.there():
            self.manifest()
        elif self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path}: expected a folder for the bank, got a file; choose another name")
        elif self.path.exists() and any(part.name not in _PARTS for part in self.path.iterdir()):
            raise ValueError(f"{self.path}: expected an empty folder or a bank, got a folder with other files; choose another")
        for name in _PARTS:
            (self.path / name).mkdir(parents=True, exist_ok=True)

    def there(self) -> bool:
        """Whether it is a bank."""
        return (self.path / _NAME).exists()

    def manifest(self) -> Manifest:
        """What belongs to the bank.

        Raises
        ------
        FileNotFoundError : without one. ValueError : for another version, or what is none.
        """
        path = self.path / _NAME
        if not path.is_file():
            raise FileNotFoundError(f"{self.path}: expected a bank with {_NAME}, got none; make one with augreg atlas build")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["kind"] != _KIND:
                raise KeyError(found["kind"])
            version = found["version"]
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: expected the list of a bank of augreg, got something else") from error
        if version != _VERSION:
            raise ValueError(f"{path}: expected version {_VERSION}, got {version}; build the bank again in another folder")
        try:
            atlases = tuple((str(image), str(atlas), bool(seen)) for image, atlas, seen in found["atlases"])
            templates = tuple(map(str, found["templates"]))
            if not atlases or not templates:
                raise ValueError(found)
            alike = tuple(map(float, found.get("likeness", ())))
            manifest = Manifest(str(found["registration"]), int(found["ndim"]), templates, atlases, dict(found["about"]), alike)
            if alike and len(alike) != len(manifest.pairs):
                raise ValueError(found)
            return manifest
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: expected registration, templates and atlases, got a file without some") from error

    def claim(self, manifest: Manifest) -> None:
        """Write the list, when all else is there."""
        text = json.dumps({"kind": _KIND, "version": _VERSION, **asdict(manifest)}, indent=1, sort_keys=True)
        with atomic(self.path / _NAME) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def keep(self, image: Image) -> str:
        """The digest of an image that is in the folder now."""
        digest = digests.of_image(image)
        self._write(image, "images", digest)
        return digest

    def keep_atlas(self, atlas: Atlas) -> tuple[str, str, bool]:
        """The digests of an atlas that is in the folder now."""
        digest = digests.of_atlas(atlas)
        self._write(atlas.labels, "labels", digest)
        if atlas.seen is not None:
            self._write(atlas.seen, "seen", digest)
        return self.keep(atlas.image), digest, atlas.seen is not None

    def image(self, digest: str) -> Image:
        """An image."""
        return read_image(self._there("images", f"{digest}.mha"))

    def atlas(self, image: str, atlas: str, seen: bool) -> Atlas:
        """An atlas."""
        labels = read_labels(self._there("labels", f"{atlas}.mha"))
        return Atlas(self.image(image), labels, read_labels(self._there("seen", f"{atlas}.mha")) if seen else None)

    def route(self, registration: str, template: str, image: str) -> Path:
        """The file of a transform."""
        return self.path / "transforms" / f"{registration}-{template}-{image}.h5"

    def transform(self, registration: str, template: str, image: str) -> Transform:
        """Template space -> space of the image."""
        return read_transform(self._there("transforms", self.route(registration, template, image).name))

    def check(self, manifest: Manifest) -> None:
        """Refuse a bank that lacks a file.

        Raises
        ------
        ValueError : for the first that is missing.
        """
        for image in {*manifest.templates, *(image for image, _, _ in manifest.atlases)}:
            self._there("images", f"{image}.mha")
        for _, atlas, seen in manifest.atlases:
            self._there("labels", f"{atlas}.mha")
            if seen:
                self._there("seen", f"{atlas}.mha")
        for pair in manifest.pairs:
            self._there("transforms", self.route(manifest.registration, *pair).name)

    def _there(self, part: str, name: str) -> Path:
        path = self.path / part / name
        if not path.is_file():
            raise ValueError(f"{path}: expected a file of the bank, it is missing; run augreg atlas build again to finish it")
        return path

    def _write(self, part: Image | Labels, folder: str, digest: str) -> None:
        path = self.path / folder / f"{digest}.mha"
        if not path.exists():
            write_image(part, path)


_PARTS = ("images", "labels", "seen", "transforms")
