"""All parts in their order."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.card.checks import check_networks
from benchmarks.card.inference import time_networks
from benchmarks.card.learning import learn_slices, learn_volumes
from benchmarks.card.pack_files import read_pack
from benchmarks.card.page import rendered
from benchmarks.card.pairs import by_tensors, check_rendering, time_pairs
from benchmarks.card.parts import Part, run_parts
from benchmarks.card.reference import reference_in_the_making
from benchmarks.card.sizes import Sizes
from benchmarks.harness.record import about

_PACKAGES = ("numpy", "scipy", "numba", "torch", "triton", "nvidia-cudnn-cu13")


def run(data: Path, output: Path, end: float, device: str, sizes: Sizes, only: list[str] | None, *, tiny: bool) -> bool:
    """Results into a folder; whether a part failed."""
    output.mkdir(parents=True, exist_ok=True)
    pack = read_pack(data)
    record: dict[str, Any] = {**about(torch.get_num_threads(), _PACKAGES), "torch": torch.__version__, "device": device}
    if device != "cpu":
        record |= {"card": torch.cuda.get_device_name(), "cudnn": torch.backends.cudnn.version(), "cuda": torch.version.cuda}
    else:
        # a rehearsal's tensors are too small for threads, which would wait for each other
        torch.set_num_threads(1)
    record["parts"] = {}
    with TemporaryDirectory() as scratch, reference_in_the_making(data, Path(scratch), tiny), by_tensors():
        reference = Path(scratch)
        listed = [
            Part("networks", 0.07, lambda found, _: check_networks(sizes, device, _rows(found))),
            Part("inference", 0.16, lambda found, end: time_networks(sizes, device, _rows(found), end)),
            Part("pairs", 0.10, lambda found, _: time_pairs(pack, sizes, device, found, output / "kernels.txt")),
            Part("rendering", 0.08, lambda found, end: check_rendering(pack, reference, device, _rows(found), end)),
            Part("slices", 0.46, lambda found, end: learn_slices(pack, sizes, device, found, output, end)),
            Part("volumes", 0.13, lambda found, end: learn_volumes(pack, sizes, device, found, end)),
        ]
        parts = [part for part in listed if not only or part.name in only]
        failed = run_parts(parts, record, output / "card.json", end)
    page = rendered(record)
    (output / "card.md").write_text(page, encoding="utf-8")
    print(page)
    return failed


def _rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    return found.setdefault("rows", [])
