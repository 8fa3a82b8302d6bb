"""How a command gets its parser and its function, which is imported when it runs."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable

Commands = argparse._SubParsersAction


def _later(module: str, name: str) -> Callable[[argparse.Namespace], None]:
    """The function `name` of a module of commands, imported when it is called."""

    def run(options: argparse.Namespace) -> None:
        getattr(importlib.import_module(f"augreg.cli.{module}"), name)(options)

    return run


def command_of(commands: Commands, name: str, module: str, function: str, text: str, example: str) -> argparse.ArgumentParser:
    """The parser of a command, which is a function of a module of `augreg.cli`."""
    parser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_later(module, function))
    return parser


def json_option(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, nothing else")
