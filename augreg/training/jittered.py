"""The same pairs, each image moved by a random map of its own, labels with it: few people become many poses and shapes.

fixed'(x) = fixed(A (x + u(x))),     moving'(x) = moving(B (x + v(x)))

A and B about the centre, of rotation, scales and shift; u and v linear between places of chance; all drawn anew. Of voxels with
sides s a rotation R of the world is diag(1 / s) R diag(s): thin stacks of slices turn as bodies do. A truth phi
goes with them: with P = A o (id + u), Q = B o (id + v) it becomes Q^-1 o phi o P, known where phi is at P(x) and it leads to a
voxel of the moving image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch

from augreg.networks.cells import counts
from augreg.networks.maps import AffineMap, Displacement, Map
from augreg.networks.warping import looked_up, positions
from augreg.synthesis import Later, PairBatch
from augreg.training.batches import ALL, Batches

# voxels between which a displacement is linear
_CELL = 8


def jittered(
    batch_of: Batches,
    *,
    rotation: float = 10.0,
    scale: float = 0.1,
    shift: float = 5.0,
    bend: float = 0.0,
    spacing: Sequence[float] | None = None,
    seed: int = 0,
    batch: int | None = None,
    part: slice = ALL,
) -> Batches:
    """The pairs of another source, every image in a pose of its own.

    Images are interpolated once more: for real pairs, of which there are few, and whose truth, if there is one, is of outlines.

    Parameters
    ----------
    batch_of : pairs such as those of `pairs_from_images`
    rotation : standard deviation of the angle in every plane of two axes, degrees
    scale : standard deviation of the logarithm of the scale along every axis
    shift : standard deviation of the shift along every axis, mm
    bend : standard deviation of the components of a displacement on cells of 8 voxels, mm; maps of more than 2 voxels may fold
    spacing : size of a voxel, mm; None is 1 along every axis, and shifts are in voxels then
    seed : seed of all random numbers
    batch : pairs of a step, of all processes; None is as many as there are
    part : which of a step's pairs these are; see `Team.part`

    Raises
    ------
    ValueError : for negative numbers; when pairs are asked for, for pairs of another dimension than the spacing's.
    """
    if not min(rotation, scale, shift, bend) >= 0:
        given = f"{rotation}, {scale}, {shift} and {bend}"
        raise ValueError(f"rotation, scale, shift, bend: expected numbers of at least 0, got {given}")

    def poses(count: int, shape: tuple[int, ...], rng: np.random.Generator) -> Map:
        D = len(shape)
        sides = np.ones(D) if spacing is None else np.asarray(spacing, dtype=float)
        if len(sides) != D:
            raise ValueError(f"spacing: expected {D} numbers for these pairs, got {spacing}")
        drawn = rng.standard_normal((count if batch is None else batch, D * (D - 1) // 2 + 2 * D))[part]
        turns, sizes, shifts = np.split(drawn, [D * (D - 1) // 2, D * (D - 1) // 2 + D], axis=1)
        matrices = np.zeros((len(drawn), D, D))
        matrices[:, np.arange(D), np.arange(D)] = np.exp(scale * sizes)
        for plane, (a, b) in enumerate(combinations(range(D), 2)):
            angle = np.deg2rad(rotation * turns[:, plane])
            turn = np.tile(np.eye(D), (len(drawn), 1, 1))
            turn[:, a, a] = turn[:, b, b] = np.cos(angle)
            turn[:, a, b], turn[:, b, a] = -np.sin(angle), np.sin(angle)
            matrices = turn @ matrices
        matrices = matrices * (sides / sides[:, None])
        matrix, translation = (torch.from_numpy(values.astype(np.float32)) for values in (matrices, shift * shifts / sides))
        pose = AffineMap(matrix, translation, shape)
        if not bend:
            return pose
        cells = (_CELL,) * D
        grains = rng.standard_normal((count if batch is None else batch, D, *counts(shape, cells)), dtype=np.float32)[part]
        lengths = (bend / sides).astype(np.float32).reshape(-1, *[1] * D)
        return pose @ Displacement(torch.from_numpy(lengths * grains), shape, cells)

    def jittered_batch(step: int) -> PairBatch:
        pairs, rng = batch_of(step), np.random.default_rng([seed, step, 3])
        sides: dict[str, Any] = {}
        moved: list[Map] = []
        for side in ("fixed", "moving"):
            images = getattr(pairs, side)
            pose = poses(len(pairs), tuple(images.shape[2:]), rng)
            moved.append(pose)
            sides[side] = pose.warp(images)
        if not torch.isnan(pairs.flow).all():
            sides["flow"], sides["mask"] = _moved(pairs.flow, pairs.mask, *moved)
            if pairs.back is not None:
                sides["back"] = Later(lambda: _moved(pairs.reverse, pairs.reverse_mask, *moved[::-1]))
        if pairs.labels is not None:
            sides["labels"] = Later(lambda: _seen_at(pairs, *moved))
        return replace(pairs, **sides)

    return jittered_batch


def _seen_at(pairs: PairBatch, fixed: Map, moving: Map) -> tuple[torch.Tensor, torch.Tensor]:
    """The label maps of pairs as the poses move them."""
    assert pairs.labels is not None

    def seen(labels: torch.Tensor, pose: Map) -> torch.Tensor:
        places = positions(labels.shape[2:], labels.device)
        return looked_up(labels, pose.at(places.expand(len(labels), *places.shape)))

    return seen(pairs.labels.found[0], fixed), seen(pairs.labels.found[1], moving)


def _moved(flow: torch.Tensor, mask: torch.Tensor, here: Map, there: Map) -> tuple[torch.Tensor, torch.Tensor]:
    """there^-1 o (id + flow) o here as a flow, and where it is known."""
    known = torch.where(mask, flow, 0)
    found = (there.inverse() @ Displacement.of(known) @ here).flow()
    places = positions(flow.shape[2:], flow.device)
    seen = looked_up(mask.int(), here.at(places.expand(len(flow), *places.shape))) > 0
    ends = places + found.movedim(1, -1)
    last = torch.tensor([n - 1 for n in flow.shape[2:]], device=flow.device)
    return found, seen & ((ends >= 0) & (ends <= last)).all(dim=-1)[:, None]
