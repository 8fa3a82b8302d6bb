"""Network files: `.safetensors`, weights with a JSON description in the metadata. Nothing is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from augreg.io import atomic
from augreg.networks.flownet import FlowNet, network_of

_KIND = "augreg network"


@dataclass(frozen=True, eq=False)
class NetworkFile:
    """A network and what it was trained on.

    Parameters
    ----------
    network : ready to predict
    spacing : mm per voxel of the training images
    """

    network: FlowNet
    spacing: tuple[float, ...]


def write_network(network: FlowNet, spacing: tuple[float, ...], path: str | os.PathLike[str]) -> None:
    """Write weights and description, atomically."""
    write_tensors(network.state_dict(), {**network.description, "spacing": list(spacing)}, path, _KIND)


def read_network(path: str | os.PathLike[str]) -> NetworkFile:
    """Read what `write_network` wrote, or a network that comes with augreg, by its name alone: `sunnybrook-sax`.

    Raises
    ------
    FileNotFoundError : if there is no file. ValueError : if it is truncated, foreign, of another kind, or of an architecture that
        is not known.
    """
    tensors, about = read_tensors(_found(path), _KIND)
    try:
        network = network_of(about)
        network.load_state_dict(tensors)
        spacing = tuple(float(s) for s in about["spacing"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: expected weights that fit their description, got others; train the network again") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return NetworkFile(network.eval(), spacing)


def _found(path: str | os.PathLike[str]) -> Path:
    """The file itself, or of a name that is neither a file nor has a suffix the network that comes with augreg."""
    given = Path(path)
    if given.suffix or given.parent != Path() or given.is_file():
        return given
    files = [Path(str(entry)) for entry in resources.files("augreg").joinpath("data").iterdir()]
    known = {file.stem: file for file in files if file.suffix == ".safetensors"}
    if given.name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise FileNotFoundError(f"{path}: expected a file or the name of a network that comes with augreg ({names}), got neither")
    return known[given.name]


def write_tensors(tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any], path: str | os.PathLike[str], kind: str) -> None:
    """Tensors and a JSON description, atomically."""
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        safetensors.torch.save_file(held, temporary, metadata={"kind": kind, "about": json.dumps(about)})


def read_tensors(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What `write_tensors` wrote; errors as `read_network`."""
    found = Path(path)
    if not found.is_file():
        raise FileNotFoundError(f"{found}: expected a file with weights (.safetensors), got nothing; check the path")
    try:
        with safetensors.safe_open(found, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dictionary
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{found}: expected weights (.safetensors), got something else or a truncated file") from error
    if metadata.get("kind") != kind:
        raise ValueError(f"{found}: expected an {kind} file, got one that holds something else")
    return tensors, json.loads(metadata["about"])
