"""Options of the commands that learn from images, and of `augreg compile`."""

from __future__ import annotations

import argparse

from augreg.cli.arguments import appearance, field, not_negative, positive, seed, share
from augreg.cli.commands import Commands, command_of, json_option


def _correspondences(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--labels", nargs="+", metavar="L", help="a label map for every image, in their order")
    group.add_argument("--landmarks", nargs="+", metavar="CSV", help="a landmark file for every image, in their order")


def add_sam(commands: Commands) -> None:
    """`augreg sam`."""
    parser = commands.add_parser("sam", help="fit, evaluate and show statistical appearance models")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    fit = command_of(
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
    json_option(fit)
    evaluate = command_of(
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
    json_option(evaluate)
    show = command_of(
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


def add_synthesize(commands: Commands) -> None:
    """`augreg synthesize`."""
    parser = command_of(
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
    json_option(parser)


def add_train(commands: Commands) -> None:
    """`augreg train`."""
    parser = command_of(
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
    json_option(parser)


def add_demo(commands: Commands) -> None:
    """`augreg demo`."""
    parser = command_of(
        commands, "demo", "learn", "demo", "the whole story on sample data, as one page", "augreg demo -o augreg-demo"
    )
    parser.add_argument("-o", "--output", metavar="DIR", default="augreg-demo", help="of the page (default augreg-demo)")
    parser.add_argument("--images", nargs="+", metavar="I", help="your own images; label maps beside them as NAME_labels")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="same seed, same page (default 0)")
    json_option(parser)


def add_compile(commands: Commands) -> None:
    """`augreg compile`."""
    parser = command_of(
        commands,
        "compile",
        "ahead",
        "compile_all",
        "compile every kernel ahead of its first use: for images of containers, and machines that must not wait",
        "augreg compile --json",
    )
    json_option(parser)
