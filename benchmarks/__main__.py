"""The benchmarks: `python -m benchmarks list`, `run NAME ...`, `table NAME [RESULT.json]`.

`run` writes a record to `runs/benchmarks/NAME.json`, which git ignores, or to `--output`, and prints its tables. With `--keep` it
writes to `benchmarks/results/NAME.json`, and its tables to the page that shows them, between marks of the benchmark's name.
`table` writes the tables of the kept record to that page once more, or prints those of another record.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.page import put_into
from benchmarks.harness.places import ROOT, fresh, kept
from benchmarks.harness.record import Unusable, read_record


@dataclass(frozen=True)
class Benchmark:
    """One of them.

    Parameters
    ----------
    module : with `options(parser)` and `run(options)`, and `rendered(record)` where it writes a record; or with a `main()` that
        reads the command line itself
    page : Markdown page of its tables
    defaults : of its options, where they are not the module's own
    """

    module: str
    page: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def about(self) -> str:
        """The first paragraph of the module's documentation, without importing it."""
        source = (ROOT / self.module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
        text = " ".join((ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0].split())
        return text + f" Defaults: {dict(self.defaults)}." * bool(self.defaults)


_PAGE, _DOUBTS = "benchmarks/README.md", "docs/explanations/when-it-is-wrong.md"
_LABELS = "benchmarks/experiments/labels.md"
_TRIALS = "benchmarks/experiments/fields.md"
# time against size
_SCALE = {"only": ["affine-scale", "elastic-scale"], "rivals": ["augreg", "opencv"]}
BENCHMARKS = {
    "registration": Benchmark("benchmarks.registration.run", _PAGE),
    "scale": Benchmark("benchmarks.registration.run", _PAGE, _SCALE),
    "volumes": Benchmark("benchmarks.registration.volumes", _PAGE),
    "people": Benchmark("benchmarks.registration.people", _PAGE),
    "template": Benchmark("benchmarks.registration.templates", _PAGE),
    "budgets": Benchmark("benchmarks.registration.budgets", _PAGE),
    "descriptors": Benchmark("benchmarks.registration.descriptors"),
    "settings": Benchmark("benchmarks.registration.settings"),
    "information": Benchmark("benchmarks.registration.information"),
    "smoothness": Benchmark("benchmarks.registration.smoothness"),
    "spacings": Benchmark("benchmarks.registration.spacings", _PAGE),
    "tracking": Benchmark("benchmarks.registration.tracking", _PAGE),
    "slides": Benchmark("benchmarks.registration.slides", _PAGE),
    "stains": Benchmark("benchmarks.registration.stains"),
    "start": Benchmark("benchmarks.start.run", _PAGE),
    "silent": Benchmark("benchmarks.silent.run", _DOUBTS),
    "unrelated": Benchmark("benchmarks.silent.unrelated", _DOUBTS),
    "fuzz": Benchmark("benchmarks.files.fuzz", _DOUBTS),
    "cold": Benchmark("benchmarks.commands.cold", _PAGE),
    "command": Benchmark("benchmarks.commands.command", _PAGE),
    "programs": Benchmark("benchmarks.solvers.programs"),
    "solvers": Benchmark("benchmarks.solvers.run", _PAGE),
    "shapes": Benchmark("benchmarks.models.shapes", _PAGE),
    "inference": Benchmark("benchmarks.models.inference", _PAGE),
    "flyingchairs": Benchmark("benchmarks.models.flyingchairs", _PAGE),
    "pairs-exactness": Benchmark("benchmarks.synthesis.exactness", _PAGE),
    "pairs-speed": Benchmark("benchmarks.synthesis.speed", _PAGE),
    "atlas": Benchmark("benchmarks.atlas.run", _PAGE),
    "fusion": Benchmark("benchmarks.atlas.fusions", _PAGE),
    "plausibility": Benchmark("benchmarks.synthesis.plausibility", _PAGE),
    "card": Benchmark("benchmarks.card.command"),
    "norms": Benchmark("benchmarks.experiments.norms"),
    "squarings": Benchmark("benchmarks.experiments.squarings", _TRIALS),
    "prostate": Benchmark("benchmarks.experiments.prostate", _LABELS),
    "hearts": Benchmark("benchmarks.experiments.hearts", _LABELS),
    "regnet": Benchmark("benchmarks.experiments.regnet", _TRIALS),
    "steering": Benchmark("benchmarks.experiments.steering", _TRIALS),
    "chest": Benchmark("benchmarks.experiments.chest", _TRIALS),
    "agent": Benchmark("benchmarks.agent.run", "benchmarks/agent/README.md"),
    "contrast": Benchmark("benchmarks.experiments.contrast", _TRIALS),
    "fields-page": Benchmark("benchmarks.experiments.fields_page"),
    "experiments": Benchmark("benchmarks.experiments.run"),
    "experiments-table": Benchmark("benchmarks.experiments.table"),
    "experiments-page": Benchmark("benchmarks.experiments.page"),
    "experiments-ship": Benchmark("benchmarks.experiments.ship"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="augreg's benchmarks.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="names, and what each measures")
    one = commands.add_parser("run", help="measure: run NAME --help shows the options of a benchmark")
    one.add_argument("name", choices=BENCHMARKS)
    shown = commands.add_parser("table", help="tables of a record")
    shown.add_argument("name", choices=[name for name, benchmark in BENCHMARKS.items() if benchmark.page])
    shown.add_argument("record", type=Path, nargs="?", metavar="RESULT.json", help="printed; default: the kept one, to its page")
    if words[:1] == ["run"] and words[1:2] and words[1] in BENCHMARKS:
        run(words[1], words[2:])
        return
    options = parser.parse_args(words)
    if options.command == "list":
        print("\n".join(f"{name:<18} {benchmark.about}" for name, benchmark in BENCHMARKS.items()))
    else:
        show(options.name, options.record)


def run(name: str, words: Sequence[str]) -> None:
    """Measure."""
    module = importlib.import_module(BENCHMARKS[name].module)
    if not hasattr(module, "run"):
        sys.argv[1:] = words
        module.main()
        return
    parser = parser_of(name, module)
    options = parser.parse_args(words)
    if BENCHMARKS[name].page:
        options.output = kept(name) if options.keep else options.output or fresh(name)
    try:
        module.run(options)
    except Unusable as error:
        parser.error(f"{error}")
    if BENCHMARKS[name].page:
        show(name, None if options.keep else options.output)


def parser_of(name: str, module: Any) -> argparse.ArgumentParser:
    """Of the options of a benchmark."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks run {name}", description=BENCHMARKS[name].about)
    if BENCHMARKS[name].page:
        place = parser.add_mutually_exclusive_group()
        place.add_argument("--output", type=Path, metavar="RESULT.json", help=f"default: {fresh(name).relative_to(ROOT)}")
        place.add_argument("--keep", action="store_true", help="as the repository's result, with its tables in its page")
    module.options(parser)
    parser.set_defaults(**BENCHMARKS[name].defaults)
    return parser


def show(name: str, record: Path | None) -> None:
    """Print the tables of a record, or write those of the kept one to their page."""
    benchmark = BENCHMARKS[name]
    text = importlib.import_module(benchmark.module).rendered(read_record(record or kept(name)))
    if record is None:
        put_into(ROOT / benchmark.page, name, text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
