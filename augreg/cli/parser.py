"""The parser of `augreg`: that of every command, one after the other."""

from __future__ import annotations

import argparse
from typing import NoReturn

from augreg import __version__
from augreg.cli.commands import (
    atlas,
    cohort,
    demo,
    evaluate,
    export,
    info,
    points,
    register,
    sam,
    series,
    synthesize,
    template,
    test,
    train,
    transform,
    warp,
)
from augreg.cli.commands import compile as ahead
from augreg.cli.options import TRANSFORMS

# in the order of `augreg --help`
_COMMANDS = (
    register,
    warp,
    points,
    transform,
    evaluate,
    sam,
    synthesize,
    train,
    test,
    export,
    atlas,
    template,
    cohort,
    series,
    demo,
    ahead,
    info,
)


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of `augreg`."""
    parser = _Parser(
        prog="augreg",
        description="Medical image registration: learned from a few images, or solved in a blink by linear programming.",
        epilog=TRANSFORMS,
    )
    parser.add_argument("--version", action="version", version=f"augreg {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    return parser
