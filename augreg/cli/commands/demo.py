"""`augreg demo`: the whole story on sample data."""

from __future__ import annotations

import argparse
from pathlib import Path

from augreg.cli.arguments import seed
from augreg.cli.options import Commands, command_of, json_option
from augreg.cli.output import report
from augreg.progress import bar


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(commands, "demo", run, "the whole story on sample data, as one page", "augreg demo -o augreg-demo")
    parser.add_argument("-o", "--output", metavar="DIR", default="augreg-demo", help="of the page (default augreg-demo)")
    parser.add_argument("--images", nargs="+", metavar="I", help="your own images; label maps beside them as NAME_labels")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="same seed, same page (default 0)")
    json_option(parser)


def run(options: argparse.Namespace) -> None:
    """`augreg demo`."""
    from augreg import demo as story

    event = None
    with bar("demo", 1.0) as update:
        for event in story.run(Path(options.output), images=options.images, lesson=story.Lesson(seed=options.seed)):
            update(event.done, event.message)
    assert event is not None
    report(event.summary, event.message, as_json=options.json)
