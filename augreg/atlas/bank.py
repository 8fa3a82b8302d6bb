"""Templates to which all atlases were registered ahead: a new image needs a registration per template, and not per atlas.

    phi_{T -> A} = stored(S -> A) @ online(T -> S),        err(A -> S -> T) <= err(A -> S) + err(S -> T)

(Wang and Zhang, MICCAI 2018). Both terms count when S is chosen for a target T. What stands for them is how alike images look:

    S = argmax_S like(S, T) + w mean_A like(A, S)

like(S, T) the mean local correlation after a rough map, like(A, S) that after the stored registration, known ahead. Several
templates give each atlas several votes with different errors, which counts for more than the choice.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from augreg.atlas.atlas import Atlas
from augreg.atlas.building import building
from augreg.atlas.folder import Folder
from augreg.atlas.likeness import likeness
from augreg.atlas.rough import affine_part, rough, small
from augreg.atlas.routes import Alone, AtHand, Held, Routes, Stored
from augreg.geometry.grid import Grid
from augreg.geometry.image import Image
from augreg.geometry.resampling import warp
from augreg.geometry.transforms import Affine, Transform
from augreg.registration.method import Registration, State, as_method, last
from augreg.registration.scenes import check_contrast

# w: the second term varies less from template to template than the first. Of training people each is segmented from one template;
# the mean Dice is 0.655 with 0, 0.658 with 1, 0.665 with 2 (0.646 with any template), see `python -m benchmarks run atlas`
_WEIGHT = 2.0
# likeness after a rough map from which on it is near the truth. Of training people it is 0.32 to 0.56, and going on from there is
# as good as from nothing (test people: 0.008 worse); of hearts, cut out anywhere, -0.02 to 0.28, and one lost rough map loses a
# person: joint fusion of 12 hearts falls from 0.837 to 0.771, their sections from 0.789 to 0.670. A chosen template that carries
# many atlases has its registration done whole, which is worth 0.003 of Dice with one and 0.005 with three
_ALIKE = 0.3


@dataclass(frozen=True)
class Choice:
    """A template for an image.

    Parameters
    ----------
    template : its number
    likeness : mean local NCC of both after the rough map, -1 to 1; NaN where there was nothing to choose
    start : rough affine map, image space -> template space; None where that is not known
    fit : how much the bank's atlases look like it when they are carried to it, on average; NaN where that is not known
    near : only what is left to do after the rough map is done: see `augreg.registration.Method.near`
    """

    template: int
    likeness: float = float("nan")
    start: Affine | None = None
    fit: float = float("nan")
    near: bool = False


@dataclass(frozen=True)
class TemplateBank:
    """Atlases behind templates: see the module. `TemplateBank.of` and `TemplateBank.direct` make them.

    Parameters
    ----------
    registration : any callable (fixed, moving) -> phi, for the images to come
    routes : templates, atlases and stored transforms
    """

    registration: Registration
    routes: Routes

    @staticmethod
    def of(
        templates: Iterable[Image],
        atlases: Iterable[Atlas],
        registration: Registration,
        folder: str | os.PathLike[str],
        *,
        workers: int = 1,
        scheduler: str | None = None,
    ) -> TemplateBank:
        """Register every atlas to every template, once; what an earlier run has left in the folder is checked and kept.

        A function of its inputs: the same files to the byte wherever and however often it is done, and another list of atlases
        costs only the registrations that were never made. `building` in `augreg.atlas.building` tells how far it is.

        Parameters
        ----------
        templates : images; those of atlases are stored once, and lead to themselves by the identity
        atlases : labelled images; both may be iterators that read one after the other
        registration : any callable; of a dataclass's options or a function of a module
        folder : copies of the images and transforms as ITK files, see `augreg.atlas.folder`
        workers : number of processes of this machine
        scheduler : address of a Dask cluster that does the work instead; all its machines must see the folder

        Raises
        ------
        TypeError, ValueError : for no images, different dimensions, one that comes twice, a folder with other things.
        RuntimeError : where worker after worker is killed; the same call goes on.
        """
        for _ in building(templates, atlases, registration, folder, workers=workers, scheduler=scheduler):
            pass
        return TemplateBank.read(folder, registration)

    @staticmethod
    def read(folder: str | os.PathLike[str], registration: Registration) -> TemplateBank:
        """The bank of a folder.

        Raises
        ------
        FileNotFoundError, ValueError : for a folder without one, another version, missing files.
        """
        kept = Folder(Path(folder).absolute())
        manifest = kept.manifest()
        kept.check(manifest)
        return TemplateBank(registration, Stored(kept, manifest))

    @staticmethod
    def direct(atlases: TemplateBank | Sequence[Atlas], registration: Registration | None = None) -> TemplateBank:
        """Every atlas its own template: a registration per atlas, as accurate as can be. Needs no folder.

        A bank knows how its atlases lie to each other: one rough registration is made then, and where images look alike
        through it the others do only what is left (see `Method.near`), which in 2-D is less than half of the work. The same
        likeness says which atlases an image needs most, where a number is asked for (`choose`, `MultiAtlas`).

        Raises
        ------
        TypeError : for atlases without a registration. ValueError : for none.
        """
        if isinstance(atlases, TemplateBank):
            return TemplateBank(registration or atlases.registration, Alone(atlases.routes))
        if registration is None:
            raise TypeError("registration: expected a callable (fixed, moving) -> Transform, got none")
        if not atlases:
            raise ValueError("atlases: expected at least one, got none")
        return TemplateBank(registration, AtHand(tuple(atlases)))

    def held(self) -> TemplateBank:
        """The same bank with all of its images and transforms in memory: for many images and a bank that fits."""
        return TemplateBank(self.registration, Held.of(self.routes))

    def choose(self, image: Image, count: int | None = None) -> tuple[Choice, ...]:
        """The templates through which atlases should reach an image best, best first; by default all, in order.

        One rough map (`augreg.atlas.rough`) leads from the image to the first template, and stored ones go on from there, to all
        atlases too, if each is its own template (see `direct`); registrations begin with these. Where there is a choice,
        the two terms of the module decide, or the likeness alone in banks that do not know how well atlases fit. For one atlas,
        itself or through a template that leads to no other, what is left after a rough map is enough where images look alike.

        Raises
        ------
        ValueError : for a number below 1, and an image that `check` refuses.
        """
        if count is not None and count < 1:
            raise ValueError(f"count: expected at least 1 template, got {count}")
        self.check(image)
        if count is None or count >= self.routes.templates:
            method, templates = as_method("registration", self.registration), range(self.routes.templates)
            if method.near() is method or not any(map(self._alone, templates)):
                return tuple(map(Choice, templates))
            placed = map(self._begun, self._placed(image))
            return tuple(one if one.near else Choice(one.template) for one in placed)
        return tuple(map(self._begun, self.ranked(image)[:count]))

    def _begun(self, choice: Choice) -> Choice:
        """Whether the rough map of a template is near enough for what it carries."""
        return replace(choice, near=self._alone(choice.template) and choice.likeness >= _ALIKE)

    def _alone(self, t: int) -> bool:
        return len(self.routes.reached(t)) == 1

    def ranked(self, image: Image) -> tuple[Choice, ...]:
        """All templates, the best for an image first; see `choose`."""
        self.check(image)
        found = []
        for choice in self._placed(image):
            template, fit = self.routes.template(choice.template), self.routes.fit(choice.template)
            there, alike = choice.start, choice.likeness
            if there is None:
                there = rough(self.registration, image, template)
                few = small(image)
                alike = likeness(few)(warp(template, there, few.grid))
            found.append(Choice(choice.template, alike, there, math.nan if fit is None else fit))
        weight = 0.0 if any(math.isnan(choice.fit) for choice in found) else _WEIGHT
        return tuple(sorted(found, key=lambda choice: -choice.likeness - (weight * choice.fit if weight else 0.0)))

    def _placed(self, image: Image) -> list[Choice]:
        """All templates with rough maps to them and how alike they look, as far as the bank knows the way from the hub."""
        hub, between = self.routes.hub(), [self.routes.between(t) for t in range(self.routes.templates)]
        if all(phi is None for phi in between):
            return list(map(Choice, range(len(between))))
        few, start = small(image), rough(self.registration, image, hub)
        like, found = likeness(few), []
        for t, phi in enumerate(between):
            there = None if phi is None else affine_part(phi, hub.grid).after(start)
            alike = math.nan if there is None else like(warp(self.routes.template(t), there, few.grid))
            found.append(Choice(t, alike, there))
        return found

    def check(self, image: Image, name: str = "image") -> None:
        """Refuse an image that cannot be registered to the bank's templates.

        Raises
        ------
        ValueError : for one of another dimension, and one without a finite voxel or contrast.
        """
        ndim = self.routes.template(0).ndim
        if image.ndim != ndim:
            raise ValueError(f"{name}: expected a {ndim}-D one, as those of the bank, got a {image.ndim}-D one")
        check_contrast(name, image)

    def propagate(self, image: Image, chosen: Sequence[Choice] | None = None) -> Iterator[Atlas]:
        """The atlases on the grid of an image, through each of the chosen templates, by default all; one after the other."""
        for choice in self.choose(image) if chosen is None else chosen:
            yield from self.carried(choice, self.online(image, choice).transform, image.grid)

    def online(self, image: Image, choice: Choice) -> State:
        """The registration image space -> template space, from the rough map on; where that is near, what is left to do."""
        template, method = self.routes.template(choice.template), as_method("registration", self.registration)
        return last((method.near() if choice.near else method).steps(image, template, initial=choice.start))

    def carried(self, choice: Choice, online: Transform, grid: Grid) -> Iterator[Atlas]:
        """The atlases on a grid, from whose space `online` leads to a template."""
        places = online(grid.points())
        for a in self.routes.reached(choice.template):
            yield self.routes.atlas(a).at(self.routes.to_atlas(choice.template, a)(places), grid)
