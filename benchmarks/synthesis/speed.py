"""Whole pairs beside other libraries' deformed images.

The others deform one image a call and give no truth; augreg gives pairs: two images, displacement, mask and, in 2-D, both label
maps; where it is said, the displacement back and its mask too. One process has them all; every repeat goes through all methods,
so that other work on the machine hurts all alike. The size of deformations is measured on a ramp: warped, it shows its
displacement. `--profile` says instead where the time of a pair goes, by step, and what share of the memory bandwidth each step
would use if it read its inputs and wrote its outputs once. On `--device cuda`: augreg, and those that run there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import augreg as ar
from augreg.sam import AppearanceModel
from augreg.synthesis import AppearancePairs, PairGenerator, RandomDeformations, make_pairs
from augreg.threads import set_threads as set_own_threads
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, read_record, write_record
from benchmarks.harness.timing import in_turns
from benchmarks.synthesis.people import People, brain3d, cardiac2d
from benchmarks.synthesis.profile import profile_table, profiled
from benchmarks.synthesis.rivals import RIVALS, set_threads

# name: people, pairs a batch on the CPU and on CUDA, calls of a rival per repeat
_CASES: dict[str, tuple[Callable[[], People], tuple[int, ...], tuple[int, ...], int]] = {
    "2-D, 256 x 256": (cardiac2d, (16,), (64, 128, 256), 8),
    "3-D, 128 x 128 x 128": (lambda: brain3d(1.7, (128, 128, 128)), (1,), (4, 8), 1),
}
_PACKAGES = ("numpy", "scipy", "numba", "torch", *dict.fromkeys(rival.package for rival in RIVALS))


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command; rows of other devices and kinds stay in the output."""
    parser.add_argument("--only", nargs="+", default=list(_CASES), choices=list(_CASES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--own", action="store_true", help="without the rivals")
    parser.add_argument("--profile", action="store_true", help="where augreg's time goes")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="keep fitted models there")


def run(options: argparse.Namespace) -> None:
    """Measure one kind of rows."""
    set_threads(options.threads)
    set_own_threads(options.threads)
    record: Record = read_record(options.output) if options.output.exists() else {"speed": [], "profile": []}
    kind = "profile" if options.profile else "speed"
    for case in options.only:
        people = _CASES[case][0]()
        model = _model(people, options.models, case)
        found = _steps(model, case, options) if options.profile else list(measured(people, model, case, options))
        kept = [row for row in record[kind] if (row["case"], row["device"]) != (case, options.device)]
        record = {**record, **about(options.threads, _PACKAGES), kind: [*kept, *found]}
        if options.device != "cpu":
            record["gpu"] = torch.cuda.get_device_name()
        write_record(options.output, record)


def _model(people: People, folder: Path | None, case: str) -> AppearanceModel:
    path = None if folder is None else folder / f"{people.name}-{case.split(',')[0]}.npz"
    if path is not None and path.exists():
        return ar.read_model(path)
    model = people.model()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        ar.write_model(model, path)
    return model


def _steps(model: AppearanceModel, case: str, options: argparse.Namespace) -> list[Row]:
    batch = (_CASES[case][1] if options.device == "cpu" else _CASES[case][2])[0]
    return profiled(AppearancePairs(model), case, batch, options.device, options.repeats)


def generators(people: People, model: AppearanceModel) -> dict[str, PairGenerator[Any]]:
    """augreg's."""
    return {"augreg AppearancePairs": AppearancePairs(model), "augreg RandomDeformations": RandomDeformations.of(people.images)}


def measured(people: People, model: AppearanceModel, case: str, options: argparse.Namespace) -> Iterator[Row]:
    """Rows of all methods and repeats."""
    _, on_cpu, on_cuda, calls = _CASES[case]
    device = options.device
    image = np.ascontiguousarray(people.images[0].values, dtype=np.float32)
    runs: dict[str, tuple[Callable[[int], Any], int, Row]] = {}
    for name, generator in generators(people, model).items():
        for batch in on_cpu if device == "cpu" else on_cuda:
            about_it = {
                "batch": batch,
                "order": 3,
                "pairs": True,
                "rms": _pair_size(make_pairs(generator, 0, range(batch), device)),
            }
            make = _batches(generator, batch, device)
            runs[f"{name}, batches of {batch}"] = (make, batch, about_it)
            runs[f"{name}, batches of {batch}, with the way back"] = (
                lambda repeat, make=make: make(repeat).reverse,
                batch,
                about_it,
            )
    for rival in RIVALS:
        if not options.own and image.ndim in rival.ndims and (device == "cpu" or rival.cuda):
            try:
                size = _ramp_size(rival.make(_ramp(image.shape), device), image.shape)
                runs[rival.name] = (_calls(rival.make(image, device), calls), calls, {"order": rival.order, "rms": size})
            except Exception as error:  # a rival that cannot run is a row, not the end
                yield {"case": case, "device": device, "method": rival.name, "error": f"{type(error).__name__}: {error}"[:300]}
    for name, repeat, took in in_turns({name: call for name, (call, *_) in runs.items()}, options.repeats, device):
        _, count, about_it = runs[name]
        yield {"case": case, "device": device, "method": name, "repeat": repeat, "count": count} | took | about_it
        print(case, "repeat", repeat, name, file=sys.stderr, flush=True)


def _batches(generator: PairGenerator[Any], batch: int, device: str) -> Callable[[int], Any]:
    return lambda repeat: make_pairs(generator, 1, range(repeat * batch, (repeat + 1) * batch), device)


def _calls(deform: Callable[[], Any], calls: int) -> Callable[[int], Any]:
    return lambda _: [deform() for _ in range(calls)]


def _pair_size(batch: Any) -> float:
    """Root mean square displacement along an axis, inside the mask."""
    return float(batch.flow.square().mean(dim=1, keepdim=True)[batch.mask].mean().sqrt())


def _ramp(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.arange(shape[0], dtype=np.float32).reshape(-1, *[1] * (len(shape) - 1)), shape).copy()


def _ramp_size(deform: Callable[[], Any], shape: tuple[int, ...], count: int = 3) -> float:
    """The same of a deformed ramp, a quarter of the sides away from the borders."""
    inner = tuple(slice(n // 4, n - n // 4) for n in shape)
    total = 0.0
    for _ in range(count):
        found = deform()
        values = np.asarray(found.cpu() if isinstance(found, torch.Tensor) else found, dtype=np.float64).reshape(shape)
        total += float(np.mean((values - _ramp(shape))[inner] ** 2)) / count
    return total**0.5


def rendered(record: Record) -> str:
    """Tables of both kinds."""
    text = heading(record, *([record["gpu"]] if "gpu" in record else [])) + "\n"
    for kind, shown in (("speed", _speed_table), ("profile", profile_table)):
        for case, device in dict.fromkeys((row["case"], row["device"]) for row in record[kind]):
            rows = [row for row in record[kind] if (row["case"], row["device"]) == (case, device)]
            title = f"{case}, {device}" + (": where the time of a pair goes" if kind == "profile" else "")
            text += f"\n### {title}\n\n{shown(rows)}"
    return text


def _speed_table(rows: list[Row]) -> str:
    cells = []
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method and "error" not in row]
        if not mine:
            cells.append([method, next(row["error"] for row in rows if row["method"] == method), "", "", "", ""])
            continue
        rate = median(row["count"] / row["seconds"] for row in mine)
        spent = median(row["cpu_seconds"] / row["count"] for row in mine)
        kind = "pairs" if mine[0].get("pairs") else "images"
        cells.append([method, kind, f"{rate:.3g}", f"{1000 * spent:.3g}", f"{mine[0]['rms']:.1f}", str(mine[0]["order"])])
    return table(["", "gives", "a second", "CPU ms each", "displacement, rms px per axis", "order"], cells)
