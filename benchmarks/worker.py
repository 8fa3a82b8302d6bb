"""The process of one rival: `python -m benchmarks.worker MODULE THREADS`.

Per registration a line of JSON on standard input, `{"function", "pair", "result"}`, and a line on standard output, `{"seconds",
"cpu_seconds"}` or `{"error"}`. `pair` is an .npz of `fixed, moving, points`; `result`, written after the clock has stopped, an
.npz of `grid` (nx, ny, 2), where the pixels of the fixed image go, and `points` (N, 2), where the points go.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.rivals import DISTRIBUTIONS


def main() -> None:
    """Answer until the input ends; the first line says the version."""
    name, threads = sys.argv[1], int(sys.argv[2])
    # libraries print what they like: it goes to standard error
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module = importlib.import_module(f"benchmarks.rivals.{name}")
    module.use(threads)
    print(json.dumps({"version": version(DISTRIBUTIONS[name])}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(module, json.loads(line))), file=answers, flush=True)


def _answer(module: Any, request: dict[str, str]) -> dict[str, Any]:
    with np.load(request["pair"]) as pair:
        fixed, moving, points = pair["fixed"], pair["moving"], pair["points"]
    images = module.image(fixed), module.image(moving)
    begin, cpu = time.perf_counter(), time.process_time()
    try:
        maps = getattr(module, request["function"])(*images)
        took = {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - cpu}
        pixels = np.stack(np.meshgrid(*map(np.arange, fixed.shape[:2]), indexing="ij"), axis=-1)
        grid = maps(pixels.reshape(-1, 2).astype(float)).reshape(pixels.shape)
        np.savez(request["result"], grid=grid, points=maps(points) if len(points) else points)
    except Exception as error:  # whatever a library raises is a row of the table
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[-160:]}"}
    return took


if __name__ == "__main__":
    main()
