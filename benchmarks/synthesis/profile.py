"""Where the time of a pair goes: seconds of every step of drawing and rendering, and the bytes it reads and writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch

from augreg.synthesis import AppearancePairs, PairGenerator, RandomDeformations, make_pairs
from augreg.synthesis.render.compiled import CompiledArithmetic
from augreg.synthesis.render.folding import FoldingCheck
from augreg.synthesis.render.maps import Fitting
from augreg.synthesis.render.renderer import Renderer
from augreg.synthesis.render.tensors import TensorArithmetic
from benchmarks.harness.page import table
from benchmarks.harness.record import Row
from benchmarks.harness.timing import timed

# the functions whose time is a step's: owner, attribute, step
_STEPS = (
    (AppearancePairs, "draw", "draw"),
    (RandomDeformations, "draw", "draw"),
    (CompiledArithmetic, "mosaic", "mosaic"),
    (TensorArithmetic, "mosaic", "mosaic"),
    (FoldingCheck, "unfolded", "check of folding"),
    (Renderer, "_poses", "poses"),
    (Fitting, "_inverted", "inversion at the nodes"),
    (Fitting, "_moved", "the other map at the nodes"),
    (Fitting, "_through", "splines through the nodes"),
    (CompiledArithmetic, "shown", "flow and both images"),
    (CompiledArithmetic, "spread", "splines on the lattice"),
    (TensorArithmetic, "spread", "splines on the lattice"),
    (CompiledArithmetic, "move", "spline at points"),
    (TensorArithmetic, "move", "spline at points"),
    (CompiledArithmetic, "ends", "flow, mask"),
    (TensorArithmetic, "ends", "flow, mask"),
    (CompiledArithmetic, "pull", "inversion at the pixels"),
    (TensorArithmetic, "pull", "inversion at the pixels"),
    (CompiledArithmetic, "prefilter", "prefilter"),
    (TensorArithmetic, "prefilter", "prefilter"),
    (CompiledArithmetic, "interpolate", "interpolation"),
    (TensorArithmetic, "interpolate", "interpolation"),
    (Renderer, "gains", "light"),
    (CompiledArithmetic, "nearest", "labels"),
    (TensorArithmetic, "nearest", "labels"),
)


def profiled(generator: PairGenerator[Any], case: str, batch: int, device: str, repeat_count: int) -> list[Row]:
    """Seconds and bytes of each step per pair, medians over the repeats."""
    make_pairs(generator, 0, range(batch), device)
    repeats = []
    for repeat in range(repeat_count):
        steps: dict[str, list[float]] = {}
        with contextlib.ExitStack() as stack:
            for owner, attribute, step in _STEPS:
                if hasattr(owner, attribute):
                    watched = _watched(getattr(owner, attribute), steps, step, device)
                    stack.enter_context(mock.patch.object(owner, attribute, watched))
            _, took = timed(lambda: make_pairs(generator, 1, range(repeat * batch, (repeat + 1) * batch), device), device)  # noqa: B023
            steps["all"] = [took["seconds"], 0.0]
        repeats.append(steps)
    bandwidth = memory_bandwidth(device)
    rows = []
    for step in repeats[0]:
        seconds, size = (median(steps[step][part] / batch for steps in repeats if step in steps) for part in (0, 1))
        rows.append({"case": case, "device": device, "batch": batch, "step": step, "seconds": seconds, "bytes": size})
    return [row | {"bandwidth": bandwidth} for row in rows]


def _watched(function: Callable[..., Any], steps: dict[str, list[float]], step: str, device: str) -> Callable[..., Any]:
    def inner(*arguments: Any, **named: Any) -> Any:
        if steps.get("running"):  # part of another step
            return function(*arguments, **named)
        steps["running"] = [1.0]
        try:
            result, took = timed(lambda: function(*arguments, **named), device)
        finally:
            del steps["running"]
        seconds, size = steps.get(step, (0.0, 0.0))
        # the model's own arrays, such as the renderer's, are not seen here: they are small
        steps[step] = [seconds + took["seconds"], size + _bytes([arguments, named, result])]
        return result

    return inner


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return min(value.untyped_storage().nbytes(), value.numel() * value.element_size())
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes, value))
    return sum(_bytes(part) for part in vars(value).values()) if type(value).__name__.endswith("Draw") else 0


def memory_bandwidth(device: str, size: int = 1 << 25) -> float:
    """Bytes per second of a = b + c on arrays of `size` floats, the best of ten."""
    b, c = torch.ones(size, device=device), torch.ones(size, device=device)
    a = torch.empty_like(b)
    best = min(timed(lambda: torch.add(b, c, out=a), device)[1]["seconds"] for _ in range(10))
    return 3 * 4 * size / best


def profile_table(rows: list[Row]) -> str:
    """Steps from slow to fast."""
    whole = next(row for row in rows if row["step"] == "all")
    known = sorted((row for row in rows if row["step"] != "all"), key=lambda row: -row["seconds"])
    rest = whole["seconds"] - sum(row["seconds"] for row in known)
    cells = []
    for row in known:
        share = row["bytes"] / row["seconds"] / row["bandwidth"]
        cells.append([row["step"], f"{1000 * row['seconds']:.3g}", f"{row['seconds'] / whole['seconds']:.0%}"])
        cells[-1] += [f"{row['bytes'] / 1e6:.3g}", f"{share:.0%}"]
    cells.append(["the rest", f"{1000 * rest:.3g}", f"{rest / whole['seconds']:.0%}", "", ""])
    cells.append(["all", f"{1000 * whole['seconds']:.3g}", "100%", "", ""])
    head = ["step", "ms", "share", "MB in and out", f"of {whole['bandwidth'] / 1e9:.3g} GB/s"]
    return f"Batches of {whole['batch']}.\n\n" + table(head, cells)
