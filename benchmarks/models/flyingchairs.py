"""A check of the networks on published flow.

Every network is fitted to the three pairs of `flyingchairs` at full size. It passes with a mean end-point error below one pixel;
the same figure with the images exchanged, and against the negated flow, must be far above.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import skimage.io
import torch

from augreg.io import read_flo
from augreg.networks import ARCHITECTURES
from augreg.synthesis import PairBatch
from augreg.training import Machine, TrainingOptions, pairs_error, seeded_network, train
from benchmarks.harness.page import heading, table
from benchmarks.harness.places import DATA
from benchmarks.harness.record import Record, about, write_record
from benchmarks.harness.timing import timed


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--width", type=float, default=0.25)


def run(options: argparse.Namespace) -> None:
    """Fit all networks."""
    pairs = chairs(DATA / "flyingchairs")
    record: Record = about(1, ("torch",)) | {"rows": []}
    for name, architecture in ARCHITECTURES.items():
        network = seeded_network(0, 2, options.width, architecture=architecture, channels=3)
        settings = TrainingOptions(
            steps=options.steps, learning_rate=1e-3, checkpoint_seconds=1e9, machine=Machine("cpu", threads=1)
        )

        def fit() -> None:
            with tempfile.TemporaryDirectory() as folder:
                for state in train(network, lambda _: pairs, (1.0, 1.0), folder, settings):  # noqa: B023
                    if state.step % 25 == 0:
                        print(f"{name} step {state.step}: {state.epe:.2f} px", flush=True)  # noqa: B023

        _, took = timed(fit)
        row = {
            "network": name,
            "width": options.width,
            "steps": options.steps,
            "cpu_seconds": took["cpu_seconds"],
            "epe": pairs_error(network, pairs),
            "epe_without": pairs_error(None, pairs),
            "epe_images_exchanged": pairs_error(network, replace(pairs, fixed=pairs.moving, moving=pairs.fixed)),
            "epe_flow_negated": pairs_error(network, replace(pairs, flow=-pairs.flow)),
        }
        record["rows"].append(row)
        write_record(options.output, record)


def chairs(folder: Path) -> PairBatch:
    """The pairs, 512 x 384, with their flow."""
    parts = []
    for path in sorted(folder.glob("*-gt.flo")):
        images = [skimage.io.imread(str(path).replace("gt.flo", f"img{i}.ppm")) for i in range(2)]
        fixed, moving = (torch.from_numpy(np.ascontiguousarray(x.transpose(2, 1, 0), dtype=np.float32))[None] for x in images)
        flow = torch.from_numpy(np.ascontiguousarray(np.moveaxis(read_flo(path).values, -1, 0), dtype=np.float32))[None]
        parts.append(replace(PairBatch.without_truth(fixed, moving), flow=flow))
    return PairBatch.concatenate(parts)


def rendered(record: Record) -> str:
    """Errors and times."""
    measures = ("epe", "epe_images_exchanged", "epe_flow_negated")
    lines = [
        [row["network"], *[f"{row[measure]:.2f}" for measure in measures], f"{row['cpu_seconds']:.0f}"] for row in record["rows"]
    ]
    head = ["network", "error, px", "images exchanged", "flow negated", "CPU seconds"]
    return f"{heading(record)}\n\n{table(head, lines)}"
