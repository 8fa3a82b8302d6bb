"""What networks learn from hearts, and how.

    unsupervised   local correlation of the images, and smooth velocities
    labels         overlap of label maps, and smooth velocities; images of both people go into one trunk
    targets        maps that match the outlines of label maps, made beforehand
    velocities     the logarithms of these maps (SVF-Net, Rohe et al., MICCAI 2017)
    marked         overlap of label maps; each image is marked by itself first, and the trunk sees images and marks
    marks          each image is marked by itself, and nothing else is learned: moments of the marks give scales and a shift
    together       the marks of three seeds of `marks`, averaged and kept as they are; velocities of what images and marks show

All but `marks` predict antisymmetric velocities, on cells of two pixels of two; slices of volumes have their own cells at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from augreg import metrics
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import resample, warp
from augreg.geometry.transforms import Affine
from augreg.matching import ShapeRegistration
from augreg.networks import (
    Antisymmetric,
    Committee,
    Map,
    Marked,
    Marker,
    Moments,
    Network,
    UNet,
    VelocityFlow,
    read_network,
    seeded,
)
from augreg.synthesis import PairBatch
from augreg.tensors import displacement_to_flow, image_to_tensor
from augreg.training import (
    WEIGHTS,
    Batches,
    LabelOverlap,
    Likeness,
    Objective,
    Outlined,
    Smooth,
    jittered,
    mirrored_by_chance,
    pairs_from_images,
    pairs_from_memory,
    seen_differently,
    shaded,
    supervised,
    velocities,
)
from benchmarks.experiments.lessons import Lesson
from benchmarks.experiments.people import Subject
from benchmarks.experiments.sections import Sections

# pixels, of volumes nominal mm
SPACING = {"cardiac2d": (2.0, 2.0), "hearts3d": (2.0, 2.0), "volumes": (3.0, 3.0, 10.0)}
STEPS, SMOOTH = {"cardiac2d": 800, "hearts3d": 1200, "volumes": 700}, 0.1
# at 0.003 the marks of volumes, two pairs a step, were lost after 250 steps
RATE = {"cardiac2d": 3e-3, "hearts3d": 3e-3, "volumes": 1e-3}
_WIDTH = 0.5
# of what comes after the marks, and how many networks mark
LATER_STEPS, _COMMITTEE = {"cardiac2d": 800, "hearts3d": 400, "volumes": 300}, 3
# by the number of axes: pairs of a step, strides of the stages, and stages before the cells on which marks are found
_BATCH = {2: 4, 3: 2}
_STRIDES = {2: [(2, 2)] * 4, 3: [(2, 2, 1), (2, 2, 2), (2, 2, 2), (2, 2, 1)]}
_FINEST = {2: 0, 3: 1}
SEEDS = {"unsupervised": 1, "labels": 1, "targets": 1, "velocities": 1, "marked": 3, "marks": 3, "together": 1}
# pairs whose outlines are matched, tried at most, and the least mean Dice of a match
_MATCHED, _TRIED, _GOOD = 60, 180, 0.8


@dataclass(frozen=True)
class _Looks:
    """How images are moved and seen: deviations of angles (degrees), of logarithms of sizes, of shifts (voxels), of logarithms
    of exponents and of gains; and whether they are mirrored by chance."""

    rotation: float = 10.0
    sizes: float = 0.1
    shift: float = 3.0
    gamma: float = 0.3
    gain: float = 0.2
    mirrored: bool = False


# chosen on training people of `cardiac2d`, whose ventricles are in the middle: networks that mark see them from any side, those
# that come after them do not
_WIDE = _Looks(sizes=0.2, gamma=0.5, gain=0.3)
_MIDDLE = replace(_WIDE, shift=1.0)
_LATER = {"cardiac2d": _MIDDLE, "hearts3d": _WIDE, "volumes": _WIDE}
_MARKING = _LATER | {"cardiac2d": replace(_MIDDLE, rotation=60.0, mirrored=True)}


def lesson(method: str, seed: int, study: Sections, folder: Path) -> Lesson:
    """What a network learns; `folder` has the folders of the study's networks that were there before."""
    spacing, structures = SPACING[study.name], study.structures
    ndim, K = len(spacing), len(structures)
    overlap = LabelOverlap(structures, tuple(k * spacing[0] for k in (0.0, 1.0, 2.0, 4.0)), spacing)
    rate = RATE[study.name]
    if method in ("marks", "together"):
        looks = _LATER if method == "together" else _MARKING
        drawn = _poses(study.training, seed, spacing, looks[study.name])
        if method == "together":
            return Lesson(partial(_together, seed, study, folder), drawn, Smooth(overlap, SMOOTH), LATER_STEPS[study.name], rate)
        make = partial(seeded, seed, partial(_moments, ndim, K))
        return Lesson(make, drawn, Outlined(_still, structures), STEPS[study.name], rate)
    known: dict[str, Objective] = {
        "unsupervised": Smooth(Likeness(), 0.5),
        "labels": Smooth(overlap, SMOOTH),
        "targets": supervised,
        "velocities": velocities,
        "marked": Outlined(Smooth(overlap, SMOOTH), structures),
    }
    network = partial(seeded, seed, partial(_network, ndim, K * (method == "marked")))
    make_pairs = _targets if method in ("targets", "velocities") else _poses
    return Lesson(network, make_pairs(study.training, seed, spacing), known[method], STEPS[study.name], rate)


def _still(_: Sequence[Map], batch: PairBatch) -> torch.Tensor:
    """Of maps nothing is asked."""
    return torch.zeros((), device=batch.fixed.device)


def _poses(subjects: Sequence[Subject], seed: int, spacing: tuple[float, ...], looks: _Looks = _Looks()) -> Batches:
    """Pairs of two people, each image in a pose and with a look of its own."""
    images, labels = zip(*(_coarse(one, spacing) for one in subjects), strict=True)
    return _jittered(pairs_from_images(images, _BATCH[len(spacing)], seed, labels=labels), seed, spacing, looks)


def _jittered(batches: Batches, seed: int, spacing: tuple[float, ...], looks: _Looks = _Looks()) -> Batches:
    far, bend = looks.shift * spacing[0], spacing[0]
    moved = jittered(batches, rotation=looks.rotation, scale=looks.sizes, shift=far, bend=bend, spacing=spacing, seed=seed)
    seen = seen_differently(shaded(moved, gain=looks.gain, seed=seed), gamma=looks.gamma, noise=0.02, seed=seed)
    return mirrored_by_chance(seen, seed) if looks.mirrored else seen


def known_pairs(subjects: Sequence[Subject], seed: int, spacing: tuple[float, ...], count: int | None = None) -> PairBatch:
    """Pairs of two people whose outlines were matched; where they could not be, another pair is taken."""
    rng, seen, found = np.random.default_rng([seed, 12]), [_coarse(one, spacing) for one in subjects], []
    wanted = _MATCHED if count is None else count
    for _ in range(_TRIED):
        i, j = rng.permutation(len(seen))[:2]
        (fixed, inside), (moving, other) = seen[i], seen[j]
        phi = ShapeRegistration()(fixed, moving, fixed_labels=inside, moving_labels=other)
        known = [value or 0.0 for value in metrics.dice(inside, warp(other, phi, fixed.grid)).values()]
        if np.mean(known) >= _GOOD:
            flow = displacement_to_flow(phi(fixed.grid.points()) - fixed.grid.points(), fixed.grid)
            pair = PairBatch.without_truth(image_to_tensor(fixed), image_to_tensor(moving))
            found.append(replace(pair, flow=flow, mask=torch.ones_like(pair.mask)))
        if len(found) == wanted:
            break
    return PairBatch.concatenate(found)


def _targets(subjects: Sequence[Subject], seed: int, spacing: tuple[float, ...]) -> Batches:
    """Such pairs, each image in a pose of its own."""
    pairs = known_pairs(subjects, seed, spacing)
    return _jittered(pairs_from_memory(pairs, min(_BATCH[len(spacing)], len(pairs)), seed), seed, spacing)


def _coarse(one: Subject, spacing: tuple[float, ...]) -> tuple[Image, Labels]:
    grid = one.image.grid.with_spacing(spacing)
    return resample(one.image, grid), warp(one.labels, Affine.identity(grid.ndim), grid)


def _network(ndim: int, marks: int) -> Network:
    flow = _flow(ndim, marks)
    return Marked([_marker(ndim, marks)], flow) if marks else flow


def _flow(ndim: int, marks: int) -> Network:
    return Antisymmetric(VelocityFlow(UNet(ndim, 1 + marks, _WIDTH, _STRIDES[ndim])))


def _marker(ndim: int, marks: int) -> Marker:
    return Marker(ndim, 1, marks, _WIDTH, _STRIDES[ndim], finest=_FINEST[ndim])


def _moments(ndim: int, marks: int) -> Network:
    return Marked([_marker(ndim, marks)], Moments(ndim, 1 + marks, marks))


def _together(seed: int, study: Sections, folder: Path) -> Network:
    ndim, marks, each = len(SPACING[study.name]), len(study.structures), range(_COMMITTEE * seed, _COMMITTEE * (seed + 1))
    found = [read_network(folder / f"{study.name}-marks-s{number}" / WEIGHTS).network for number in each]
    markers: list[Marker] = [marker for network in found if isinstance(network, Marked) for marker in network.markers]  # type: ignore[misc]
    return Marked([Committee(markers).requires_grad_(False)], seeded(seed, partial(_flow, ndim, marks)))
