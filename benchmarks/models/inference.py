"""How long networks take for a pair of images.

One pair at a time, two grey images in, a displacement on all pixels out; weights are random, they do not change the time. Rivals
are MONAI's networks; VoxelMorphUNet has the channels of the published one. Every repeat goes through all networks, so that
whatever disturbs the machine disturbs all of them. With one thread the least CPU time is what a quiet machine takes.
2-D is 256 x 256; 3-D, 160 x 192 x 224, runs on a graphics card only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from augreg import Grid, Image
from augreg.networks import FlowNetC, FlowNetS, Map
from augreg.training import FlowRegistration
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, write_record
from benchmarks.harness.timing import in_turns

_SHAPES = {2: (256, 256), 3: (160, 192, 224)}
_CHANNELS = {2: (16, 16, 32, 32, 32, 32), 3: (16, 32, 32, 32, 32, 32)}


class _Rival(nn.Module):
    """A network of two images stacked on their channels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def predict(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        return self.network(torch.cat([moving, fixed], dim=1))


def networks(ndim: int) -> dict[str, nn.Module]:
    """Networks of two grey images by their names."""
    from monai.networks import nets  # tables are made without it

    unet = nets.VoxelMorphUNet(
        spatial_dims=ndim, in_channels=2, unet_out_channels=32, channels=_CHANNELS[ndim], final_conv_channels=(16, 16)
    )
    common = {"spatial_dims": ndim, "in_channels": 2, "num_channel_initial": 32, "out_channels": ndim}
    return {
        "FlowNetS, width 1/4": FlowNetS(ndim, 1, 0.25),
        "FlowNetC, width 1/4": FlowNetC(ndim, 1, 0.25),
        "FlowNetS": FlowNetS(ndim, 1),
        "FlowNetC": FlowNetC(ndim, 1),
        "MONAI VoxelMorphUNet": _Rival(unet),
        "MONAI RegUNet": _Rival(nets.RegUNet(depth=3, **common)),
        "MONAI LocalNet": _Rival(nets.LocalNet(extract_levels=(0, 1, 2, 3), **common)),
    }


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)


def run(options: argparse.Namespace) -> None:
    """On the CPU, and on a card where there is one."""
    torch.set_num_threads(options.threads)
    record: Record = about(options.threads, ("torch", "monai"))
    rows = measured("cpu", 2, options.repeats)
    if torch.cuda.is_available():
        record["machine"]["card"] = torch.cuda.get_device_name()
        rows += measured("cuda", 2, options.repeats) + measured("cuda", 3, options.repeats)
    write_record(options.output, record | {"rows": rows})


def measured(device: str, ndim: int, repeats: int) -> list[Row]:
    """Milliseconds of every network on a device."""
    shape = _SHAPES[ndim]
    pair = [torch.rand(1, 1, *shape, device=device) for _ in range(2)]
    known = {name: network.to(device).eval() for name, network in networks(ndim).items()}
    calls: dict[str, Callable[[int], object]] = {name: _prediction(network, pair) for name, network in known.items()}
    images = [Image(np.random.default_rng(i).random(shape, dtype=np.float32), Grid(shape)) for i in range(2)]
    registration = FlowRegistration(known["FlowNetS, width 1/4"], (1.0,) * ndim)
    calls["FlowRegistration, FlowNetS, width 1/4: images to transform"] = lambda _: registration(*images)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for name, _, took in in_turns(calls, repeats, device, warm=3):
        times[name].append((1e3 * took["seconds"], 1e3 * took["cpu_seconds"]))
    sizes = {name: sum(p.numel() for p in network.parameters()) for name, network in known.items()}
    return [
        {
            "device": device,
            "shape": shape,
            "network": name,
            "parameters": sizes.get(name),
            "median_ms": float(np.median(taken, axis=0)[0]),
            "least_ms": min(wall for wall, _ in taken),
            "least_cpu_ms": min(cpu for _, cpu in taken),
        }
        for name, taken in times.items()
    ]


def rendered(record: Record) -> str:
    """A table, the networks of a device from fast to slow."""
    lines = []
    for row in sorted(record["rows"], key=lambda row: (row["device"], len(row["shape"]), row["least_ms"])):
        size = "" if row.get("parameters") is None else f"{row['parameters'] / 1e6:.2f}"
        taken = [f"{row[name]:.1f}" for name in ("median_ms", "least_ms", "least_cpu_ms")]
        lines.append([row["device"], " x ".join(map(str, row["shape"])), row["network"], size, *taken])
    head = ["device", "shape", "network", "parameters, million", "median", "least", "least, CPU time"]
    card = [record["machine"]["card"]] if "card" in record["machine"] else []
    return f"{heading(record, *card)} Milliseconds of a pair.\n\n{table(head, lines)}"


def _prediction(network: nn.Module, pair: list[torch.Tensor]) -> Callable[[int], object]:
    def predict(_: int) -> object:
        with torch.no_grad():
            found = network.predict(*pair)
            return found.flow() if isinstance(found, Map) else found

    return predict
