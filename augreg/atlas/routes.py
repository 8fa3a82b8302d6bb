"""What a bank knows: templates, atlases, and what leads from the ones to the others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from augreg.atlas import digests
from augreg.atlas.atlas import Atlas
from augreg.atlas.folder import Folder, Manifest
from augreg.atlas.rough import affine_part
from augreg.geometry.image import Image
from augreg.geometry.transforms import Affine, Transform


class Routes(ABC):
    """Templates, atlases, and what leads from the ones to the others."""

    @property
    @abstractmethod
    def templates(self) -> int:
        """Number of templates."""

    @property
    @abstractmethod
    def atlases(self) -> int:
        """Number of atlases."""

    @abstractmethod
    def template(self, t: int) -> Image:
        """A template."""

    @abstractmethod
    def reached(self, t: int) -> Sequence[int]:
        """Numbers of the atlases that a template leads to."""

    @abstractmethod
    def atlas(self, a: int) -> Atlas:
        """An atlas."""

    @abstractmethod
    def to_atlas(self, t: int, a: int) -> Transform:
        """Template space -> atlas space."""

    @abstractmethod
    def find(self, image: Image) -> int | None:
        """The number of the atlas with that image; None if there is none."""

    def hub(self) -> Image:
        """The image that knows the way to all templates."""
        return self.template(0)

    @abstractmethod
    def between(self, t: int) -> Transform | None:
        """Space of the hub -> template space; None where that is not known."""

    def fit(self, t: int) -> float | None:
        """How much the atlases look like a template when they are carried to it, on average; None where that is not known."""
        return None


@dataclass(frozen=True)
class Stored(Routes):
    """Routes of a folder; images and transforms are read where they are needed."""

    folder: Folder
    manifest: Manifest

    @property
    def templates(self) -> int:
        """See `Routes`."""
        return len(self.manifest.templates)

    @property
    def atlases(self) -> int:
        """See `Routes`."""
        return len(self.manifest.atlases)

    def template(self, t: int) -> Image:
        """See `Routes`."""
        return self.folder.image(self.manifest.templates[t])

    def reached(self, t: int) -> Sequence[int]:
        """See `Routes`."""
        return range(len(self.manifest.atlases))

    def atlas(self, a: int) -> Atlas:
        """See `Routes`."""
        return self.folder.atlas(*self.manifest.atlases[a])

    def to_atlas(self, t: int, a: int) -> Transform:
        """See `Routes`."""
        return self._to(self.manifest.templates[t], self.manifest.atlases[a][0])

    def find(self, image: Image) -> int | None:
        """See `Routes`."""
        images = [one for one, _, _ in self.manifest.atlases]
        digest = digests.of_image(image)
        return images.index(digest) if digest in images else None

    def between(self, t: int) -> Transform | None:
        """See `Routes`."""
        return self._to(self.manifest.templates[0], self.manifest.templates[t])

    def fit(self, t: int) -> float | None:
        """See `Routes`."""
        known, template = self.manifest.known, self.manifest.templates[t]
        found = [known[template, image] for image, _, _ in self.manifest.atlases if (template, image) in known]
        return float(np.mean(found)) if found else None

    def _to(self, template: str, image: str) -> Transform:
        if template == image:
            return Affine.identity(self.manifest.ndim)
        return self.folder.transform(self.manifest.registration, template, image)


@dataclass(frozen=True)
class Alone(Routes):
    """The atlases of other routes, each its own template."""

    others: Routes

    @property
    def templates(self) -> int:
        """See `Routes`."""
        return self.atlases

    @property
    def atlases(self) -> int:
        """See `Routes`."""
        return self.others.atlases

    def template(self, t: int) -> Image:
        """See `Routes`."""
        return self.others.atlas(t).image

    def reached(self, t: int) -> Sequence[int]:
        """See `Routes`."""
        return (t,)

    def atlas(self, a: int) -> Atlas:
        """See `Routes`."""
        return self.others.atlas(a)

    def to_atlas(self, t: int, a: int) -> Transform:
        """See `Routes`."""
        return Affine.identity(self.others.atlas(a).image.ndim)

    def find(self, image: Image) -> int | None:
        """See `Routes`."""
        return self.others.find(image)

    def hub(self) -> Image:
        """The first of the templates of the others."""
        return self.others.hub()

    def between(self, t: int) -> Transform | None:
        """See `Routes`: what a bank has stored."""
        return self.others.to_atlas(0, t) if t in self.others.reached(0) else None


@dataclass(frozen=True, eq=False)
class AtHand(Routes):
    """Atlases in memory, each its own template."""

    given: tuple[Atlas, ...]

    @property
    def templates(self) -> int:
        """See `Routes`."""
        return len(self.given)

    @property
    def atlases(self) -> int:
        """See `Routes`."""
        return len(self.given)

    def template(self, t: int) -> Image:
        """See `Routes`."""
        return self.given[t].image

    def reached(self, t: int) -> Sequence[int]:
        """See `Routes`."""
        return (t,)

    def atlas(self, a: int) -> Atlas:
        """See `Routes`."""
        return self.given[a]

    def to_atlas(self, t: int, a: int) -> Transform:
        """See `Routes`."""
        return Affine.identity(self.given[a].image.ndim)

    def find(self, image: Image) -> int | None:
        """See `Routes`."""
        digest = digests.of_image(image)
        return next((a for a, one in enumerate(self.given) if digests.of_image(one.image) == digest), None)

    def between(self, t: int) -> Transform | None:
        """See `Routes`."""
        return None


@dataclass(frozen=True, eq=False)
class Held(Routes):
    """Other routes, read once."""

    images: tuple[Image, ...]
    given: tuple[Atlas, ...]
    transforms: Mapping[tuple[int, int], Transform]
    center: Image
    firsts: tuple[Affine | None, ...]
    fits: tuple[float | None, ...]

    @staticmethod
    def of(routes: Routes) -> Held:
        """All of them."""
        templates, atlases = range(routes.templates), range(routes.atlases)
        center, between = routes.hub(), map(routes.between, templates)
        return Held(
            tuple(map(routes.template, templates)),
            tuple(map(routes.atlas, atlases)),
            {(t, a): routes.to_atlas(t, a) for t in templates for a in routes.reached(t)},
            center,
            tuple(None if phi is None else affine_part(phi, center.grid) for phi in between),
            tuple(map(routes.fit, templates)),
        )

    @property
    def templates(self) -> int:
        """See `Routes`."""
        return len(self.images)

    @property
    def atlases(self) -> int:
        """See `Routes`."""
        return len(self.given)

    def template(self, t: int) -> Image:
        """See `Routes`."""
        return self.images[t]

    def reached(self, t: int) -> Sequence[int]:
        """See `Routes`."""
        return [a for a in range(len(self.given)) if (t, a) in self.transforms]

    def atlas(self, a: int) -> Atlas:
        """See `Routes`."""
        return self.given[a]

    def to_atlas(self, t: int, a: int) -> Transform:
        """See `Routes`."""
        return self.transforms[t, a]

    def find(self, image: Image) -> int | None:
        """See `Routes`."""
        return AtHand(self.given).find(image)

    def hub(self) -> Image:
        """See `Routes`."""
        return self.center

    def between(self, t: int) -> Affine | None:
        """The affine part, see `augreg.atlas.rough`: nobody asks for more."""
        return self.firsts[t]

    def fit(self, t: int) -> float | None:
        """See `Routes`."""
        return self.fits[t]
