"""What networks learn from prostates, and how.

affine        an affine map from features of both images at once (Hu et al., MICCAI 2018, its global part)
cascade       such a map, then a U-net's flow of velocities on what it leaves, composed, in one lesson (their whole network)
frozen        the map of `affine` as it is, then such a flow in a lesson of its own
marked        each image is marked by itself, moments of the marks give scales and a shift
together      the marks of all seeds of `marked`, averaged: nothing is learned any more
bending ...   `marked` of the same seed, whose marks stay as they are, and a flow of velocities on what it leaves, learned from
              the overlap of glands and a regulariser, or a critic that knows fields of finite elements
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.networks import (
    AffineFlow,
    Cascade,
    Committee,
    Marked,
    Marker,
    Moments,
    Network,
    StackedEncoder,
    UNet,
    VelocityFlow,
    read_network,
    seeded,
    write_network,
)
from augreg.sam import AppearanceModel, fit_appearance_model
from augreg.synthesis import ElasticField, PairBatch
from augreg.training import (
    WEIGHTS,
    Batches,
    Bending,
    Fields,
    LabelOverlap,
    Objective,
    Outlined,
    Plausible,
    RealPairs,
    Smooth,
    fields_of,
    jittered,
    mirrored,
    pairs_of_table,
    seen_differently,
    shaded,
)
from benchmarks.experiments.glands import GLAND
from benchmarks.experiments.lessons import Lesson

# mm; the axis along which a body is nearly symmetric
SPACING, _SIDEWAYS = 3.0, 1
_BATCH, _WIDTH = 4, 0.5
STEPS, RATE = 1500, 3e-3
# at 3e-3 maps of features leave the image in the first hundred steps, and do not come back
AFFINE_RATE = 3e-4
# of what comes after the marks
LATER_STEPS, LATER_RATE = 300, 2e-3
# of each regulariser
WEIGHTS_OF = {"bending": 3.0, "diffusion": 1.0, "plausible": 0.03, "critic": 0.02}
SEEDS = {"affine": 1, "cascade": 1, "frozen": 1, "marked": 3, **dict.fromkeys(WEIGHTS_OF, 3)}
# of an affine map that learns at a U-net's rate
_GAIN = 0.01
# fields of finite elements that a critic knows
_FIELDS = 96


def lesson(method: str, seed: int, pairs: RealPairs, folder: Path, weight: float | None = None) -> Lesson:
    """What a network learns; `folder` has the networks that were there before; `weight` is that of a regulariser."""
    overlap = LabelOverlap(spacing=pairs.spacing)
    batches = seen(pairs, seed)
    if method == "affine":
        return Lesson(partial(seeded, seed, _affine), batches, overlap, STEPS, AFFINE_RATE)
    if method == "cascade":
        bent = Bending(overlap, WEIGHTS_OF["bending"])
        return Lesson(partial(seeded, seed, _whole), batches, bent, STEPS, LATER_RATE)
    if method == "marked":
        return Lesson(partial(seeded, seed, _marked), batches, Outlined(overlap), STEPS, RATE)
    if method == "frozen":
        bent = Bending(overlap, WEIGHTS_OF["bending"])
        return Lesson(partial(_frozen, seed, folder), batches, bent, LATER_STEPS, LATER_RATE)
    weight = WEIGHTS_OF[method] if weight is None else weight
    make = partial(_cascaded, seed, folder)
    if method == "critic":
        drawn = _known(elastic(pairs), seed)
        return Lesson(make, batches, overlap, LATER_STEPS, LATER_RATE, sees=Fields(drawn), weight=weight)
    return Lesson(make, batches, _regularised(method, weight, overlap, pairs), LATER_STEPS, LATER_RATE)


def seen(pairs: RealPairs, seed: int) -> Batches:
    """Pairs of every step: each image in a pose and with a look of its own, half of the batches mirrored."""
    batches = pairs_of_table(pairs.pairs, _BATCH, seed)
    batches = jittered(batches, rotation=10.0, scale=0.1, shift=9.0 / SPACING, bend=1.0, seed=seed)
    batches = seen_differently(shaded(batches, gain=0.2, seed=seed), gamma=0.3, noise=0.02, seed=seed)

    def sideways(step: int) -> PairBatch:
        batch = batches(step)
        return mirrored(batch, [_SIDEWAYS]) if np.random.default_rng([seed, step, 9]).random() < 0.5 else batch

    return sideways


def together(seeds: int, spacing: tuple[float, ...], folder: Path) -> Path:
    """The file of the network with the marks of all seeds."""
    path = folder / "together" / WEIGHTS
    found = [read_network(folder / f"marked-s{seed}" / WEIGHTS).network for seed in range(seeds)]
    sides = zip(*([*network.markers] for network in found if isinstance(network, Marked)), strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_network(Marked([Committee([*side]) for side in sides], Moments(3)), spacing, path)
    return path


def shapes(pairs: RealPairs) -> AppearanceModel:
    """A model of the shapes of the training patients' glands in ultrasound."""
    grid = Grid(pairs.shape, pairs.spacing)
    images = [Image(values[0].numpy(), grid) for values in pairs.pairs.fixed]
    assert pairs.pairs.fixed_labels is not None
    labels = [Labels(values[0].numpy(), grid) for values in pairs.pairs.fixed_labels]
    return fit_appearance_model(images, labels=labels, alignment="similarity", points=200)


def elastic(pairs: RealPairs) -> torch.Tensor:
    """Flows of finite elements, voxels: tissue and gland of random stiffness, in turns those of all training patients."""
    grid = Grid(pairs.shape, pairs.spacing)
    assert pairs.pairs.fixed_labels is not None
    labels = pairs.pairs.fixed_labels
    drawn = []
    for number in range(_FIELDS):
        family = ElasticField(Labels(labels[number % len(labels), 0].numpy(), grid))
        drawn.append(fields_of([family], grid, 1, seed=number)(0))
    return torch.cat(drawn)


def _known(flows: torch.Tensor, seed: int) -> Callable[[int], torch.Tensor]:
    return lambda step: flows[torch.from_numpy(np.random.default_rng([seed, step, 11]).permutation(len(flows))[:_BATCH])]


def _regularised(method: str, weight: float, overlap: Objective, pairs: RealPairs) -> Objective:
    if method == "bending":
        return Bending(overlap, weight)
    return Smooth(overlap, weight) if method == "diffusion" else Plausible(overlap, shapes(pairs), weight)


def _affine() -> Network:
    return AffineFlow(StackedEncoder(3, 1, 0.125))


def _whole() -> Network:
    return Cascade([AffineFlow(StackedEncoder(3, 1, 0.125), _GAIN), _flow(1)])


def _frozen(seed: int, folder: Path) -> Network:
    first = read_network(folder / f"affine-s{seed}" / WEIGHTS).network.requires_grad_(False)
    return Cascade([first, seeded(seed, lambda: _flow(1))])


def _flow(channels: int) -> Network:
    return VelocityFlow(UNet(3, channels, _WIDTH, [(2, 2, 2)] * 3), steps=2)


def _marked() -> Network:
    # two scanners: one for each
    return Marked([Marker(3, 1, 1, _WIDTH) for _ in range(2)], Moments(3))


def _cascaded(seed: int, folder: Path) -> Network:
    first = read_network(folder / f"marked-s{seed}" / WEIGHTS).network
    assert isinstance(first, Marked)
    markers: list[Marker | Committee] = list(first.markers)  # type: ignore[arg-type]  # modules in a list have lost their type
    for marker in markers:
        marker.requires_grad_(False)
    # image and gland
    flow = seeded(seed, lambda: _flow(1 + GLAND))
    return Marked(markers, Cascade([Moments(3), flow]))
