"""Options that choose a recipe and change single values of it; those that are not given are None."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from augreg.cli.arguments import not_negative, positive, share, trunk, turn
from augreg.registration.table import is_table

if TYPE_CHECKING:
    from augreg.recipes import Recipe

# options named as what they change
_VALUES = (
    "intensity",
    "gamma",
    "noise",
    "jitter",
    "bend",
    "shade",
    "centred",
    "symmetric",
    "mirrored",
    "curriculum",
    "pool",
    "architecture",
    "width",
    "window",
    "map",
    "marks",
    "antisymmetric",
    "batch",
    "steps",
    "learning_rate",
    "objective",
    "likeness",
    "smoothness",
    "bending",
    "prior",
    "contrasts",
    "descriptor",
    "steered",
    "targets",
    "tile",
    "patience",
)
# of these a folder of pairs has settled all
OF_DRAWING = ("turns", "intensity", "pool")


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """The options; their defaults are those of the default recipe."""
    parser.add_argument(
        "--recipe",
        metavar="R",
        help="default, heart, brain, demo, pairs, hearts, multimodal, brains, contrasts, lungs, or a JSON file with what "
        "--explain prints; other options change single values",
    )
    parser.add_argument("--explain", action="store_true", help="print all values of the recipe as JSON, and do nothing else")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=positive(int), metavar="N", help="of Adam (default 2000)")
    length.add_argument(
        "--minutes",
        type=positive(float),
        metavar="M",
        help="as many steps as fit into them, settled by timing some at the start and kept with the run",
    )
    parser.add_argument(
        "--patience",
        type=positive(int),
        metavar="LOOKS",
        help="end after so many looks at pairs held out, one in 100 steps, without a better one, and keep the best network, with "
        "its critic; for a model and a folder of pairs (default: all steps, the last network)",
    )
    parser.add_argument("--batch", type=positive(int), metavar="B", help="pairs per step (default 8; of PAIRS.csv 4)")
    parser.add_argument(
        "--objective",
        metavar="WORDS",
        help="what is minimised: truth (end-point error, default), velocity (against the truth's logarithm), "
        "likeness, squares, mind, edges, information, labels; several as likeness+labels:2, a weight behind the colon. Of "
        "PAIRS.csv likeness, with labels where all pairs have label maps",
    )
    parser.add_argument(
        "--map",
        choices=("displacement", "velocity", "affine", "cascade", "moments"),
        help="what the network predicts; velocity does not fold and has an exact inverse, cascade is affine and then velocity, "
        "moments are scales and a shift of what --marks has marked (default displacement)",
    )
    parser.add_argument(
        "--marks",
        choices=("none", "one", "two"),
        help="mark the structures of the label maps in each image by itself first, by one network for both images or by two, for "
        "two scanners; labels are needed in training alone (default none)",
    )
    parser.add_argument(
        "--antisymmetric",
        action=argparse.BooleanOptionalAction,
        help="exchanged images give the exact inverse; with --map velocity",
    )
    parser.add_argument(
        "--trunk",
        "--architecture",
        dest="architecture",
        type=trunk,
        metavar="TRUNK",
        help="flownet (default), flownetc, unet and localnet (for thin volumes too), regnet and patchnet (look nearby alone)",
    )
    parser.add_argument(
        "--scales",
        type=positive(int),
        nargs="+",
        metavar="S",
        help="a network per scale, each on what those before leave: 4 2 1 begins with blocks of 4 voxels (default 1)",
    )
    parser.add_argument("--width", type=positive(float), help="of the network (default 1/4, of others 1)")
    parser.add_argument(
        "--window", type=positive(int), metavar="VOXELS", help="within which contrast is normalised first, odd (default none)"
    )
    parser.add_argument("--learning-rate", type=positive(float), help="of Adam (default 1e-3)")
    parser.add_argument(
        "--curriculum", type=share, metavar="SHARE", help="of the steps, while displacements grow (default 0: none)"
    )
    weight = "weight of %s beside the end-point error (default %d)"
    unlike = "how unlike fixed and warped image are"
    parser.add_argument("--likeness", type=not_negative, metavar="W", help=weight % (unlike, 6))
    smooth = "weight of %s beside the objective (default 0%s)"
    first = smooth % ("the flow's mean squared gradient", ", of PAIRS.csv 0.5")
    parser.add_argument("--smoothness", type=not_negative, metavar="W", help=first)
    second = smooth % ("the flow's mean squared second differences", "")
    parser.add_argument("--bending", type=not_negative, metavar="W", help=f"{second}; affine maps have none")
    parser.add_argument(
        "--prior",
        metavar="WORDS",
        help="what maps are held to beside the objective: plausible (near the shapes of a model), critic=elastic (a critic takes "
        "fields of elastic bodies for real, made of the label maps of PAIRS.csv) or critic=model (shapes of a model); several as "
        "plausible:0.03+critic=elastic:0.02, a weight behind the colon (default none)",
    )
    parser.add_argument(
        "--shapes", metavar="MODEL.npz", help="of `augreg sam fit`, for --prior plausible and critic=model (default: the source)"
    )
    parser.add_argument(
        "--symmetric",
        action=argparse.BooleanOptionalAction,
        help="half the batch is the other half with its images exchanged",
    )
    parser.add_argument(
        "--mirrored",
        choices=("none", "sideways", "all"),
        help="batches mirrored by chance: left and right, or along every axis (default none)",
    )
    pairs = parser.add_argument_group("how pairs are drawn and seen")
    pairs.add_argument(
        "--turn",
        dest="turns",
        type=turn,
        action="append",
        metavar="TURN",
        help="a way to draw pairs, as shared,pose=0.05,amplitude=2,rest=40:0/2/4+20:0/2/4: appearance of both images (shared, "
        "independent, or their correlation from 0 to 1), factors on the spread of poses and shapes, and families of random "
        "fields, SPACING:RMS[/RMS...] in mm, of which one is added to each shape; shapes=kernel, mixture or best. "
        "Several alternate, a step each (default "
        "shared, independent)",
    )
    pairs.add_argument(
        "--intensity", type=not_negative, metavar="SD", help="of the logarithm of smooth gains of each image (default 0.05)"
    )
    pairs.add_argument("--gamma", type=not_negative, metavar="SD", help="of the logarithm of each image's gamma (default 0)")
    pairs.add_argument("--noise", type=not_negative, metavar="SD", help="of noise, as a share of the image's range (default 0)")
    pairs.add_argument(
        "--jitter",
        type=not_negative,
        nargs=2,
        metavar=("DEGREES", "MM"),
        help="of PAIRS.csv: deviations of angles and shifts that move each image by itself, sizes by a tenth (default 0 0)",
    )
    pairs.add_argument(
        "--bend",
        type=not_negative,
        metavar="MM",
        help="of PAIRS.csv: deviation of smooth displacements of each image (default 0)",
    )
    pairs.add_argument(
        "--shade",
        type=not_negative,
        metavar="SD",
        help="of the logarithm of smooth gains of each image as it is seen (default 0)",
    )
    pairs.add_argument(
        "--contrasts",
        choices=("none", "maps", "labels"),
        help="each image in a contrast of its own: through a random map of intensities, or each label with a random mean and "
        "texture (default none; take --descriptor edges with it)",
    )
    parser.add_argument(
        "--descriptor",
        choices=("none", "mind", "edges"),
        help="what the network sees of images: self-similarities or directions of edges, which another contrast leaves mostly as "
        "they are (default none: images)",
    )
    parser.add_argument(
        "--steered",
        action=argparse.BooleanOptionalAction,
        help="match the images first, so that the network learns what matching leaves; with --map displacement",
    )
    pairs.add_argument(
        "--targets",
        choices=("none", "shapes"),
        help="of PAIRS.csv: a truth that the network learns, shapes for maps that match the outlines of the label maps, and then "
        "the default objective is truth (default none)",
    )
    pairs.add_argument(
        "--tile",
        type=positive(int),
        metavar="VOXELS",
        help="learn from patches of so many voxels along each side, at edges, as many of large displacements as of small "
        "ones: for volumes that do not fit, and for patchnet (default whole images)",
    )
    pairs.add_argument(
        "--centred",
        action=argparse.BooleanOptionalAction,
        help="of PAIRS.csv: put the grids' centres on each other first, in training and use: for images of two scanners",
    )
    pairs.add_argument(
        "--pool",
        type=positive(int),
        metavar="PAIRS",
        help="drawn once and shown again and again (default: new ones at each step)",
    )


def recipe_of(options: argparse.Namespace, known: Mapping[str, Any], *, labelled: bool = False) -> Recipe:
    """The recipe that is asked for.

    Parameters
    ----------
    options : options of the command
    known : settings of the run that goes on, or nothing; without --recipe its values are those that are not asked for
    labelled : whether it is a table of pairs that all have label maps

    Raises
    ------
    ValueError, FileNotFoundError : for values out of range, another name, or a file without a recipe.
    """
    from dataclasses import fields, replace

    from augreg.recipes import PAIRS, Recipe, Turn, named

    asked = {name: value for name in _VALUES if (value := getattr(options, name)) is not None}
    if options.recipe is None and not known and is_table(options.source):
        base = replace(PAIRS, objective=f"{PAIRS.objective}+labels") if labelled else PAIRS
        if options.targets == "shapes":
            base = replace(PAIRS, objective="truth", smoothness=0.0, likeness=0.0)
    elif options.recipe is None:
        base = Recipe.of({field.name: known[field.name] for field in fields(Recipe) if field.name in known})
    else:
        base = named(options.recipe)
    batch, symmetric = (asked.get(name, getattr(base, name)) for name in ("batch", "symmetric"))
    if symmetric and batch % 2:
        raise ValueError(f"--symmetric: expected an even --batch, of pairs and the same pairs exchanged, got {batch}")
    if options.turns is not None:
        asked["turns"] = tuple(Turn.of(about) for about in options.turns)
    for name in ("scales", "jitter"):
        if name in asked or getattr(options, name) is not None:
            asked[name] = tuple(getattr(options, name))
    trunks = base.architecture, asked.get("architecture", base.architecture)
    published = [not name.startswith("FlowNet") for name in trunks]
    if published[0] != published[1] and "width" not in asked:
        # widths of FlowNet are a quarter of what was published, others are narrow as they are
        asked["width"] = 1.0 if published[1] else Recipe.width
    recipe = replace(base, **asked)
    if recipe.patience is not None and is_table(options.source):
        raise ValueError(
            "--patience: expected a model or a folder of pairs, some of which are held out, got a table of pairs; leave it out"
        )
    return recipe
