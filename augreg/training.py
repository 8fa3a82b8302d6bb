"""Training a network on pairs with exact truth, and registration with it.

The pairs of step t are a pure function of (seed, t), and a checkpoint holds weights, Adam's state and t: a run that was killed
and resumed ends with the same weights as an undisturbed one (on one machine, CPU).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from augreg.grid import Grid
from augreg.image import Image, Labels
from augreg.networks.files import read_network, read_tensors, write_network, write_tensors
from augreg.networks.flownet import FLOW_SCALE, FlowNetS
from augreg.networks.loss import end_point_error, multiscale_loss
from augreg.networks.tensors import flow_to_displacement, image_to_tensor, normalised
from augreg.registration import State, prepare
from augreg.sam import AppearanceModel
from augreg.synthesis import AppearancePairs, PairBatch, make_pairs, read_shards
from augreg.transforms import Affine, DisplacementField, Transform
from augreg.warp import resample, warp

Batches = Callable[[int], PairBatch]

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
_KIND = "augreg checkpoint"


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Parameters
    ----------
    steps : of Adam
    learning_rate : at the start; halved `halvings` times, evenly over the second half of the steps
    halvings : of the learning rate
    warm_up : steps over which the rate grows from 0
    weight_decay : of the original loss; divided by FLOW_SCALE, as the loss is, since it is not scale-free
    clip : largest norm of the gradient
    device : cpu, cuda, or auto
    checkpoint_seconds : between checkpoints; the first is written after the first step
    threads : of torch while it trains; None leaves them. On a busy machine threads that wait for each other make small
        networks several times slower than one thread alone is.
    """

    steps: int = 2000
    learning_rate: float = 1e-4
    halvings: int = 3
    warm_up: int = 20
    weight_decay: float = 4e-4
    clip: float = 5.0
    device: str = "auto"
    checkpoint_seconds: float = 120.0
    threads: int | None = None

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        late = max(0.0, 2 * step / self.steps - 1)
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up) * 0.5 ** math.floor(late * (self.halvings + 1))


@dataclass(frozen=True)
class TrainingState:
    """Progress after a step: loss, end-point error of its pairs and of no registration (voxels), seconds since the start."""

    step: int
    loss: float
    epe: float
    epe_without: float
    learning_rate: float
    seconds: float


def pairs_from_model(
    model: AppearanceModel,
    batch: int,
    seed: int = 0,
    *,
    appearances: Sequence[str] = ("shared", "independent"),
    pose: float = 1.0,
) -> Batches:
    """Pairs drawn from a model on the fly; those of a step depend on (seed, step) alone.

    Parameters
    ----------
    model : the appearance model
    batch : pairs of a step
    seed : of everything
    appearances : of the two images of a pair, taken in turns by the batches; see `augreg.synthesis.AppearancePairs`
    pose : factor on the training poses' spread
    """

    generators = [AppearancePairs(model, appearance=appearance, pose=pose, intensity=0.05) for appearance in appearances]

    def batch_of(step: int) -> PairBatch:
        return make_pairs(generators[step % len(generators)], seed, range(step * batch, (step + 1) * batch))

    return batch_of


def pairs_from_memory(pairs: PairBatch, batch: int, seed: int = 0) -> Batches:
    """Pairs out of a few that are at hand, each time mirrored along some axes by chance, which leaves them exact.

    Parameters
    ----------
    pairs : those at hand
    batch : pairs of a step
    seed : of the choice
    """
    ndim = pairs.flow.shape[1]

    def batch_of(step: int) -> PairBatch:
        rng = np.random.default_rng([seed, step])
        chosen = pairs[torch.from_numpy(rng.integers(0, len(pairs), batch))]
        return mirrored(chosen, [axis for axis in range(ndim) if rng.random() < 0.5])

    return batch_of


def mirrored(pairs: PairBatch, axes: Sequence[int]) -> PairBatch:
    """Pairs with both images mirrored along some axes of their arrays; components of the flow along them change sign."""
    along = [2 + axis for axis in axes]
    sign = torch.tensor([-1.0 if axis in axes else 1.0 for axis in range(pairs.flow.shape[1])])
    signs = sign.reshape(1, -1, *[1] * (pairs.flow.ndim - 2))
    names = ("fixed", "moving", "mask", "reverse_mask", "fixed_labels", "moving_labels")
    images = {name: part.flip(along) for name in names if (part := getattr(pairs, name)) is not None}
    return replace(pairs, **images, flow=pairs.flow.flip(along) * signs, reverse=pairs.reverse.flip(along) * signs)


def pairs_from_shards(directory: str | os.PathLike[str], batch: int, seed: int = 0) -> Batches:
    """Pairs from shards, all of them in memory, in an order that depends on (seed, step) alone.

    Raises
    ------
    ValueError : for a folder without shards.
    """
    parts = list(read_shards(directory, batch))
    if not parts:
        raise ValueError(f"{directory}: expected a folder with shards pairs-*.tar, got none; run augreg synthesize")
    whole = PairBatch.concatenate(parts)

    def batch_of(step: int) -> PairBatch:
        return whole[torch.from_numpy(np.random.default_rng([seed, step]).integers(0, len(whole), batch))]

    return batch_of


def shard_spacing(directory: str | os.PathLike[str]) -> tuple[float, ...]:
    """Spacing (mm) of the pairs in a folder of shards, from its `dataset.json`.

    Raises
    ------
    ValueError : where it is missing or says nothing of a grid.
    """
    path = Path(directory) / "dataset.json"
    try:
        return tuple(float(s) for s in json.loads(path.read_text())["grid"]["spacing"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected the description of a data set with its grid, got none; run augreg synthesize"
        ) from error


def pairs_error(network: FlowNetS | None, batch: PairBatch) -> float:
    """Mean end-point error (voxels) over pairs that were not trained on; of no registration where there is no network."""
    with torch.no_grad():
        flow = torch.zeros_like(batch.flow)
        if network is not None:
            device = next(network.parameters()).device
            flow = network.predict(*(normalised(part.to(device)) for part in (batch.fixed, batch.moving))).to(flow.device)
        return float(end_point_error(flow, batch.flow, batch.mask))


def seeded_network(seed: int, ndim: int, width: float) -> FlowNetS:
    """A network of one channel whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FlowNetS(ndim, 1, width)


def train(
    network: FlowNetS,
    batch_of: Batches,
    spacing: tuple[float, ...],
    directory: str | os.PathLike[str],
    options: TrainingOptions,
    *,
    resume: bool = False,
) -> Iterator[TrainingState]:
    """Train, yielding a state after every step; the run's folder gets a checkpoint now and then and the weights at the end.

    Parameters
    ----------
    network : trained in place
    batch_of : pairs of a step
    spacing : mm per voxel of the pairs, kept with the weights
    directory : of the run, made if it does not exist
    resume : go on from the folder's checkpoint

    Raises
    ------
    ValueError, FileNotFoundError : for a checkpoint that does not fit or is not there.
    FloatingPointError : where the loss is no longer finite; the last good checkpoint is kept.
    """
    with torch_threads(options.threads):
        yield from _steps(network, batch_of, spacing, Path(directory), options, resume)


def _steps(
    network: FlowNetS, batch_of: Batches, spacing: tuple[float, ...], folder: Path, options: TrainingOptions, resume: bool
) -> Iterator[TrainingState]:
    device = _device(options.device)
    network.to(device).train()
    adam = torch.optim.Adam(network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay / FLOW_SCALE)
    start = _load(network, adam, folder / CHECKPOINT) if resume else 0
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    saved = -math.inf  # the first step is kept: a run killed early can be resumed
    for step in range(start, options.steps):
        batch = batch_of(step)
        fixed, moving = (normalised(part.to(device)) for part in (batch.fixed, batch.moving))
        truth, mask = batch.flow.to(device), batch.mask.to(device)
        rate = options.rate(step)
        for group in adam.param_groups:
            group["lr"] = rate
        flows = network(fixed, moving)
        loss = multiscale_loss(flows, truth, mask)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"step {step}: expected a finite loss, got {loss.item()}; resume with a lower learning rate")
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        adam.step()
        now = time.perf_counter()
        if now - saved > options.checkpoint_seconds or step + 1 == options.steps:
            _save(network, adam, step + 1, folder / CHECKPOINT)
            saved = now
        with torch.no_grad():
            mode = "bilinear" if network.ndim == 2 else "trilinear"
            full = torch.nn.functional.interpolate(flows[0] * FLOW_SCALE, size=truth.shape[2:], mode=mode)
            epe, without = (end_point_error(flow, truth, mask).item() for flow in (full, torch.zeros_like(truth)))
        yield TrainingState(step + 1, loss.item(), epe, without, rate, now - begin)
    network.eval()
    write_network(network, spacing, folder / WEIGHTS)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Torch with so many threads inside the block; None leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(name: str) -> torch.device:
    """The device of that name, checked; auto is cuda where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: expected cpu, cuda or auto, and one that is here, got {name!r}") from error
    return device


def _save(network: FlowNetS, adam: torch.optim.Adam, step: int, path: Path) -> None:
    tensors = {f"weight.{name}": tensor for name, tensor in network.state_dict().items()}
    for number, state in adam.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": tensor for name, tensor in state.items()}
    about = {"step": step, "ndim": network.ndim, "channels": network.channels, "width": network.width}
    write_tensors(tensors, about, path, _KIND)


def _load(network: FlowNetS, adam: torch.optim.Adam, path: Path) -> int:
    """Put a checkpoint into network and optimiser; the number of steps it has behind it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint to go on from, got none; train without resuming")
    tensors, about = read_tensors(path, _KIND)
    if any(about[name] != getattr(network, name) for name in ("ndim", "channels", "width")):
        raise ValueError(f"{path}: expected a checkpoint of this network, got one with {about}")
    network.load_state_dict({n.removeprefix("weight."): t for n, t in tensors.items() if n.startswith("weight.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, number, part = name.split(".")
            state.setdefault(int(number), {})[part] = tensor
    adam.load_state_dict({"state": state, "param_groups": adam.state_dict()["param_groups"]})
    return int(about["step"])


@dataclass(frozen=True, eq=False)
class FlowRegistration:
    """Registration by a network: a callable (fixed, moving) -> phi, for images of any size and spacing.

    Both images are brought to the fixed image's domain at the network's spacing; the flow becomes world vectors there.

    Parameters
    ----------
    network : FlowNetS, or anything with `ndim`, `channels` and `predict(fixed, moving) -> flow` (B, D, *shape) voxels
    spacing : mm per voxel that the network was trained on
    """

    network: FlowNetS
    spacing: tuple[float, ...]

    @staticmethod
    def from_file(path: str | os.PathLike[str]) -> FlowRegistration:
        """The registration with a network from a file."""
        file = read_network(path)
        return FlowRegistration(file.network, file.spacing)

    def __call__(
        self,
        fixed: Image,
        moving: Image,
        *,
        fixed_mask: Labels | None = None,
        moving_mask: Labels | None = None,
        fixed_labels: Labels | None = None,
        moving_labels: Labels | None = None,
        fixed_points: npt.ArrayLike | None = None,
        moving_points: npt.ArrayLike | None = None,
        initial: Transform | None = None,
    ) -> Transform:
        """phi = initial @ (id + u); the transform of the last state of `steps`."""
        transform: Transform = Affine.identity(fixed.ndim)
        for state in self.steps(fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask, initial=initial):
            transform = state.transform
        return transform

    def steps(
        self,
        fixed: Image,
        moving: Image,
        *,
        fixed_mask: Labels | None = None,
        moving_mask: Labels | None = None,
        fixed_labels: Labels | None = None,
        moving_labels: Labels | None = None,
        fixed_points: npt.ArrayLike | None = None,
        moving_points: npt.ArrayLike | None = None,
        initial: Transform | None = None,
    ) -> Iterator[State]:
        """One state: a network needs one pass. Labels and landmarks are without effect, and that is said.

        Raises
        ------
        ValueError : as `augreg.registration.prepare`, and for images of another dimension than the network's.
        """
        begin = time.perf_counter()
        ready = prepare(fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask, initial=initial)
        if fixed.ndim != self.network.ndim:
            raise ValueError(f"fixed: expected a {self.network.ndim}-D image for this network, got {fixed.ndim}-D")
        warnings = list(ready.warnings)
        if any(given is not None for given in (fixed_labels, moving_labels, fixed_points, moving_points)):
            warnings.append("labels and landmarks are not used by a network")
        grid = fixed.grid.with_spacing(self.spacing)
        images = [ready.fixed, ready.moving]
        if ready.fixed.channels != self.network.channels:
            images = [image.luminance() for image in images]
        if images[0].channels != self.network.channels:
            raise ValueError(f"fixed: expected {self.network.channels} channels for this network, got {images[0].channels}")
        pair = (resample(images[0], grid), warp(images[1], ready.initial, grid))
        device = next((p.device for p in getattr(self.network, "parameters", list)()), torch.device("cpu"))
        with torch.no_grad():
            flow = self.network.predict(*(normalised(image_to_tensor(image).to(device)) for image in pair))
        displacement = _on_grid(DisplacementField(flow_to_displacement(flow, grid), grid), fixed.grid)
        identity = isinstance(ready.initial, Affine) and np.array_equal(ready.initial.matrix, np.eye(fixed.ndim))
        identity = identity and not np.any(getattr(ready.initial, "translation", 1))
        transform = displacement if identity else ready.initial @ displacement
        seconds = time.perf_counter() - begin
        yield State(0, 0, float("nan"), float("nan"), transform, seconds, tuple(warnings))


def _on_grid(field: DisplacementField, grid: Grid) -> DisplacementField:
    return field if field.grid == grid else DisplacementField(field.displacement(grid), grid)
