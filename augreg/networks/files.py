"""Network files: `.safetensors`, weights with a JSON description in the metadata. Nothing is unpickled."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from augreg.io import atomic
from augreg.networks.catalogue import network_of
from augreg.networks.network import Network

_KIND = "augreg network"
_CHECKSUM = "crc32"


@dataclass(frozen=True, eq=False)
class NetworkFile:
    """A network and what it was trained on.

    Parameters
    ----------
    network : ready to predict
    spacing : voxel size of the training images, mm
    centred : whether the centres of the two grids were on each other
    """

    network: Network
    spacing: tuple[float, ...]
    centred: bool = False


def write_network(network: Network, spacing: tuple[float, ...], path: str | os.PathLike[str], *, centred: bool = False) -> None:
    """Write weights and description, atomically."""
    # files of networks that need it not are as they were
    about = {**network.description, "spacing": list(spacing), **({"centred": True} if centred else {})}
    write_tensors(network.state_dict(), about, path, _KIND)


def read_network(path: str | os.PathLike[str]) -> NetworkFile:
    """Read what `write_network` wrote, or a network that comes with augreg, by its name alone: `sunnybrook-sax`.

    Raises
    ------
    FileNotFoundError : if there is no file. ValueError : if it is truncated, foreign, of another kind, or of an architecture that
        is not known.
    """
    tensors, about = read_tensors(_found(path), _KIND)
    try:
        # nothing is allocated before the file is known to hold what it describes
        with torch.device("meta"):
            skeleton = network_of(about)
        # the network that comes with augreg is kept in half precision
        if not same_looks(skeleton.state_dict(), tensors):
            raise KeyError("tensors")
        network = network_of(about)
        network.load_state_dict(tensors)
        spacing = tuple(float(s) for s in about["spacing"])
        centred = about.get("centred", False)
        if not isinstance(centred, bool):
            raise ValueError(f"centred: expected true or false, got {centred!r}")
        if len(spacing) != network.ndim or not all(0 < s < math.inf for s in spacing):
            raise ValueError(f"spacing: expected {network.ndim} positive numbers, mm per voxel, got {spacing}")
    except (KeyError, TypeError, RuntimeError, OverflowError, AttributeError) as error:
        raise ValueError(f"{path}: expected weights that fit their description, got others; train the network again") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return NetworkFile(network.eval(), spacing, centred)


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
    """Tensors and a JSON description, atomically; equal ones are equal bytes, and a checksum of all is in the metadata."""
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(held, metadata={"kind": kind, "about": json.dumps(about)})
    header, data = _split(content)
    # safetensors writes its metadata in an order of chance
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    header["__metadata__"][_CHECKSUM] = f"{_checksum(header, data):08x}"
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    # data begin at a multiple of 8 bytes
    text += b" " * (-len(text) % 8)
    with atomic(path) as temporary:
        temporary.write_bytes(len(text).to_bytes(8, "little") + text + data)


def read_tensors(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What `write_tensors` wrote; errors as `read_network`. Files of before, without a checksum, are read too."""
    found = Path(path)
    if not found.is_file():
        raise FileNotFoundError(f"{found}: expected a file with weights (.safetensors), got nothing; check the path")
    content = found.read_bytes()
    try:
        tensors = safetensors.torch.load(content)
        header, data = _split(content)
        metadata = header.get("__metadata__", {})
        if metadata.get("kind") != kind:
            raise ValueError(f"{found}: expected an {kind} file, got one that holds something else")
        told = metadata.pop(_CHECKSUM, None)
        if told is not None and told != f"{_checksum(header, data):08x}":
            raise ValueError(f"{found}: expected the weights as they were written, got others since; copy the file again")
        about = json.loads(metadata["about"])
    except (
        safetensors.SafetensorError,
        OSError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        json.JSONDecodeError,
    ) as error:
        raise ValueError(f"{found}: expected weights (.safetensors), got something else or a truncated file") from error
    if not isinstance(about, dict):
        raise ValueError(f"{found}: expected a description of the weights, got {type(about).__name__}")
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ValueError(f"{found}: expected finite weights, got NaN or infinity in {', '.join(broken[:3])}; train again")
    return tensors, about


def same_looks(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> bool:
    """Whether names and shapes are the same, and which numbers are whole."""
    one, other = (
        {name: (tensor.shape, tensor.is_floating_point()) for name, tensor in tensors.items()} for tensors in (ours, theirs)
    )
    return one == other


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """What kind of file its header says that it is; None where it says nothing."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("kind")
    except (safetensors.SafetensorError, OSError):
        return None


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and data."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), memoryview(content)[8 + length :]


def _checksum(header: Mapping[str, Any], data: memoryview) -> int:
    """Of names, types, places and description, and of all numbers."""
    return zlib.crc32(data, zlib.crc32(json.dumps(header, sort_keys=True).encode()))
