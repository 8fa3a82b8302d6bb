"""Parsers of commands, and the options that several of them have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from augreg.cli.arguments import positive

Commands = argparse._SubParsersAction

TRANSFORM = ".tfm, .h5 (ITK composite), .nii.gz or .mha (displacement field)"
TRANSFORMS = "TRANSFORM files: .tfm and .h5 (ITK composites), .nii.gz and .mha (displacement fields); chosen by the suffix"
FIXED = "image, or folder with a DICOM series, that stays as it is"
MOVING = "image, or folder with a DICOM series, that is aligned"


def command_of(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], None], text: str, example: str
) -> argparse.ArgumentParser:
    """The parser of a command, and what it does with the options."""
    parser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def json_option(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, nothing else")


def convention_option(parser: argparse.ArgumentParser) -> None:
    """`--convention`."""
    parser.add_argument(
        "--convention",
        choices=("lps", "ras", "voxel"),
        help="of a displacement field that does not say what it holds: mm along LPS (ITK, ANTs) or RAS, or voxels (voxelmorph)",
    )


def work_options(parser: argparse.ArgumentParser) -> None:
    """`--workers` and `--scheduler`: where tasks are done."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=positive(int), default=1, metavar="W", help="processes (default 1)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that does the work: HOST:PORT (extra `cluster`)")


def method_options(parser: argparse.ArgumentParser, presets: Iterable[str], default: str) -> None:
    """`--preset` and `--model`: what registers."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--preset", choices=tuple(presets), help=f"of `augreg register` (default {default})")
    how.add_argument("--model", metavar="WEIGHTS", help="register with this network: a file, or sunnybrook-sax")


def kind_option(parser: argparse.ArgumentParser) -> None:
    """`--transform` instead of a preset, for images that differ by no more than that."""
    kinds = ("rigid", "similarity", "affine")
    parser.add_argument(
        "--transform", choices=kinds, help="no more than this, in place of a preset: rigid for visits of one person"
    )
