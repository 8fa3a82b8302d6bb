"""A recipe is data: every number that the weights of a network depend on, but for the images, the seed and the machine.

It becomes JSON and comes back equal (`described`, `Recipe.of`): `augreg train --explain` prints it, a run keeps it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from augreg.networks import DESCRIPTORS
from augreg.recipes.priors import prior_words
from augreg.recipes.shapes import MAPS, MARKERS, TRUNKS
from augreg.recipes.words import objective_words
from augreg.sam.density import KINDS, Kind
from augreg.synthesis import SmoothField

CONTRASTS = ("none", "maps", "labels")
TARGETS = ("none", "shapes")
Mirrored = Literal["none", "sideways", "all"]


def _check(holder: object, expected: str, good: Callable[[float], bool], *names: str) -> None:
    for name in names:
        value = getattr(holder, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and good(value)):
            raise ValueError(f"{name}: expected {expected}, got {value!r}")


@dataclass(frozen=True)
class Turn:
    """One way to draw pairs from an appearance model, see `augreg.synthesis.AppearancePairs`. The turns of a recipe alternate.

    Parameters
    ----------
    appearance : correlation of the two appearances: "shared", "independent", or a number from 0 to 1
    pose : factor on the training poses' spread
    amplitude : factor on the standard deviations of the model's shapes
    rest : families of random fields, mm, one of which is added to every shape: what the landmarks have not shown
    shapes : density that shapes are drawn from: "gaussian", "kernel", "mixture" or "best"

    Raises
    ------
    ValueError : for numbers out of range.
    """

    appearance: float | str = "shared"
    pose: float = 1.0
    amplitude: float = 1.0
    rest: tuple[SmoothField, ...] = ()
    shapes: Kind = "gaussian"

    def __post_init__(self) -> None:
        known = ("shared", "independent")
        if self.appearance not in known and (isinstance(self.appearance, str) or not 0 <= self.appearance <= 1):
            raise ValueError(f"appearance: expected shared, independent or a correlation from 0 to 1, got {self.appearance!r}")
        _check(self, "a number of at least 0", lambda value: value >= 0, "pose", "amplitude")
        if self.shapes not in KINDS:
            raise ValueError(f"shapes: expected one of {', '.join(KINDS)}, got {self.shapes!r}")
        for family in self.rest:
            _check(family, "a positive number of mm", lambda value: value > 0, "spacing")
            if not family.magnitudes or min(family.magnitudes) < 0:
                raise ValueError(f"rest: expected magnitudes of at least 0 mm, got {family.magnitudes}")

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Turn:
        """The turn that JSON describes."""
        rest = tuple(SmoothField(family["spacing"], tuple(family["magnitudes"])) for family in about.get("rest", ()))
        return cls(**{**about, "rest": rest})


@dataclass(frozen=True)
class Recipe:
    """What a network learns from, and how.

    Parameters
    ----------
    turns : ways to draw the pairs, one step each in turns
    intensity : standard deviation of the logarithm of a smooth gain, independent for both images
    gamma, noise : spread of the images' looks, see `augreg.training.seen_differently`; where both are 0 images stay as they are
    jitter : deviation of angles (degrees) and shifts (mm) that move each image of a real pair, and its labels, by itself; with
        angles sizes vary by a tenth
    bend : deviation of smooth displacements of each image of a real pair, mm
    shade : deviation of the logarithm of smooth gains of each image, see `augreg.training.shaded`
    centred : whether the centres of a pair's grids are put on each other first, in training and use: for images of two scanners
    symmetric : whether half of a batch is the other half with its images exchanged
    mirrored : sideways exchanges left and right (the first axis) of a batch by chance, all mirrors every axis by chance
    curriculum : share of the steps over which shapes grow from a quarter to their size
    pool : pairs that are drawn once, kept in memory and shown again and again; None draws new ones at every step
    architecture, width, window : trunk of the network, parameters as of `augreg.networks.FlowNet`
    map : what it predicts, see `augreg.recipes.shapes`
    marks : whether structures are marked in each image by itself first: none, by one marker for both images, or by two; for pairs
        with label maps, see `augreg.networks.Marked`
    antisymmetric : whether exchanged images give the inverse map, for velocities
    scales : block sizes in voxels, from coarse to fine, one network each, one after the other; (1,) is one network
    batch : pairs of a step, of all processes
    steps : number of steps of Adam
    learning_rate, halvings, warm_up, weight_decay, clip : parameters of the optimiser, see `augreg.training.TrainingOptions`
    objective : what is minimised, in words: see `augreg.recipes.words`
    likeness : weight of how unlike the fixed and the warped image are, beside the end-point error
    smoothness : weight of the flow's mean squared gradient beside the objective
    bending : weight of the flow's mean squared second differences beside the objective; affine maps have none
    prior : what maps are held to beside it, in words: see `augreg.recipes.priors`
    descriptor : what a network sees of images: none, themselves, or what a change of contrast leaves, mind or edges, see
        `augreg.networks.Described`
    steered : whether images are matched first, and the network learns what matching leaves, see `augreg.networks.Steered`
    patience : looks at pairs held out, one in 100 steps, without a better one, after which training ends with the best network;
        None takes all steps
    contrasts : whether each image gets a contrast of its own: none, maps (random maps of intensities) or labels (random means and
        textures of labels), see `augreg.training.contrast_mapped` and `contrast_drawn`
    targets : truth of real pairs: none, or shapes, maps that match the outlines of label maps, see `augreg.training.matched`
    tile : side of patches that are learned from, voxels, see `augreg.training.patches`; None is whole images

    Raises
    ------
    ValueError : for numbers out of range.
    """

    turns: tuple[Turn, ...] = (Turn("shared"), Turn("independent"))
    intensity: float = 0.05
    gamma: float = 0.0
    noise: float = 0.0
    jitter: tuple[float, float] = (0.0, 0.0)
    bend: float = 0.0
    shade: float = 0.0
    centred: bool = False
    symmetric: bool = False
    mirrored: Mirrored = "none"
    curriculum: float = 0.0
    pool: int | None = None
    architecture: str = "FlowNetS"
    width: float = 0.25
    window: int | None = None
    map: str = "displacement"
    marks: str = "none"
    antisymmetric: bool = False
    scales: tuple[int, ...] = (1,)
    batch: int = 8
    steps: int = 2000
    learning_rate: float = 1e-3
    halvings: int = 3
    warm_up: int = 20
    weight_decay: float = 4e-4
    clip: float = 5.0
    objective: str = "truth"
    likeness: float = 6.0
    smoothness: float = 0.0
    bending: float = 0.0
    prior: str = "none"
    contrasts: str = "none"
    descriptor: str = "none"
    steered: bool = False
    targets: str = "none"
    tile: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        zero = ("intensity", "gamma", "noise", "bend", "shade", "halvings", "weight_decay", "likeness", "smoothness", "bending")
        _check(self, "a number of at least 0", lambda value: value >= 0, *zero)
        _check(self, "a positive number", lambda value: value > 0, "width", "learning_rate", "clip")
        _check(self, "a positive whole number", lambda value: value > 0 and value == int(value), "batch", "steps", "warm_up")
        _check(self, "a share from 0 to 1", lambda value: 0 <= value <= 1, "curriculum")
        known = {"mirrored": get_args(Mirrored), "architecture": TRUNKS, "map": MAPS, "marks": MARKERS, "contrasts": CONTRASTS}
        known |= {"targets": TARGETS, "descriptor": ("none", *DESCRIPTORS)}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name}: expected one of {', '.join(values)}, got {getattr(self, name)!r}")
        for name in ("symmetric", "antisymmetric", "centred", "steered"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: expected true or false, got {getattr(self, name)!r}")
        if self.steered and (self.map != "displacement" or self.marks != "none"):
            raise ValueError(
                f"steered: expected the map displacement and no marks, got {self.map} and {self.marks}; leave it out"
            )
        if len(self.jitter) != 2 or not all(isinstance(n, int | float) and 0 <= n < math.inf for n in self.jitter):
            raise ValueError(f"jitter: expected degrees and mm, numbers of at least 0, got {self.jitter!r}")
        if self.window is not None and not (isinstance(self.window, int) and self.window >= 3 and self.window % 2):
            raise ValueError(f"window: expected a window of 3 voxels or more, an odd number, got {self.window!r}")
        if self.window is not None and not self.architecture.startswith("FlowNet"):
            raise ValueError(
                f"window: expected none with {self.architecture}, which has no such part, got {self.window}; leave it out"
            )
        if not self.scales or any(not isinstance(s, int) or s < 1 for s in self.scales):
            raise ValueError(f"scales: expected whole numbers of voxels, 1 or more, as 4 2 1, got {self.scales}")
        if "velocity" in dict(objective_words(self.objective)) and (self.map != "velocity" or self.scales != (1,)):
            raise ValueError(
                f"objective: expected the map velocity at one scale for velocity, got {self.map} at {self.scales}; take truth"
            )
        if self.tile is not None:
            _check(self, "a positive whole number", lambda value: value > 0 and value == int(value), "tile")
            if self.map not in ("displacement", "velocity"):
                raise ValueError(f"tile: expected a map that looks nearby, got {self.map}, which needs the whole; leave it out")
            if prior_words(self.prior):
                raise ValueError(f"tile: expected no prior, which knows whole maps, got {self.prior}; leave one out")
        if self.patience is not None:
            _check(self, "a positive whole number", lambda value: value > 0 and value == int(value), "patience")
        if prior_words(self.prior) and self.map in ("affine", "moments"):
            raise ValueError(f"prior: expected a map that bends, affine ones cost nothing, got {self.map}; leave it out")
        if self.pool is not None:
            _check(self, "a positive whole number", lambda value: value > 0 and value == int(value), "pool")
        if not self.turns:
            raise ValueError("turns: expected at least one way to draw pairs, got none")
        if self.symmetric and self.batch % 2:
            raise ValueError(f"batch: expected an even number, of pairs and the same pairs exchanged, got {self.batch}")
        if self.pool is not None and (self.pool < self.drawn or self.pool % self.drawn):
            raise ValueError(f"pool: expected a multiple of the {self.drawn} pairs that a step draws, got {self.pool}")
        if self.pool is not None and self.curriculum:
            raise ValueError("curriculum: expected 0 beside a pool, whose pairs are drawn before the first step; leave one out")

    @property
    def drawn(self) -> int:
        """Pairs that are drawn for a step, of all processes."""
        return self.batch // 2 if self.symmetric else self.batch

    def described(self) -> dict[str, Any]:
        """All of it as JSON."""
        about: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return about

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Recipe:
        """The recipe that JSON describes; what it does not say is the default.

        Raises
        ------
        ValueError : for what is not a recipe.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(about) - known):
            raise ValueError(f"recipe: expected values named {', '.join(sorted(known))}, got {', '.join(unknown)}")
        try:
            listed: dict[str, Any] = {"turns": tuple(map(Turn.of, about["turns"]))} if "turns" in about else {}
            listed |= {name: tuple(about[name]) for name in ("scales", "jitter") if name in about}
            return cls(**{**about, **listed})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"recipe: expected numbers and turns as `augreg train --explain` prints them, got {error}"
            ) from error
