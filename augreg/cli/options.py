"""Parsers of commands, and the options that several of them have."""

from __future__ import annotations

import argparse
from collections.abc import Callable

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
