"""`augreg compile`: every kernel compiled ahead of its first use."""

from __future__ import annotations

import argparse
import time

from augreg.cli.options import Commands, command_of, json_option
from augreg.cli.output import report
from augreg.progress import bar, compiling_is_expected


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "compile",
        run,
        "compile every kernel ahead of its first use: for images of containers, and machines that must not wait",
        "augreg compile --json",
    )
    json_option(parser)


def run(options: argparse.Namespace) -> None:
    """`augreg compile`."""
    from augreg.cli.ahead import all_jobs
    from solvers.compiling import listening

    begin, names = time.perf_counter(), list[str]()
    compiling_is_expected()
    jobs = all_jobs()
    with bar("compile", float(len(jobs))) as update, listening(names.append):
        for number, (what, job) in enumerate(jobs):
            update(float(number), what)
            job()
        update(float(len(jobs)), "")
    seconds = time.perf_counter() - begin
    text = f"{len(names)} kernels compiled in {seconds:.1f} s" if names else "every kernel was compiled before"
    report({"compiled": len(names), "seconds": seconds}, text, as_json=options.json)
