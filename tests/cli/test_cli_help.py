"""Every command explains itself."""

import argparse

import pytest

from augreg.cli.parser import build_parser


def commands(parser, name):
    """All parsers of commands, by name."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        return {name: parser}
    return {k: v for part, below in inner[0].choices.items() for k, v in commands(below, f"{name} {part}").items()}


COMMANDS = commands(build_parser(), "augreg")


def test_all_commands_of_the_contract_are_there():
    transform = {f"augreg transform {action}" for action in ("compose", "invert", "ants", "convert", "jacobian")}
    sam = {f"augreg sam {action}" for action in ("fit", "evaluate", "show")}
    atlas = {f"augreg atlas {action}" for action in ("build", "segment")}
    rest = {
        f"augreg {name}"
        for name in (
            "register",
            "warp",
            "points",
            "evaluate",
            "synthesize",
            "train",
            "test",
            "export",
            "template",
            "cohort",
            "series",
            "demo",
            "compile",
            "info",
        )
    }
    assert set(COMMANDS) == transform | sam | atlas | rest


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_has_help_and_the_command_an_example(name):
    parser = COMMANDS[name]
    assert f"\n  {name} " in parser.epilog
    for action in parser._actions:
        assert action.help, action.dest
