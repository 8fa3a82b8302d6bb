"""Options of all commands. The commands themselves, with their heavy imports, load when they run."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import NoReturn

from augreg import __version__
from augreg.cli.arguments import appearance, degrees, field, not_negative, positive, seed, share

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
    _sam(commands)
    _synthesize(commands)
    _train(commands)
    _demo(commands)
    _compile(commands)
    return parser


_Commands = argparse._SubParsersAction


def _later(module: str, name: str) -> Callable[[argparse.Namespace], None]:
    """The function `name` of a module of commands, imported when it is called."""

    def run(options: argparse.Namespace) -> None:
        getattr(importlib.import_module(f"augreg.cli.{module}"), name)(options)

    return run


def _command(commands: _Commands, name: str, module: str, function: str, text: str, example: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_later(module, function))
    return parser


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, nothing else")


def _convention(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--convention",
        choices=("lps", "ras", "voxel"),
        help="of a displacement field that does not say what it holds: mm along LPS (ITK, ANTs) or RAS, or voxels (voxelmorph)",
    )


def _register(commands: _Commands) -> None:
    parser = _command(
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
    _json(parser)
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


def _warp(commands: _Commands) -> None:
    parser = _command(
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


def _points(commands: _Commands) -> None:
    parser = _command(
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


def _transform(commands: _Commands) -> None:
    parser = commands.add_parser("transform", help="compose, invert, convert transforms; their Jacobian", epilog=_TRANSFORMS)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    compose = _command(
        actions, "compose", "transforms", "compose", "C(x) = A(B(x))", "augreg transform compose a.tfm b.tfm -o c.h5"
    )
    compose.add_argument("first", metavar="A", help="applied last")
    compose.add_argument("second", metavar="B", help="applied first")
    invert = _command(
        actions,
        "invert",
        "transforms",
        "invert",
        "the inverse; where it is numerical, sampled on FIXED's grid, made larger to where FIXED is mapped",
        "augreg transform invert t.h5 -r fixed.nii.gz -o inverse.h5",
    )
    invert.add_argument("transform", metavar="T", help=_TRANSFORM)
    invert.add_argument("--moving", metavar="IMAGE", help="sample the inverse on the grid of this image of moving space instead")
    convert = _command(
        actions,
        "convert",
        "transforms",
        "convert",
        "another file format",
        "augreg transform convert t.h5 -r f.nii.gz -o u.nii.gz",
    )
    convert.add_argument("transform", metavar="T", help=_TRANSFORM)
    jacobian = _command(
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


def _evaluate(commands: _Commands) -> None:
    parser = _command(
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
    _json(parser)


def _correspondences(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--labels", nargs="+", metavar="L", help="a label map for every image, in their order")
    group.add_argument("--landmarks", nargs="+", metavar="CSV", help="a landmark file for every image, in their order")


def _sam(commands: _Commands) -> None:
    parser = commands.add_parser("sam", help="fit, evaluate and show statistical appearance models")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    fit = _command(
        actions,
        "fit",
        "learn",
        "sam_fit",
        "fit a model; without --labels or --landmarks every image is registered to a template",
        "augreg sam fit images/*.nii.gz -o model.npz --labels labels/*.nii.gz",
    )
    fit.add_argument("images", nargs="+", metavar="IMAGES", help="at least 3, of one shape and spacing")
    fit.add_argument("-o", "--output", metavar="MODEL.npz", required=True, help="file to write")
    _correspondences(fit)
    fit.add_argument("--template", metavar="IMAGE", help="registered to all others (default the most typical one)")
    fit.add_argument("--levels", type=positive(int), default=5, help="locality levels, 1 is plain PCA (default 5)")
    tapers = ("gaussian", "wendland", "threshold")
    fit.add_argument("--taper", choices=tapers, default="gaussian", help="of correlations (default gaussian)")
    fit.add_argument("--scale", type=positive(float), metavar="S", help="of the localities (default: chosen from the shapes)")
    fit.add_argument("--dense", choices=("displacement", "velocity"), help="shapes are fields, not landmarks")
    fit.add_argument("--register", action="store_true", help="register every image to a template although there are labels")
    fit.add_argument("--rounds", type=positive(int), default=2, help="registrations, to ever better templates (default 2)")
    _json(fit)
    evaluate = _command(
        actions,
        "evaluate",
        "learn",
        "sam_evaluate",
        "generalisation, specificity and compactness on images the model has not seen",
        "augreg sam evaluate model.npz images/*.nii.gz --labels labels/*.nii.gz --json",
    )
    evaluate.add_argument("model", metavar="MODEL.npz", help="of `augreg sam fit`")
    evaluate.add_argument("images", nargs="+", metavar="IMAGES", help="that the model was not fitted to")
    _correspondences(evaluate)
    evaluate.add_argument("--samples", type=positive(int), default=200, help="drawn for specificity (default 200)")
    evaluate.add_argument("--seed", type=seed, default=0, metavar="S", help="of the samples (default 0)")
    _json(evaluate)
    show = _command(
        actions,
        "show",
        "learn",
        "sam_show",
        "a page with live modes of variation, locality maps, curves and samples",
        "augreg sam show model.npz -o model.html",
    )
    show.add_argument("model", metavar="MODEL.npz", help="of `augreg sam fit`")
    show.add_argument("--images", nargs="+", metavar="I", help="unseen ones: adds generalisation and specificity")
    _correspondences(show)
    show.add_argument("-o", "--output", metavar="PAGE.html", required=True, help="page to write")


def _synthesize(commands: _Commands) -> None:
    parser = _command(
        commands,
        "synthesize",
        "learn",
        "synthesize",
        "write training pairs with exact displacements as WebDataset shards; running it again resumes",
        "augreg synthesize model.npz -n 1000 -o pairs --seed 1",
    )
    parser.add_argument("model", metavar="MODEL.npz", help="of `augreg sam fit`")
    parser.add_argument("-n", "--count", type=positive(int), required=True, metavar="COUNT", help="pairs in all")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="folder of the shards")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="same seed, same result (default 0)")
    parser.add_argument("--shard-size", type=positive(int), default=256, metavar="K", help="pairs per shard (default 256)")
    parser.add_argument(
        "--appearance",
        type=appearance,
        default="shared",
        metavar="A",
        help="of both images of a pair: shared (default), independent, or their correlation from 0 to 1",
    )
    factor = "factor on the training images' %s (default 1)"
    parser.add_argument("--amplitude", type=not_negative, default=1.0, metavar="F", help=factor % "spread of shapes")
    parser.add_argument("--pose", type=not_negative, default=1.0, metavar="F", help=factor % "spread of poses")
    parser.add_argument(
        "--intensity", type=not_negative, default=0.0, metavar="SD", help="of the logarithm of smooth gains (default 0)"
    )
    parser.add_argument(
        "--rest",
        type=field,
        nargs="+",
        default=[],
        metavar="SPACING:RMS",
        help="random fields, mm, of which one is added to each shape: what the model knows nothing of",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=positive(int), default=1, metavar="W", help="processes (default 1)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that does the work: HOST:PORT (extra `cluster`)")
    _json(parser)


def _train(commands: _Commands) -> None:
    parser = _command(
        commands,
        "train",
        "learn",
        "train",
        "train a FlowNet on pairs drawn from a model, or on shards",
        "augreg train model.npz -o run --steps 2000",
    )
    parser.add_argument("source", metavar="MODEL.npz|DIR", help="a model of `augreg sam fit`, or shards of `augreg synthesize`")
    parser.add_argument(
        "-o",
        "--output",
        metavar="RUN",
        required=True,
        help="folder of checkpoint and weights, of a run of its own",
    )
    parser.add_argument("--steps", type=positive(int), default=2000, metavar="N", help="of Adam (default 2000)")
    parser.add_argument("--batch", type=positive(int), default=8, metavar="B", help="pairs per step (default 8)")
    parser.add_argument("--architecture", choices=("FlowNetS", "FlowNetC"), help="of the network (default FlowNetS)")
    parser.add_argument("--width", type=positive(float), help="of the network (default 1/4)")
    parser.add_argument(
        "--window", type=positive(int), metavar="VOXELS", help="within which contrast is normalised first, odd (default none)"
    )
    parser.add_argument("--learning-rate", type=positive(float), default=1e-3, help="of Adam (default 1e-3)")
    parser.add_argument(
        "--curriculum", type=share, default=0.0, metavar="SHARE", help="of the steps, while displacements grow (default 0: none)"
    )
    weight = "weight of %s beside the end-point error (default %d)"
    unlike = "how unlike fixed and warped image are"
    parser.add_argument("--likeness", type=not_negative, default=6.0, metavar="W", help=weight % (unlike, 6))
    parser.add_argument(
        "--smoothness", type=not_negative, default=0.0, metavar="W", help=weight % ("the flow's mean squared gradient", 0)
    )
    parser.add_argument("--symmetric", action="store_true", help="half the batch is the other half with its images exchanged")
    parser.add_argument("--device", default="auto", metavar="D", help="cpu, cuda, or auto (default)")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of convolutions (default auto: bfloat16 on cards that have it, else float32)",
    )
    parser.add_argument("--compile", action="store_true", help="compile the network first: takes minutes, for long runs on CUDA")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="same seed, same result (default 0)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on where RUN was stopped, as it began; --steps may be more")
    start.add_argument("--init", metavar="WEIGHTS", help="start from these weights")
    _json(parser)


def _demo(commands: _Commands) -> None:
    parser = _command(
        commands, "demo", "learn", "demo", "the whole story on sample data, as one page", "augreg demo -o augreg-demo"
    )
    parser.add_argument("-o", "--output", metavar="DIR", default="augreg-demo", help="of the page (default augreg-demo)")
    parser.add_argument("--images", nargs="+", metavar="I", help="your own images; label maps beside them as NAME_labels")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="same seed, same page (default 0)")
    _json(parser)


def _compile(commands: _Commands) -> None:
    parser = _command(
        commands,
        "compile",
        "ahead",
        "compile_all",
        "compile every kernel ahead of its first use: for images of containers, and machines that must not wait",
        "augreg compile --json",
    )
    _json(parser)
