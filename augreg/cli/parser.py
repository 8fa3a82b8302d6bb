"""The parser of `augreg`: that of every command, one after the other."""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from typing import Any, NoReturn

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
    """Errors in one line, without the usage; what is not known is told by the command that was asked."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """All of them must be known: there is nobody above a command to take the others."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(map(self._with_likely, unknown))}")
        return found, unknown

    def _with_likely(self, text: str) -> str:
        """An option that was mistyped with the one that was meant."""
        names = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        likely = get_close_matches(text.partition("=")[0], names, n=1, cutoff=0.75) if text.startswith("--") else []
        return f"{text} (did you mean {likely[0]}?)" if likely else text

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
