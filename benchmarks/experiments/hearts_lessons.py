"""What networks learn from hearts, and how.

    unsupervised   local correlation of the images, and smooth velocities
    labels         overlap of label maps, and smooth velocities; images of both people go into one trunk
    targets        maps that match the outlines of label maps, made beforehand
    velocities     the logarithms of these maps (SVF-Net, Rohe et al., MICCAI 2017)
    marked         overlap of label maps; each image is marked by itself first, and the trunk sees images and marks

All predict antisymmetric velocities, on cells of two pixels of two; of volumes every slice has its own cells at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from augreg import metrics
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import resample, warp
from augreg.geometry.transforms import Affine
from augreg.matching import ShapeRegistration
from augreg.networks import Antisymmetric, Marked, Marker, Network, UNet, VelocityFlow, seeded
from augreg.synthesis import PairBatch
from augreg.tensors import displacement_to_flow, image_to_tensor
from augreg.training import (
    Batches,
    LabelOverlap,
    Likeness,
    Objective,
    Outlined,
    Smooth,
    jittered,
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
# by the number of axes: pairs of a step, strides of the stages, and stages before the cells on which marks are found
_BATCH = {2: 4, 3: 2}
_STRIDES = {2: [(2, 2)] * 4, 3: [(2, 2, 1), (2, 2, 2), (2, 2, 2), (2, 2, 1)]}
_FINEST = {2: 0, 3: 1}
SEEDS = {"unsupervised": 1, "labels": 1, "targets": 1, "velocities": 1, "marked": 3}
# pairs whose outlines are matched, tried at most, and the least mean Dice of a match
_MATCHED, _TRIED, _GOOD = 60, 180, 0.8


def lesson(method: str, seed: int, study: Sections) -> Lesson:
    """What a network learns."""
    spacing = SPACING[study.name]
    overlap = LabelOverlap(study.structures, tuple(k * spacing[0] for k in (0.0, 1.0, 2.0, 4.0)), spacing)
    known: dict[str, Objective] = {
        "unsupervised": Smooth(Likeness(), 0.5),
        "labels": Smooth(overlap, SMOOTH),
        "targets": supervised,
        "velocities": velocities,
        "marked": Outlined(Smooth(overlap, SMOOTH), study.structures),
    }
    network = partial(seeded, seed, partial(_network, len(spacing), len(study.structures) * (method == "marked")))
    make = _targets if method in ("targets", "velocities") else _poses
    batches = make(study.training, seed, spacing)
    looks = seen_differently(shaded(batches, gain=0.2, seed=seed), gamma=0.3, noise=0.02, seed=seed)
    return Lesson(network, looks, known[method], STEPS[study.name], RATE[study.name])


def _poses(subjects: Sequence[Subject], seed: int, spacing: tuple[float, ...]) -> Batches:
    """Pairs of two people, each image in a pose of its own."""
    images, labels = zip(*(_coarse(one, spacing) for one in subjects), strict=True)
    return _jittered(pairs_from_images(images, _BATCH[len(spacing)], seed, labels=labels), seed, spacing)


def _jittered(batches: Batches, seed: int, spacing: tuple[float, ...]) -> Batches:
    shift, bend = 3 * spacing[0], spacing[0]
    return jittered(batches, rotation=10.0, scale=0.1, shift=shift, bend=bend, spacing=spacing, seed=seed)


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
    strides = _STRIDES[ndim]
    flow = Antisymmetric(VelocityFlow(UNet(ndim, 1 + marks, _WIDTH, strides)))
    return Marked([Marker(ndim, 1, marks, _WIDTH, strides, finest=_FINEST[ndim])], flow) if marks else flow
