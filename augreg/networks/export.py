"""A network as a file for programs without augreg: ONNX, or TorchScript.

    u = f(fixed, moving),      images (1, C, *shape) float32 as they are, u (1, D, *shape) voxels, moved(x) = moving(x + u(x))

Preparation of the images is part of f. The shape is settled: resample images to the network's spacing and crop or pad them to it.
What was written is read back and asked about images of chance that it has not been made with.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from augreg.io import atomic
from augreg.networks.network import Network

SUFFIXES = (".onnx", ".pt")
# voxels by which the file may differ from the network
TOLERANCE = 1e-4
# the first with images of three dimensions looked up between voxels
_OPSET = 20
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
Ask = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def check_export(path: str | os.PathLike[str]) -> None:
    """Refuse what cannot be written here.

    Raises
    ------
    ValueError : for another suffix, or without the packages that ONNX needs.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file ending in .onnx or .pt (TorchScript), got {suffix or 'no ending'}")
    lacking = [name for name in _NEEDED if suffix == ".onnx" and importlib.util.find_spec(name) is None]
    if lacking:
        raise ValueError(f"{path}: expected {', '.join(lacking)} for ONNX, not installed; pip install augreg[onnx], or write .pt")


def export_network(network: Network, shape: tuple[int, ...], path: str | os.PathLike[str]) -> float:
    """Write a network, atomically, once it is known to say what the network says.

    Parameters
    ----------
    network : the network
    shape : shape of the images
    path : file, .onnx or .pt

    Returns
    -------
    miss : largest difference of flows of the file and of the network, voxels

    Raises
    ------
    ValueError : as `check_export`, for a shape of another dimension, for a network with parts that ONNX does not have, and for a
        file that says something else.
    """
    check_export(path)
    if len(shape) != network.ndim or min(shape) < 2:
        raise ValueError(f"shape: expected {network.ndim} numbers of 2 voxels or more, as the network's images, got {shape}")
    module = _Flow(network).eval()
    rng = np.random.default_rng(0)
    made, asked = (
        [torch.from_numpy(rng.random((1, network.channels, *shape), dtype=np.float32)) for _ in range(2)] for _ in range(2)
    )
    write = _as_onnx if Path(path).suffix.lower() == ".onnx" else _as_script
    with torch.no_grad(), _silence(), atomic(path) as temporary:
        content, ask = write(module, made)
        miss = float((ask(*asked) - module(*asked)).abs().max())
        if not miss <= TOLERANCE:
            raise ValueError(f"{path}: expected flows within {TOLERANCE:g} voxels of the network's, got {miss:.2g}; not written")
        temporary.write_bytes(content)
    return miss


class _Flow(nn.Module):
    """From images as they are to the flow."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        prepared = (self.network.prepare(images) for images in (fixed, moving))
        return self.network(*prepared)[0].flow()


def _as_script(module: nn.Module, images: list[torch.Tensor]) -> tuple[bytes, Ask]:
    content = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, tuple(images), check_trace=False), content)
    content.seek(0)
    return content.getvalue(), torch.jit.load(content)


def _as_onnx(module: nn.Module, images: list[torch.Tensor]) -> tuple[bytes, Ask]:
    import onnxruntime

    names = ["fixed", "moving"]
    try:
        program = torch.onnx.export(
            module,
            tuple(images),
            dynamo=True,
            opset_version=_OPSET,
            input_names=names,
            output_names=["flow"],
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(
            "network: expected parts that ONNX has, got one that it has not (an affine map of volumes, whose features are pooled "
            "over 3 parts along each axis, is one); write TorchScript instead, a file ending in .pt"
        ) from error
    assert program is not None
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def ask(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, (fixed.numpy(), moving.numpy()), strict=True))
        return torch.from_numpy(np.asarray(session.run(None, given)[0]))

    return content, ask


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Tracing says of every size that it is settled, and the exporter which packages it could use besides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
