"""Checkpoints: weights, Adam's state and the number of steps behind them, in one `.safetensors` file, written atomically."""

from __future__ import annotations

from pathlib import Path

import torch

from augreg.networks import Network
from augreg.networks.files import read_tensors, write_tensors

_KIND = "augreg checkpoint"


def save(network: Network, adam: torch.optim.Adam, step: int, path: Path) -> None:
    """Write a checkpoint with `step` steps behind it."""
    tensors = {f"weight.{name}": tensor for name, tensor in network.state_dict().items()}
    for number, state in adam.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": tensor for name, tensor in state.items()}
    write_tensors(tensors, {"step": step, **network.description}, path, _KIND)


def load(network: Network, adam: torch.optim.Adam, path: Path) -> int:
    """Put a checkpoint into network and optimiser; the number of steps it has behind it.

    Raises
    ------
    FileNotFoundError : without one. ValueError : for one of another network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint to go on from, got none; train without resuming")
    tensors, about = read_tensors(path, _KIND)
    ours = network.description
    if theirs := {name: about.get(name) for name in ours if about.get(name) != ours[name]}:
        wanted = {name: ours[name] for name in theirs}
        raise ValueError(f"{path}: expected a checkpoint of this network, {_listed(wanted)}, got one with {_listed(theirs)}")
    network.load_state_dict({n.removeprefix("weight."): t for n, t in tensors.items() if n.startswith("weight.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, number, part = name.split(".")
            state.setdefault(int(number), {})[part] = tensor
    adam.load_state_dict({"state": state, "param_groups": adam.state_dict()["param_groups"]})
    return int(about["step"])


def _listed(description: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in description.items())
