"""The runner: `python -m benchmarks.experiments.run brain [--only sam random] [--ants-python PATH]`.

It goes through a list of runs, each in a folder of its own under `--out`: a run with a result is not run again, a training that
was cut off goes on from its checkpoint. Two of them may share a list by `--only`. The test people are registered once per run,
when all else is done.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from augreg.dense import DenseRegistration
from augreg.geometry.image import Image
from augreg.geometry.transforms import Transform
from augreg.io import atomic
from augreg.networks import RefinedFlow
from augreg.recipes import first_network, training_options
from augreg.registration import Chained
from augreg.threads import set_threads
from augreg.training import (
    CHECKPOINT,
    WEIGHTS,
    FlowRegistration,
    Machine,
    torch_threads,
    train,
)
from benchmarks.experiments.measures import measured_rows
from benchmarks.experiments.people import STUDIES, Study, read_study
from benchmarks.experiments.settings import SETTINGS, Settings
from benchmarks.experiments.software import RIVALS, gradient, nothing, rival, timed
from benchmarks.experiments.sources import LEARNED, source
from benchmarks.harness.record import machine

RESULT, TRAINING = "result.json", "training.json"
# width and factor on the steps: for two cores, and for a graphics card
WIDTH = 0.25
FULL = (1.0, 10)
_SEEDED = ("sam", "pca", "random")
_SIZED = ("sam", "random")
_SIZES = (10, 5)


@dataclass(frozen=True)
class Run:
    """One line of the list.

    Parameters
    ----------
    method : learned, or software
    people : to learn from
    seed : of weights and pairs
    width : of the network
    longer : factor on the steps
    """

    method: str
    people: int = 0
    seed: int = 0
    width: float = WIDTH
    longer: int = 1

    @property
    def key(self) -> str:
        """Unique, and the name of the run's folder."""
        if self.method not in LEARNED:
            return self.method
        longer = "" if self.longer == 1 else f"-x{self.longer}"
        return f"{self.method}-n{self.people}-s{self.seed}-w{self.width:g}{longer}"


def runs(study: Study, *, full: bool = False) -> list[Run]:
    """In the order in which the story is told: every method once, then longer, with other seeds, with fewer people.

    Those at full width with ten times the pairs are a list of their own.
    """
    everyone = len(study.people)
    if full:
        width, longer = FULL
        return [Run(method, everyone, width=width, longer=longer) for method in LEARNED]
    once = [Run(method) for method in ("none", "program", "gradient")] + [Run(method, everyone) for method in LEARNED]
    seeds = [Run(method, everyone, seed) for seed in (1, 2) for method in _SEEDED]
    sizes = [Run(method, people) for people in _SIZES for method in _SIZED]
    longer = [Run(method, everyone, longer=2) for method in _SEEDED]
    return once + [Run(method) for method in RIVALS] + longer + seeds + sizes


def main() -> None:
    """Command line."""
    options = _parser().parse_args()
    study = read_study(options.study)
    listed = runs(study, full=options.full)
    chosen = [run for run in listed if not options.only or run.method in options.only or run.key in options.only]
    if not chosen:
        sys.exit(f"--only: expected methods or keys that --list shows, got {' '.join(options.only)}")
    set_threads(options.threads)
    pythons = {"elastix": sys.executable, "ants": options.ants_python}
    for run in chosen:
        folder = options.out / study.name / "runs" / run.key
        finished = (folder / RESULT).exists()
        python = pythons[RIVALS[run.method][0]] if run.method in RIVALS else sys.executable
        if options.list:
            print(f"{run.key:<30} {'done' if finished else ''}")
        elif not finished and python is not None:
            print(f"{run.key} ...", file=sys.stderr, flush=True)
            folder.mkdir(parents=True, exist_ok=True)
            _once(folder / RESULT, partial(performed, run, study, folder, options.threads, str(python), options.device))


def performed(run: Run, study: Study, folder: Path, threads: int, python: str, device: str) -> dict[str, Any]:
    """Train if there is something to train, register the test people, and say how it went."""
    settings = SETTINGS[study.name]
    result = {"study": study.name, **asdict(run), "threads": threads, "machine": machine()}
    versions = {name: version(name) for name in ("numpy", "torch")}
    if run.method in RIVALS:
        with rival(run.method, python, threads, study.pairs[-1]) as (method, others):
            rows = list(measured_rows({"alone": method}, study))
            versions |= others
    elif run.method in LEARNED:
        result["settings"] = _described(settings)
        result["device"] = torch.cuda.get_device_name() if device.startswith("cuda") else device
        result |= _once(folder / TRAINING, lambda: trained(run, study.fewer(run.people), settings, folder, device))
        flow = FlowRegistration.from_file(folder / WEIGHTS)
        flow.network.to(device)
        with torch_threads(threads):
            rows = list(measured_rows({how: timed(method) for how, method in ways(flow, settings).items()}, study))
    else:
        own = {"none": nothing, "program": settings.program, "gradient": gradient(settings, study.test[0].image)}
        with torch_threads(threads):
            rows = list(measured_rows({"alone": timed(own[run.method])}, study))
    return result | {"versions": versions, "date": datetime.date.today().isoformat(), "rows": rows}


def ways(flow: FlowRegistration, settings: Settings) -> dict[str, Callable[[Image, Image], Transform]]:
    """How a network is used: alone, again on what it has left, and followed by a linear program, by gradient or dense steps."""
    twice = Chained(flow, flow)
    return {
        "alone": flow,
        "twice": twice,
        "thrice": Chained(twice, flow),
        "then program": Chained(flow if settings.passes == 1 else twice, settings.afterwards),
        "then gradient": Chained(flow, FlowRegistration(RefinedFlow(flow.network, settings.refining), flow.spacing)),
        "then dense": Chained(twice, DenseRegistration()),
    }


def trained(run: Run, study: Study, settings: Settings, folder: Path, device: str) -> dict[str, Any]:
    """Train the run's network; its weights are in the folder afterwards, the result is about the training."""
    begin = time.process_time()
    pairs = source(run.method, study, settings, run.seed, folder.parents[1] / f"kept-n{run.people}")
    prepared = time.process_time()
    recipe = replace(settings.recipe, width=run.width, steps=settings.recipe.steps * run.longer)
    network = first_network(recipe, study.training[0].image.ndim, run.seed)
    options = training_options(recipe, Machine(device=device, threads=1), checkpoint_seconds=60.0)
    curve = []
    resume = (folder / CHECKPOINT).exists()
    spacing = study.training[0].image.grid.spacing
    for state in train(network, pairs.batches, spacing, folder, options, objective=pairs.objective, resume=resume):
        if state.step % max(1, options.steps // 30) == 0:
            curve.append({"step": state.step, "loss": state.loss, "epe": state.epe, "epe_without": state.epe_without})
            print(f"{run.key}: step {state.step} of {options.steps}, loss {state.loss:.3f}", file=sys.stderr, flush=True)
    return {
        "preparing_cpu_seconds": prepared - begin,
        "training_cpu_seconds": time.process_time() - prepared,
        "resumed": resume,
        "curve": curve,
    }


def _once(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a file says, which is made first where there is none."""
    if not path.exists():
        made = make()
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def _described(settings: Settings) -> dict[str, Any]:
    known = asdict(settings)
    # how programs are solved is no setting of the experiment
    for program in ("program", "afterwards"):
        known[program].pop("solver")
    return known


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.run", description="Run the experiment.")
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/experiments"), metavar="FOLDER", help="is continued where it exists"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="methods or keys, as --list shows them")
    parser.add_argument("--list", action="store_true", help="say what there is to do")
    parser.add_argument("--threads", type=int, default=1, help="of registrations; trainings have one")
    parser.add_argument(
        "--full", action="store_true", help="the runs at full width with ten times the pairs, for a graphics card"
    )
    parser.add_argument("--device", default="cpu", help="of networks: cpu (default) or cuda")
    parser.add_argument("--ants-python", type=Path, metavar="PYTHON", help="of an environment with antspyx")
    return parser


if __name__ == "__main__":
    main()
