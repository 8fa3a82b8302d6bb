"""How fast pairs are made on the card, which of their steps take the time, and which kernels."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from augreg.io import atomic
from augreg.synthesis import PairGenerator, make_pairs, pair_rngs
from augreg.synthesis.render import renderer
from augreg.synthesis.render.tensors import TensorArithmetic
from benchmarks.card.pack_files import Pack
from benchmarks.card.parts import median_ms, peak_memory, release, tried
from benchmarks.card.reference import COMPARED, SEED, compared, generators, read_reference
from benchmarks.card.sizes import Sizes
from benchmarks.harness.timing import timed
from benchmarks.synthesis.profile import profiled


@contextmanager
def by_tensors() -> Iterator[None]:
    """Rendering by tensor operations on every device: in a rehearsal the CPU does what the card does."""
    with mock.patch.object(renderer, "arithmetic_on", return_value=TensorArithmetic()):
        yield


def check_rendering(pack: Pack, reference: Path, device: str, rows: list[dict[str, Any]], end: float) -> None:
    """Pairs of the card beside those of the CPU's kernels, which may still be in the making."""
    for name, generator in generators(pack).items():
        while (known := read_reference(reference, name)) is None and time.monotonic() < end - 2:
            time.sleep(0.2)
        if known is None:
            rows.append({"pairs": name, "error": "the CPU's pairs were not ready in time"})
            continue
        wanted, about = known
        tried(
            rows,
            {"pairs": name, "CPU pairs a second": about["pairs_per_second"]},
            lambda: compared(make_pairs(generator, SEED, range(COMPARED[name]), device), wanted),  # noqa: B023
        )


def time_pairs(pack: Pack, sizes: Sizes, device: str, found: dict[str, Any], report: Path) -> None:
    """Rows of pairs a second, of steps, and a file about kernels."""
    found |= {"speed": [], "steps": []}
    for name, generator in generators(pack).items():
        batches = sizes.batches if name == "2-D" else sizes.solid_batches
        for batch in batches:
            about = {"pairs": name, "shape": generator.grid.shape, "batch": batch}
            tried(found["speed"], about, lambda: _speed(generator, batch, device, sizes.repeats // 3 or 1))  # noqa: B023
            release()
        for batch in batches[:2]:
            steps: list[dict[str, Any]] = []
            tried(steps, {"pairs": name}, lambda: {"rows": profiled(generator, name, batch, device, 3)})  # noqa: B023
            found["steps"] += steps[0].get("rows", steps)
            release()
        tried([], {"kernels": name}, lambda: {"file": str(_kernels(generator, batches[0], device, name, report))})  # noqa: B023


def _speed(generator: PairGenerator[Any], batch: int, device: str, repeats: int) -> dict[str, Any]:
    draw, took = timed(lambda: generator.draw(pair_rngs(0, range(batch))))
    drawn = took["seconds"]
    rendered = median_ms(lambda: generator.render(draw, device), device, repeats, warm=1)["median_ms"] / 1e3
    return {
        "pairs a second, drawn ahead": batch / rendered,
        "pairs a second, drawn by one thread": batch / (rendered + drawn),
        "render_ms": 1e3 * rendered / batch,
        "draw_ms": 1e3 * drawn / batch,
        "memory_gb": peak_memory(device),
    }


def _kernels(generator: PairGenerator[Any], batch: int, device: str, name: str, report: Path) -> Path:
    kinds = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * (device != "cpu")
    draw = generator.draw(pair_rngs(1, range(batch)))
    generator.render(draw, device)
    with torch.profiler.profile(activities=kinds) as profile:
        generator.render(draw, device)
        if device != "cpu":
            torch.cuda.synchronize()
    by = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    text = profile.key_averages().table(sort_by=by, row_limit=10, max_name_column_width=80)
    before = report.read_text(encoding="utf-8") if report.exists() else ""
    with atomic(report) as path:
        path.write_text(f"{before}{name}, one batch of {batch} pairs\n\n{text}\n\n", encoding="utf-8")
    return report
