"""Segmentation by several atlases: propagate, then fuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from augreg.atlas.bank import TemplateBank
from augreg.atlas.fusion import Fused, Fusion, fuse
from augreg.atlas.joint import JointFusion
from augreg.geometry.image import Image
from augreg.registration.clock import Clock
from augreg.registration.method import Method, State, as_method
from augreg.registration.pair import Pair


@dataclass(frozen=True)
class MultiAtlas:
    """A callable image -> label map, agreement, and probabilities on demand.

    With `TemplateBank.direct(bank)` and no count it is direct multi-atlas segmentation.

    Parameters
    ----------
    bank : templates and atlases
    count : number of templates, those that look most like the image; None for all
    fusion : see `augreg.atlas.fusion`
    """

    bank: TemplateBank
    count: int | None = 3
    fusion: Fusion = field(default_factory=JointFusion)

    def __call__(self, image: Image) -> Fused:
        """The label map of an image, from all atlases through the chosen templates.

        Raises
        ------
        ValueError : for an image of another dimension, and what the registration cannot use.
        """
        return fuse(image, tuple(self.bank.propagate(image, self.bank.choose(image, self.count))), self.fusion)


@dataclass(frozen=True)
class TemplateRegistration(Method):
    """Registration to the images of a bank, through the template that looks most like the fixed image.

    phi = stored(S -> moving) @ online(fixed -> S): one registration, wherever the moving image lies in the bank.

    Parameters
    ----------
    bank : the moving images are those of its atlases
    """

    bank: TemplateBank

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        """Those of the online registration."""
        routes = self.bank.routes
        a = routes.find(pair.moving)
        if a is None:
            raise ValueError("moving: expected an image of the bank, got another; build the bank again with it")
        choice = next(one for one in self.bank.ranked(pair.fixed) if a in routes.reached(one.template))
        stored, template = routes.to_atlas(choice.template, a), routes.template(choice.template)
        online = Pair(fixed=pair.fixed, moving=template, fixed_mask=pair.fixed_mask)
        unused = [name for name in pair.known() if name != "fixed_mask"]
        said = (f"{', '.join(unused)}: not used by a registration through a template",) if unused else ()
        for state in as_method("registration", self.bank.registration)._states(online, clock):
            yield replace(state, transform=stored @ state.transform, warnings=(*said, *state.warnings))
