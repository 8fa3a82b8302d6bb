"""How long networks take for a pair: `python -m benchmarks.inference --output ROWS.json [--into PAGE.md]`.

One pair at a time, two grey images in, a displacement on all pixels out; weights are random, they do not change the time. Rivals
are MONAI's networks; VoxelMorphUNet has the channels of the published one. Every repeat goes through all networks, so that
whatever disturbs the machine disturbs all of them. With one thread the least CPU time is what a quiet machine takes.
2-D is 256 x 256; 3-D, 160 x 192 x 224, runs on a graphics card only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.networks import nets
from torch import nn

from augreg import Grid, Image
from augreg.networks import FlowNetC, FlowNetS
from augreg.training import FlowRegistration
from benchmarks.machine import machine

_SHAPES = {2: (256, 256), 3: (160, 192, 224)}
_MARKS = "<!-- inference -->\n", "<!-- end of inference -->\n"
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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description="Time networks on one pair.")
    parser.add_argument("--output", type=Path, required=True, metavar="ROWS.json")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--into", type=Path, metavar="PAGE.md", help="replace what stands between the marks there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    record: dict[str, Any] = {
        "machine": machine(),
        "versions": {"torch": torch.__version__, "monai": monai.__version__},
        "threads": options.threads,
        "date": time.strftime("%Y-%m-%d"),
        "rows": timed("cpu", 2, options.repeats),
    }
    if torch.cuda.is_available():
        record["machine"]["card"] = torch.cuda.get_device_name()
        record["rows"] += timed("cuda", 2, options.repeats) + timed("cuda", 3, options.repeats)
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    page = rendered(record)
    print(page)
    if options.into is not None:
        text = options.into.read_text(encoding="utf-8")
        before, after = text.split(_MARKS[0])[0], text.split(_MARKS[1])[1]
        options.into.write_text(before + _MARKS[0] + page + _MARKS[1] + after, encoding="utf-8")


def timed(device: str, ndim: int, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of every network on a device."""
    shape = _SHAPES[ndim]
    pair = [torch.rand(1, 1, *shape, device=device) for _ in range(2)]
    known = {name: network.to(device).eval() for name, network in networks(ndim).items()}
    calls: dict[str, Callable[[], object]] = {name: _prediction(network, pair) for name, network in known.items()}
    images = [Image(np.random.default_rng(i).random(shape, dtype=np.float32), Grid(shape)) for i in range(2)]
    registration = FlowRegistration(known["FlowNetS, width 1/4"], (1.0,) * ndim)
    calls["FlowRegistration, FlowNetS, width 1/4: images to transform"] = lambda: registration(*images)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for repeat in range(repeats + 3):
        for name, call in calls.items():
            _finish(device)
            begin = time.perf_counter(), time.process_time()
            call()
            _finish(device)
            # the first ones choose algorithms and fill caches
            if repeat >= 3:
                times[name].append((1e3 * (time.perf_counter() - begin[0]), 1e3 * (time.process_time() - begin[1])))
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


def rendered(record: dict[str, Any]) -> str:
    """A table, the networks of a device from fast to slow."""
    about = record["machine"]
    lines = [
        f"{about.get('card', about['processor'])}, {record['threads']} threads, torch {record['versions']['torch']}, "
        f"MONAI {record['versions']['monai']}, {record['date']}. Milliseconds of a pair.",
        "",
        "| device | shape | network | parameters, million | median | least | least, CPU time |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in sorted(record["rows"], key=lambda row: (row["device"], len(row["shape"]), row["least_ms"])):
        size = "" if row["parameters"] is None else f"{row['parameters'] / 1e6:.2f}"
        shape = " x ".join(map(str, row["shape"]))
        taken = " | ".join(f"{row[name]:.1f}" for name in ("median_ms", "least_ms", "least_cpu_ms"))
        lines.append(f"| {row['device']} | {shape} | {row['network']} | {size} | {taken} |")
    return "\n".join(lines) + "\n"


def _prediction(network: nn.Module, pair: list[torch.Tensor]) -> Callable[[], object]:
    def predict() -> object:
        with torch.no_grad():
            return network.predict(*pair)

    return predict


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
