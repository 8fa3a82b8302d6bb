"""What the CPU's compiled kernels make of the same random numbers, and how fast: a process of its own beside the card."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from augreg.io import atomic, read_arrays, write_arrays
from augreg.synthesis import PairBatch, PairGenerator, make_pairs
from benchmarks.card.pack_files import Pack
from benchmarks.card.sizes import Sizes
from benchmarks.harness.timing import in_turns

SEED = 5
# how many pairs are compared
COMPARED = {"2-D": 4, "3-D": 1}
_KIND = "reference pairs"


def generators(pack: Pack) -> dict[str, PairGenerator[Any]]:
    """Of pairs in 2-D and 3-D."""
    return {"2-D": pack.slices, "3-D": pack.volumes}


def make_reference(pack: Pack, sizes: Sizes, folder: Path) -> None:
    """Pairs of each dimension and their speed, a file each."""
    for name, generator in generators(pack).items():
        pairs = make_pairs(generator, SEED, range(COMPARED[name]))
        batch = (sizes.batches if name == "2-D" else sizes.solid_batches)[0]
        calls = {name: lambda repeat: make_pairs(generator, repeat, range(batch))}  # noqa: B023
        rates = [batch / took["seconds"] for *_, took in in_turns(calls, 3, warm=0)]
        arrays = {name: part.numpy() for name, part in pairs.parts.items()}
        write_arrays(folder / f"{name}.npz", arrays, {"kind": _KIND, "pairs_per_second": max(rates), "batch": batch})
    with atomic(folder / "done") as path:
        path.write_text("all\n", encoding="utf-8")


def read_reference(folder: Path, name: str) -> tuple[PairBatch, dict[str, Any]] | None:
    """The pairs of a dimension and what is known of their speed; None where they are not ready."""
    path = folder / f"{name}.npz"
    if not path.exists():
        return None
    arrays, about = read_arrays(path, _KIND)
    return PairBatch.of({part: torch.from_numpy(values) for part, values in arrays.items()}), about


@contextmanager
def reference_in_the_making(data: Path, folder: Path, tiny: bool) -> Iterator[subprocess.Popen[bytes]]:
    """The process, which ends with the block."""
    command = [sys.executable, "-m", "benchmarks", "run", "card", "--data", str(data), "--reference", str(folder)]
    child = subprocess.Popen(command + ["--tiny"] * tiny, stdout=sys.stderr)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def compared(found: PairBatch, wanted: PairBatch) -> dict[str, float]:
    """The largest differences of images, and of flows where both masks agree; of masks and labels the shares that differ."""
    mine = found.to("cpu")
    span = float(wanted.fixed.max() - wanted.fixed.min())
    both, both_reverse = mine.mask & wanted.mask, mine.reverse_mask & wanted.reverse_mask
    images = ((mine.fixed, wanted.fixed), (mine.moving, wanted.moving))
    rows = {
        "images, share of the range": max(float((a - b).abs().max()) for a, b in images) / span,
        "flow, voxels": float(((mine.flow - wanted.flow).abs() * both).max()),
        "reverse, voxels": float(((mine.reverse - wanted.reverse).abs() * both_reverse).max()),
        "masks, share of pixels that differ": float((mine.mask != wanted.mask).double().mean()),
    }
    if mine.fixed_labels is not None and wanted.fixed_labels is not None:
        rows["labels, share of pixels that differ"] = float((mine.fixed_labels != wanted.fixed_labels).double().mean())
    assert all(np.isfinite(value) for value in rows.values())
    return rows
