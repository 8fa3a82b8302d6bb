"""Whether networks and losses on the card are those of the CPU, and how far bfloat16 is from float32.

Errors of flows and gradients are relative to the norm of what the CPU has found, in float32; TF32 is off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from augreg.networks import FlowNet, FlowNetC, FlowNetS
from augreg.synthesis import PairBatch
from augreg.training import Alike, Smooth, seeded_network, supervised
from benchmarks.card.parts import tried
from benchmarks.card.sizes import Sizes


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether products of float32 numbers may be rounded to ten bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def check_networks(sizes: Sizes, device: str, rows: list[dict[str, Any]]) -> None:
    """A row per network and dimension."""
    with tf32(False):
        for architecture in (FlowNetS, FlowNetC):
            for shape in sizes.checked:
                about = {"network": architecture.__name__, "shape": shape, "width": sizes.widths[-1]}
                tried(rows, about, lambda: _differences(architecture, shape, sizes.widths[-1], device))  # noqa: B023


def _differences(architecture: type[FlowNet], shape: tuple[int, ...], width: float, device: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    fixed, moving = (torch.randn(2, 1, *shape, generator=generator) for _ in range(2))
    batch = PairBatch.without_truth(fixed, moving)
    truth = 3 * torch.randn(2, len(shape), *shape, generator=generator)
    network = seeded_network(0, len(shape), width, architecture=architecture)
    # heads that see something: those of a new network predict next to nothing
    with torch.no_grad():
        for head in network.decoder.heads:
            head.weight.mul_(30)
    wanted = _passed(network, batch, truth, "cpu", torch.float32)
    found = _passed(network, batch, truth, device, torch.float32)
    reduced = _passed(network, batch, truth, device, torch.bfloat16)
    return {
        "flow": _apart(found[0], wanted[0]),
        "loss": _apart(found[1], wanted[1]),
        "gradient": _apart(found[2], wanted[2]),
        "bfloat16: flow": _apart(reduced[0], wanted[0]),
        "bfloat16: loss": _apart(reduced[1], wanted[1]),
        "bfloat16: gradient": _apart(reduced[2], wanted[2]),
    }


def _passed(
    network: FlowNet, batch: PairBatch, truth: torch.Tensor, device: str, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Finest flow, loss and gradient of one pass, on the CPU in double precision."""
    network.to(device).zero_grad()
    there = PairBatch.without_truth(batch.fixed.to(device), batch.moving.to(device))
    there = replace(there, flow=truth.to(device))
    with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
        maps = network(there.fixed, there.moving)
    loss = Smooth(Alike(supervised, 1.0), 0.5)(maps, there)
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    return maps[0].values.detach().double().cpu(), loss.detach().double().cpu(), gradient.double().cpu()


def _apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())
