"""Trainings of agents, each in a folder of its own: one with weights is not run again, one that was cut off goes on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from augreg.agents import AgentRegistration, PosePairs, View
from augreg.agents import Lesson as States
from augreg.agents.lessons import shown
from augreg.agents.network import QNet
from augreg.io import atomic
from augreg.networks.warping import positions
from augreg.registration import Clock, Method, Pair, State
from augreg.synthesis import PairBatch
from augreg.training import CHECKPOINT, WEIGHTS, Batches, Learner, Machine, TrainingOptions, learn

_TOLD = "training.json"
_LOOKS = 20


def taught(make: Callable[[], Learner], folder: Path, steps: int, rate: float) -> tuple[AgentRegistration, float]:
    """The agent that a learner becomes, and the CPU seconds that it took, together if it was cut off."""
    told = folder / _TOLD
    before = json.loads(told.read_text(encoding="utf-8"))["cpu_seconds"] if told.exists() else 0.0
    if not (folder / WEIGHTS).exists():
        begin, seen = time.process_time(), list[Mapping[str, float]]()
        options = TrainingOptions(steps=steps, learning_rate=rate, checkpoint_seconds=30.0, machine=Machine("cpu", threads=1))
        for state in learn(make(), folder, options, resume=(folder / CHECKPOINT).exists()):
            seen.append(state.numbers)
            if len(seen) == max(1, steps // _LOOKS) or state.step == steps:
                means = {name: float(np.mean([one[name] for one in seen])) for name in seen[0]}
                said = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
                print(f"{folder.name}: step {state.step}, {said}", file=sys.stderr, flush=True)
                seen.clear()
                with atomic(told) as temporary:
                    text = json.dumps({"cpu_seconds": round(before + time.process_time() - begin, 1)})
                    temporary.write_text(text + "\n", encoding="utf-8")
        before += time.process_time() - begin
    return AgentRegistration.from_file(folder / WEIGHTS), before


class Start(Method):
    """Leaves all where it begins."""

    def _states(self, pair: Pair, clock: Clock) -> Iterator[State]:
        yield State(0, 0, float("nan"), float("nan"), pair.start, clock.seconds)


def as_pairs(pairs: PosePairs, states: States, network: QNet, batch: int, seed: int) -> Batches:
    """The states that an agent learns from, as pairs with the affine flow that is left, on the agent's lattice: what a network of
    maps learns from the same. Images alone, without marks.
    """
    view = network.view

    def batch_of(step: int) -> PairBatch:
        rng = np.random.default_rng([seed, step, 1])
        seen = states.moved(pairs[shown(len(pairs), batch, seed, step)], network, rng)
        poses = states.poses(seen, rng)
        C = network.channels
        moving = view.seen(seen.moving, poses, seen.outside)[:, :C]
        found = PairBatch.without_truth(seen.fixed[:, :C], moving)
        return replace(found, flow=flow_left(view, torch.linalg.solve(poses, seen.truth)))

    return batch_of


def flow_left(view: View, left: torch.Tensor) -> torch.Tensor:
    """Poses (B, D + 1, D + 1) as flows on a view's lattice, (B, D, *shape) voxels."""
    D = view.ndim
    sides, middle = torch.tensor(view.spacing), torch.tensor([(n - 1) / 2 for n in view.shape])
    x = (positions(view.shape, left.device) - middle) * sides
    off = (left - torch.eye(D + 1, dtype=left.dtype)).float()
    u = torch.einsum("bij,...j->b...i", off[:, :D, :D], x) + off[:, :D, D].reshape(-1, *[1] * D, D)
    return (u / sides).movedim(-1, 1)
