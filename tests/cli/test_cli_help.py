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


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "register a b -o t.tfm --tranform affine",
            "augreg register: unrecognized arguments: --tranform (did you mean --transform",
        ),
        ("sam fit a b c -o m.npz --masks d", "augreg sam fit: unrecognized arguments: --masks d; see augreg sam fit --help"),
        ("series a b c -o x", "augreg series: unrecognized arguments: b c; see augreg series --help"),
        (
            "train m -o n --step=3 --recipes heart",
            "augreg train: unrecognized arguments: --recipes (did you mean --recipe",
        ),
        ("--jason info", "augreg: unrecognized arguments: --jason; see augreg --help"),
    ],
)
def test_what_is_not_known_is_told_by_the_command_with_what_was_meant(words, line, capsys):
    with pytest.raises(SystemExit) as end:
        build_parser().parse_args(words.split())
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1
