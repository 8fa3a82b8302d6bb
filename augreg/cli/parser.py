"""Options of all commands. The commands themselves, with their heavy imports, load when they run."""

from __future__ import annotations

import argparse
from typing import NoReturn

from augreg import __version__
from augreg.cli.arguments import degrees, not_negative, positive
from augreg.cli.commands import Commands, command_of, json_option
from augreg.cli.parser_learning import add_compile, add_demo, add_sam, add_synthesize, add_train

_TRANSFORM = ".tfm, .h5 (ITK composite), .nii.gz or .mha (displacement field)"
_TRANSFORMS = "TRANSFORM files: .tfm and .h5 (ITK composites), .nii.gz and .mha (displacement fields); chosen by the suffix"


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of `augreg`."""
    parser = _Parser(
        prog="augreg",
        description="Medical image registration: learned from a few images, or solved in a blink by linear programming.",
        epilog=_TRANSFORMS,
    )
    parser.add_argument("--version", action="version", version=f"augreg {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _register(commands)
    _warp(commands)
    _points(commands)
    _transform(commands)
    _evaluate(commands)
    add_sam(commands)
    add_synthesize(commands)
    add_train(commands)
    add_demo(commands)
    add_compile(commands)
    return parser


def _convention(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--convention",
        choices=("lps", "ras", "voxel"),
        help="of a displacement field that does not say what it holds: mm along LPS (ITK, ANTs) or RAS, or voxels (voxelmorph)",
    )


def _register(commands: Commands) -> None:
    parser = command_of(
        commands,
        "register",
        "registration",
        "register",
        "align MOVING to FIXED; the transform maps fixed to moving points",
        "augreg register fixed.nii.gz moving.nii.gz -o transform.h5 --warped moved.nii.gz",
    )
    parser.add_argument("fixed", metavar="FIXED", help="image, or folder with a DICOM series, that stays as it is")
    parser.add_argument("moving", metavar="MOVING", help="image, or folder with a DICOM series, that is aligned")
    parser.add_argument("-o", "--output", metavar="TRANSFORM", required=True, help=_TRANSFORM)
    parser.add_argument(
        "--warped", metavar="IMAGE", help="also write the moving image seen through the transform, same pixel type"
    )
    parser.add_argument(
        "--fill",
        type=float,
        metavar="V",
        help="of --warped, outside the moving image (default its minimum if that is negative, as air in CT, else 0)",
    )
    parser.add_argument("--report", metavar="PAGE.html", help="also write a page with pictures before and after")
    json_option(parser)
    parser.add_argument("--transform", choices=("rigid", "similarity", "affine", "bspline"), help="kind (default bspline)")
    parser.add_argument(
        "--grid-spacing",
        type=positive(float),
        metavar="MM",
        help="of the B-spline's control points, mm (default a sixteenth of FIXED's longest side)",
    )
    parser.add_argument(
        "--criterion",
        choices=("ncc", "ssd", "mi", "labels", "classes"),
        help="what is compared (default ncc); classes are those of superpixels unless label maps are given",
    )
    parser.add_argument("--initial", metavar="TRANSFORM", help="a first guess")
    _convention(parser)
    parser.add_argument("--fixed-labels", metavar="F", help="label map, for --criterion labels")
    parser.add_argument("--moving-labels", metavar="M", help="the same of MOVING")
    parser.add_argument("--fixed-mask", metavar="F", help="where to look: voxels that are not 0")
    parser.add_argument("--moving-mask", metavar="M", help="the same of MOVING")
    parser.add_argument("--rigid-mask", metavar="F", help="where the transform is to be locally rigid, on FIXED: not 0")
    parser.add_argument("--fixed-points", metavar="F", help="landmarks (CSV) that must meet their partners")
    parser.add_argument("--moving-points", metavar="M", help="the same of MOVING")
    parser.add_argument("--tolerance", type=not_negative, metavar="MM", help="landmarks must meet within so many mm (default 0)")
    parser.add_argument(
        "--rotation", type=degrees, metavar="DEGREES", help="how far the start may be turned: 180 finds any rotation (default 15)"
    )
    parser.add_argument("--budget", type=positive(float), metavar="SECONDS", help="stop then with the best transform so far")
    parser.add_argument("--threads", type=positive(int), metavar="T", help="at most the number of cores, the default")
    parser.add_argument(
        "--model",
        metavar="WEIGHTS",
        help="register with this network instead of the linear program: a file, or sunnybrook-sax, which comes with augreg",
    )
    network = parser.add_argument_group("with --model")
    network.add_argument("--passes", type=positive(int), metavar="N", help="of the network, each on what is left (default 1)")
    network.add_argument("--symmetric", action="store_true", help="average what it says in both directions")
    network.add_argument("--refine", type=positive(int), metavar="STEPS", help="gradient steps on the pair after the last pass")
    network.add_argument("--then-program", action="store_true", help="and then the linear program, with its options")


def _warp(commands: Commands) -> None:
    parser = command_of(
        commands,
        "warp",
        "images",
        "warp",
        "resample MOVING through a transform onto FIXED's grid",
        "augreg warp labels.nii.gz -t transform.h5 -r fixed.nii.gz -o moved.nii.gz --labels",
    )
    parser.add_argument("moving", metavar="MOVING", help="image, or folder with a DICOM series, that is aligned")
    parser.add_argument("-t", "--transform", metavar="TRANSFORM", required=True, help=_TRANSFORM)
    _convention(parser)
    parser.add_argument("-r", "--reference", metavar="FIXED", required=True, help="image whose grid the result has")
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="image file")
    parser.add_argument("--labels", action="store_true", help="MOVING is a label map: nearest neighbour")
    parser.add_argument("--interpolation", choices=("nearest", "linear", "cubic"), help="default linear; nearest with --labels")
    parser.add_argument("--fill", type=float, default=0.0, metavar="V", help="value outside the moving image (default 0)")


def _points(commands: Commands) -> None:
    parser = command_of(
        commands,
        "points",
        "images",
        "points",
        "map landmarks from fixed to moving space",
        "augreg points fixed.csv -t transform.h5 -o mapped.csv",
    )
    parser.add_argument("points", metavar="POINTS.csv", help="header x,y or x,y,z; world mm (pixels for PNG, JPEG, TIFF)")
    parser.add_argument("-t", "--transform", metavar="TRANSFORM", required=True, help=_TRANSFORM)
    _convention(parser)
    parser.add_argument("-r", "--reference", metavar="FIXED", help="image the points belong to: says how many lie outside")
    parser.add_argument("-o", "--output", metavar="OUT.csv", required=True, help="the points in moving space")


def _transform(commands: Commands) -> None:
    parser = commands.add_parser("transform", help="compose, invert, convert transforms; their Jacobian", epilog=_TRANSFORMS)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    compose = command_of(
        actions, "compose", "transforms", "compose", "C(x) = A(B(x))", "augreg transform compose a.tfm b.tfm -o c.h5"
    )
    compose.add_argument("first", metavar="A", help="applied last")
    compose.add_argument("second", metavar="B", help="applied first")
    invert = command_of(
        actions,
        "invert",
        "transforms",
        "invert",
        "the inverse; where it is numerical, sampled on FIXED's grid, made larger to where FIXED is mapped",
        "augreg transform invert t.h5 -r fixed.nii.gz -o inverse.h5",
    )
    invert.add_argument("transform", metavar="T", help=_TRANSFORM)
    invert.add_argument("--moving", metavar="IMAGE", help="sample the inverse on the grid of this image of moving space instead")
    convert = command_of(
        actions,
        "convert",
        "transforms",
        "convert",
        "another file format",
        "augreg transform convert t.h5 -r f.nii.gz -o u.nii.gz",
    )
    convert.add_argument("transform", metavar="T", help=_TRANSFORM)
    jacobian = command_of(
        actions,
        "jacobian",
        "transforms",
        "jacobian",
        "an image of the Jacobian determinant on FIXED's grid (1: no change of volume)",
        "augreg transform jacobian t.h5 -r fixed.nii.gz -o det.nii.gz",
    )
    jacobian.add_argument("transform", metavar="T", help=_TRANSFORM)
    for action, needed in ((compose, False), (invert, True), (convert, False), (jacobian, True)):
        action.add_argument("-r", "--reference", metavar="FIXED", required=needed, help="image whose grid fields are sampled on")
        action.add_argument("-o", "--output", metavar="OUT", required=True, help="file to write")
        _convention(action)


def _evaluate(commands: Commands) -> None:
    parser = command_of(
        commands,
        "evaluate",
        "images",
        "evaluate",
        "measure a transform by landmarks, label maps and folding",
        "augreg evaluate fixed.nii.gz -t transform.h5 --fixed-labels f.nii.gz --moving-labels m.nii.gz --json",
    )
    parser.add_argument("fixed", metavar="FIXED", help="image, or folder with a DICOM series, that stays as it is")
    parser.add_argument("-t", "--transform", metavar="TRANSFORM", required=True, help=_TRANSFORM)
    _convention(parser)
    parser.add_argument("--fixed-points", metavar="F", help="landmarks (CSV) in fixed space, mm")
    parser.add_argument("--moving-points", metavar="M", help="the same of MOVING")
    parser.add_argument("--fixed-labels", metavar="F", help="label map of FIXED")
    parser.add_argument("--moving-labels", metavar="M", help="the same of MOVING")
    json_option(parser)
