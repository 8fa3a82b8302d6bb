"""A network of full width, learned from pairs that are made on the card as it goes, and tested on people it has never seen.

Two stages, both of `augreg.training.train`:

    synthetic    the study's own pairs and objective: end-point error and likeness
    with people  half the steps have two real training people, no truth: likeness and smoothness

The steps of a stage follow from its share of the time and from what the first steps took. The rates are below the study's own,
since a network four times as wide wants smaller steps, and a batch four times as large allows larger ones; they were chosen
before any card was seen. The test people are met after each stage; the second one's figures are the result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import torch

from augreg.networks import FlowNet, Map, RefinedFlow
from augreg.networks.files import write_tensors
from augreg.synthesis import PairBatch, PairGenerator
from augreg.training import (
    Alike,
    Batches,
    Likeness,
    Machine,
    Objective,
    Smooth,
    TrainingOptions,
    checkpoints,
    in_both_directions,
    mirrored,
    seeded_network,
    supervised,
    train,
)
from benchmarks.card.ahead import DrawnAhead
from benchmarks.card.overlap import measured
from benchmarks.card.pack_files import Pack, People
from benchmarks.card.parts import described, peak_memory
from benchmarks.card.sizes import Sizes
from benchmarks.harness.timing import timed

# learning rates of both stages
_RATES = (7e-4, 2e-4)
# share of the time of the first stage
_FIRST = 0.65
# steps from which the others are foretold; the very first are left out
_TRIED, _LEFT_OUT = 24, 8
# seconds for the test, the weights and what a checkpoint takes
_AFTER = 14.0
# bytes of a file of weights
_PIECE = 16_300_000
# steps whose pairs are rendered at once
_TOGETHER = 4


@dataclass
class Waiting:
    """Batches, the seconds that they have taken, and their share of a stage."""

    batches: Batches
    device: str
    seconds: float = 0.0
    share: float = 0.0

    def __call__(self, step: int) -> PairBatch:
        """The pairs of a step."""
        # what the step before has left to do is no waiting
        batch, took = timed(lambda: self.batches(step), self.device)
        self.seconds += took["seconds"]
        return batch


def learn_slices(pack: Pack, sizes: Sizes, device: str, found: dict[str, Any], output: Path, end: float) -> None:
    """Train, test, and write the weights."""
    settings, people = pack.settings, pack.people
    # the best algorithm for each layer is searched for: sizes never change
    torch.backends.cudnn.benchmark = True
    network = seeded_network(0, 2, sizes.widths[0])
    objective = Alike(supervised, settings["likeness"])
    found |= {"width": sizes.widths[0], "batch": sizes.batch, "rates": _RATES, "stages": []}
    begin = time.monotonic()
    with DrawnAhead(pack.slices, sizes.batch // 2, 0, device, sizes.workers, _TOGETHER) as drawn:
        synthetic = sideways(in_both_directions(drawn), 0)
        found["tests"] = {"nothing": tests(people, {"without": []}, {"without": []}, device)}
        first_end = begin + _FIRST * (end - begin - _AFTER)
        try:
            found["stages"].append(stage(network, synthetic, objective, _RATES[0], sizes, device, first_end))
        except FloatingPointError as error:
            found["stages"].append({"error": described(error)})
            network = seeded_network(0, 2, sizes.widths[0])
            found["stages"].append(stage(network, synthetic, objective, _RATES[0] / 4, sizes, device, first_end))
        found["weights"] = write_pieces(network, (1.0, 1.0), output)
        few = {"alone": [network], "twice": [network] * 2}
        found["tests"]["synthetic"] = tests(people, few, few, device)
        print(found["stages"][-1], found["tests"], flush=True)
        real = from_people(people["z08"], sizes.batch, device)
        mixed = in_turns(synthetic, sideways(real, 1))
        unsure = Unsure(objective, Smooth(Likeness(), settings["smoothness"]), settings["likeness"])
        second = {"start": 2 * sizes.steps, "precision": "float32"}
        try:
            found["stages"].append(stage(network, mixed, unsure, _RATES[1], sizes, device, end - _AFTER, **second))
        except FloatingPointError as error:
            # the weights are those of the last good step
            found["stages"].append({"error": described(error)})
    found["memory_gb"] = peak_memory(device)
    found["weights"] = write_pieces(network, (1.0, 1.0), output)
    found["tests"]["with people"] = tests(people, ways(network, settings["refining"]), few, device)


def stage(
    network: FlowNet,
    batches: Batches,
    objective: Objective,
    rate: float,
    sizes: Sizes,
    device: str,
    end: float,
    start: int = 0,
    precision: str = "auto",
) -> dict[str, Any]:
    """Train until the time is over: what the steps took. `start` is added to the number of a step, for pairs of its own."""
    waiting = Waiting(lambda step: batches(start + step), device)
    machine = Machine(device=device, precision=precision, threads=None)  # type: ignore[arg-type]
    spacing = (1.0,) * network.ndim
    options = TrainingOptions(learning_rate=rate, warm_up=100, checkpoint_seconds=1e9, machine=machine)

    def run(steps: int, most: float) -> tuple[int, float, list[dict[str, float | None]]]:
        """Steps that were taken, seconds of one, and the curve."""
        curve, began, taken, left_out = [], time.monotonic(), 0, min(_LEFT_OUT, steps // 2)
        # checkpoints of seconds each would be a large part of a stage of minutes
        with TemporaryDirectory() as folder, mock.patch.object(checkpoints, "save"):
            for state in train(network, batches_from, spacing, folder, replace(options, steps=steps), objective=objective):
                taken += 1
                if taken == left_out and time.monotonic() < most:
                    began, waiting.seconds = time.monotonic(), 0.0
                # an odd number of steps: where every second step has no truth, both kinds are seen
                if taken % (steps // 20 | 1) == 0:
                    about = {"step": taken, "loss": state.loss, "epe": state.epe, "epe_without": state.epe_without}
                    curve.append({name: None if math.isnan(value) else round(value, 4) for name, value in about.items()})
                # the last step is not asked for: files of the run would come with it
                if time.monotonic() > most or taken == steps - 1:
                    break
        seconds = time.monotonic() - began
        waiting.share = waiting.seconds / seconds
        return taken, seconds / max(1, taken - left_out), curve

    batches_from: Batches = waiting
    tried, each, curve = run(min(_TRIED, sizes.steps) + 1, end)
    steps, taken = int(min(0.97 * (end - time.monotonic() - 2.0) / each, sizes.steps)), 0
    batches_from = lambda step: waiting(tried + step)  # noqa: E731
    if steps > 1:
        taken, each, curve = run(steps + 1, end)
    network.eval()
    return {
        "steps": tried + taken,
        "planned": steps,
        "steps_per_second": 1 / each,
        "pairs_per_second": sizes.batch / each,
        "waiting": waiting.share,
        "curve": curve,
    }


@dataclass(frozen=True)
class Unsure:
    """One objective for pairs with a truth, another, times a weight, for those without."""

    known: Objective
    unknown: Objective
    weight: float

    def __call__(self, maps: Sequence[Map], batch: PairBatch) -> torch.Tensor:
        """A scalar."""
        if bool(torch.isnan(batch.residual).all()):
            return self.weight * self.unknown(maps, batch)
        return self.known(maps, batch)


def sideways(batches: Batches, seed: int) -> Batches:
    """The same pairs, each batch with left and right exchanged by chance, as the study has them."""

    def batch_of(step: int) -> PairBatch:
        batch = batches(step)
        return mirrored(batch, [0]) if np.random.default_rng([seed, step]).random() < 0.5 else batch

    return batch_of


def from_people(people: People, batch: int, device: str) -> Batches:
    """Pairs of two of those who are learned from, on the device, without a truth."""
    images = torch.from_numpy(people.images[~people.tested].astype(np.float32))[:, None].to(device)

    def batch_of(step: int) -> PairBatch:
        rng = np.random.default_rng([2, step])
        chosen = torch.from_numpy(np.stack([rng.permutation(len(images))[:2] for _ in range(batch)])).to(device)
        return PairBatch.without_truth(images[chosen[:, 0]], images[chosen[:, 1]])

    return batch_of


def in_turns(first: Batches, second: Batches) -> Batches:
    """One step of the first, one of the second."""
    return lambda step: (first, second)[step % 2](step // 2)


def ways(network: FlowNet, refining: int) -> dict[str, Sequence[Any]]:
    """How a network is used."""
    refined = RefinedFlow(network, refining)
    return {"alone": [network], "twice": [network] * 2, "thrice": [network] * 3, "then gradient": [network, refined]}


def tests(people: dict[str, People], lower: dict[str, Any], upper: dict[str, Any], device: str) -> dict[str, Any]:
    """Of the test people at both levels, by ways of using networks; from the upper level nothing was learned."""
    found = {}
    for level, how in (("z08", lower), ("z20", upper)):
        tested = people[level].tested
        found[level] = measured(how, people[level].images[tested], people[level].labels[tested], device)
    return found


def write_pieces(network: FlowNet, spacing: tuple[float, ...], output: Path) -> list[str]:
    """The weights in half precision, as `.safetensors` files small enough to be sent: rows of large ones are shared out."""
    pieces: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, tensor in network.state_dict().items():
        half = tensor.detach().half().cpu()
        rows = half.split(max(1, int(_PIECE / 64 // max(1, 2 * half[0].numel())))) if half.ndim > 1 else [half]
        for number, part in enumerate(rows):
            taken = 2 * part.numel()
            if size + taken > _PIECE:
                pieces.append({})
                size = 0
            pieces[-1][f"{name}#{number:03d}"] = part.contiguous()
            size += taken
    names = []
    for number, piece in enumerate(pieces):
        path = output / f"weights-{number}.safetensors"
        write_tensors(piece, {**network.description, "spacing": list(spacing), "pieces": len(pieces)}, path, _KIND)
        names.append(path.name)
    return names


_KIND = "augreg network, a piece"


def read_pieces(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Weights and description of what `write_pieces` wrote."""
    from augreg.networks.files import read_tensors

    parts: dict[str, list[tuple[int, torch.Tensor]]] = {}
    about: dict[str, Any] = {}
    for path in sorted(folder.glob("weights-*.safetensors")):
        tensors, about = read_tensors(path, _KIND)
        for key, tensor in tensors.items():
            name, _, number = key.rpartition("#")
            parts.setdefault(name, []).append((int(number), tensor))
    return {name: torch.cat([t for _, t in sorted(some, key=lambda one: one[0])]) for name, some in parts.items()}, about


def learn_volumes(pack: Pack, sizes: Sizes, device: str, found: dict[str, Any], end: float) -> None:
    """The same in 3-D, in one stage: what a step takes, and what some seconds of them bring."""
    torch.backends.cudnn.benchmark = False
    people = pack.people["volumes"]
    network = seeded_network(0, 3, sizes.solid_width)
    found |= {"width": sizes.solid_width, "batch": sizes.solid_batch, "shape": list(people.images.shape[1:])}
    how: dict[str, Callable[[], Sequence[Any]]] = {
        "without": list,
        "alone": lambda: [network],
        "twice": lambda: [network] * 2,
    }
    generator: PairGenerator[Any] = pack.volumes
    three = replace(sizes, batch=sizes.solid_batch)
    with DrawnAhead(generator, sizes.solid_batch // 2, 0, device, min(4, sizes.workers)) as drawn:
        objective = Alike(supervised, pack.settings["likeness"])
        found["stages"] = [stage(network, in_both_directions(drawn), objective, 5e-4, three, device, end - 8.0)]
    found["memory_gb"] = peak_memory(device)
    tested = people.tested
    networks = {name: make() for name, make in how.items()}
    found["tests"] = {"volumes": measured(networks, people.images[tested], people.labels[tested], device)}
