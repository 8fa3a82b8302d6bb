"""The process of one rival: `python -m benchmarks.registration.worker MODULE THREADS [TREE]`.

It is asked by lines of JSON, `{"function", "pair", "result"}`, and answers `{"seconds", "cpu_seconds"}` or `{"error"}`; without a
function it says its version. `pair` is an .npz of `fixed, moving, points, spacings`; `result`, written after the clock has
stopped, an .npz of `grid` (*shape, D), where the voxels of the fixed image go, and `points` (N, D), where the points go. augreg
is that of the checkout TREE, where one is given.
"""

from __future__ import annotations

import importlib
import json
import sys
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.harness.process import answer_lines
from benchmarks.harness.timing import timed
from benchmarks.registration.rivals import DISTRIBUTIONS


def main() -> None:
    """Answer until the input ends."""
    name, threads, *tree = sys.argv[1:]
    sys.path[:0] = tree
    module = None

    def answer(line: str) -> dict[str, Any]:
        nonlocal module
        if module is None:
            module = importlib.import_module(f"benchmarks.registration.rivals.{name}")
            module.use(int(threads))
        request = json.loads(line)
        return registered(module, **request) if request else {"version": version(DISTRIBUTIONS[name])}

    answer_lines(answer)


def registered(module: Any, function: str, pair: str, result: str) -> dict[str, Any]:
    """Register a pair by a function of a module."""
    with np.load(pair) as arrays:
        fixed, moving, points, spacings = (arrays[name] for name in ("fixed", "moving", "points", "spacings"))
    ndim = spacings.shape[1]
    images = [module.image(values, tuple(spacing.tolist())) for values, spacing in zip((fixed, moving), spacings, strict=True)]
    try:
        maps, took = timed(lambda: getattr(module, function)(*images))
        voxels = np.stack(np.meshgrid(*map(np.arange, fixed.shape[:ndim]), indexing="ij"), axis=-1)
        grid = maps(voxels.reshape(-1, ndim).astype(float)).reshape(voxels.shape)
        np.savez(result, grid=grid, points=maps(points) if len(points) else points)
    except Exception as error:  # whatever a library raises is a row of the table
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[-160:]}"}
    return took


if __name__ == "__main__":
    main()
