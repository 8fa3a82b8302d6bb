"""exp(v) by Runge-Kutta steps at every point, as `augreg.networks.maps.Velocity` does, against scaling and squaring on a lattice:
errors, inverses and time at the amplitudes of people.

Velocities are those of matched outlines of training people, on cells of two voxels: sections of `hearts3d`, and glands in 3-D.
Errors are against 64 steps. Squarings interpolate their own result, on voxels or on cells. `missed` is |psi(phi(x)) - x| with
psi = exp(-v) made in the same way, at voxels whose phi(x) lies in the image; `least det` is of central differences of the voxels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from augreg.matching import ShapeRegistration
from augreg.networks import Displacement, Velocity, warped
from augreg.networks.cells import at_voxels
from augreg.networks.losses.velocities import logarithm
from augreg.networks.warping import positions
from augreg.registration import Centred
from augreg.synthesis import PairBatch
from augreg.training import matched, real_pairs, torch_threads
from benchmarks.experiments import glands
from benchmarks.experiments.hearts_lessons import SPACING as HEARTS
from benchmarks.experiments.hearts_lessons import known_pairs
from benchmarks.experiments.prostate_lessons import SPACING
from benchmarks.experiments.sections import read_sections
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, write_record

_PAIRS, _GLANDS, _CELL, _FINE, _REPEATS = 12, 4, 2, 64, 3
_PACKAGES = ("numpy", "torch")
_SHOWN = (("mean", 4), ("most", 3), ("missed", 4), ("missed_most", 3), ("least_det", 2), ("cpu_ms", 1))
Exponential = Callable[[Velocity], torch.Tensor]


def steps(number: int) -> Exponential:
    """Runge-Kutta, so many steps."""
    return lambda v: replace(v, steps=number).flow()


def squarings(number: int, *, on_cells: bool = False) -> Exponential:
    """Scaling and squaring in float32, so many squarings."""

    def flow(v: Velocity) -> torch.Tensor:
        start = v.values.float() * v.unit
        if on_cells:
            # a flow of cells, in cells
            sides = torch.tensor(v.cells, dtype=torch.float32).reshape(-1, *[1] * v.ndim)
            return at_voxels(_squared(start / sides, number) * sides, v.cells, v.shape)
        return _squared(at_voxels(start, v.cells, v.shape), number)

    return flow


def _squared(v: torch.Tensor, number: int) -> torch.Tensor:
    u = v / 2**number
    for _ in range(number):
        u = u + warped(u, u)
    return u


WAYS: dict[str, Exponential] = {
    "2 steps": steps(2),
    "4 steps": steps(4),
    "8 steps": steps(8),
    "6 squarings, voxels": squarings(6),
    "7 squarings, voxels": squarings(7),
    "6 squarings, cells": squarings(6, on_cells=True),
}


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--times", nargs="+", type=float, default=[1.0, 2.0], help="factors on the velocities")


def run(options: argparse.Namespace) -> None:
    """Measure."""
    record: Record = {**about(1, _PACKAGES), "rows": []}
    with torch_threads(1):
        for name, pairs in (("sections of hearts", _sections()), ("glands, 3-D", _glands())):
            shape = tuple(pairs.flow.shape[2:])
            like = Velocity(torch.zeros(len(pairs), len(shape), *(-(-n // _CELL) for n in shape)), shape, (_CELL,) * len(shape))
            v, _ = logarithm(replace(like, steps=8), pairs.flow, pairs.mask)
            for times in options.times:
                record["rows"] += [{"data": name, "times": times, **row} for row in _measured(replace(like, values=times * v))]
    write_record(options.output, record)


def _sections() -> PairBatch:
    return known_pairs(read_sections("hearts3d").training, 0, HEARTS["hearts3d"], _PAIRS)


def _glands() -> PairBatch:
    scans = glands.read_glands().training[:_GLANDS]
    return matched(real_pairs(glands.lines(scans), [SPACING], before=Centred()), ShapeRegistration()).pairs.pairs


def _measured(v: Velocity) -> list[Row]:
    truth = steps(_FINE)(v)
    rows: list[Row] = [
        {"way": f"{_FINE} steps", "largest": round(float(truth.norm(dim=1).max()), 1), "least_det": _least_det(truth)}
    ]
    for name, way in WAYS.items():
        found, back = way(v), way(v.inverse())
        missed = found + warped(back, found)
        if "steps" in name:
            # any point can be asked for
            returned = replace(v.inverse(), steps=int(name.split()[0]))
            missed = (returned @ Displacement.of(found)).flow()
        error, off = (found - truth).norm(dim=1), missed.norm(dim=1)[_inside(truth)]
        spent = []
        for _ in range(_REPEATS):
            values = v.values.clone().requires_grad_()
            begin = time.process_time()
            way(replace(v, values=values)).square().mean().backward()
            spent.append(1000 * (time.process_time() - begin) / len(v))
        rows.append(
            {
                "way": name,
                "mean": round(float(error.mean()), 5),
                "most": round(float(error.max()), 4),
                "missed": round(float(off.mean()), 5),
                "missed_most": round(float(off.max()), 4),
                "least_det": _least_det(found),
                "cpu_ms": round(float(np.median(spent)), 2),
            }
        )
    return rows


def _least_det(flow: torch.Tensor) -> float:
    u = flow.double().numpy()
    axes = range(2, u.ndim)
    D = u.shape[1]
    slopes = np.stack([np.stack([np.gradient(u[:, c], axis=axis - 1) for axis in axes], axis=-1) for c in range(D)], axis=-2)
    return round(float(np.linalg.det(slopes + np.eye(D)).min()), 3)


def _inside(flow: torch.Tensor) -> torch.Tensor:
    """Which voxels' ends lie in the image, (B, *shape)."""
    ends = positions(flow.shape[2:], flow.device) + flow.movedim(1, -1)
    last = torch.tensor([n - 1 for n in flow.shape[2:]])
    return ((ends >= 0) & (ends <= last)).all(dim=-1)


def rendered(record: Record) -> str:
    """Tables as Markdown."""
    header = ["", "error px, mean", "largest", "missed px, mean", "largest", "least det", "CPU ms, both ways"]
    parts = [heading(record)]
    for name, times in dict.fromkeys((row["data"], row["times"]) for row in record["rows"]):
        rows = [row for row in record["rows"] if (row["data"], row["times"]) == (name, times)]
        cells = [[row["way"], *(f"{row[key]:.{digits}f}" if key in row else "" for key, digits in _SHOWN)] for row in rows]
        parts.append(f"{name}, velocities times {times:g}, largest displacement {rows[0]['largest']:.1f} px:")
        parts.append(table(header, cells))
    return "\n\n".join(parts)
