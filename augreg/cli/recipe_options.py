"""Options that choose a recipe and change single values of it; those that are not given are None."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from augreg.cli.arguments import not_negative, positive, share, turn

if TYPE_CHECKING:
    from augreg.recipes import Recipe

# options named as what they change
_VALUES = (
    "intensity",
    "gamma",
    "noise",
    "symmetric",
    "mirrored",
    "curriculum",
    "pool",
    "architecture",
    "width",
    "window",
    "batch",
    "steps",
    "learning_rate",
    "likeness",
    "smoothness",
)
# of these a folder of pairs has settled all
OF_DRAWING = ("turns", "intensity", "pool")


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """The options; their defaults are those of the default recipe."""
    parser.add_argument(
        "--recipe",
        metavar="R",
        help="default, heart, brain, demo, or a JSON file with what --explain prints; other options change single values of it",
    )
    parser.add_argument("--explain", action="store_true", help="print all values of the recipe as JSON, and do nothing else")
    parser.add_argument("--steps", type=positive(int), metavar="N", help="of Adam (default 2000)")
    parser.add_argument("--batch", type=positive(int), metavar="B", help="pairs per step (default 8)")
    parser.add_argument("--architecture", choices=("FlowNetS", "FlowNetC"), help="of the network (default FlowNetS)")
    parser.add_argument("--width", type=positive(float), help="of the network (default 1/4)")
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
    parser.add_argument("--smoothness", type=not_negative, metavar="W", help=weight % ("the flow's mean squared gradient", 0))
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
        "fields, SPACING:RMS[/RMS...] in mm, of which one is added to each shape. Several alternate, a step each (default "
        "shared, independent)",
    )
    pairs.add_argument(
        "--intensity", type=not_negative, metavar="SD", help="of the logarithm of smooth gains of each image (default 0.05)"
    )
    pairs.add_argument("--gamma", type=not_negative, metavar="SD", help="of the logarithm of each image's gamma (default 0)")
    pairs.add_argument("--noise", type=not_negative, metavar="SD", help="of noise, as a share of the image's range (default 0)")
    pairs.add_argument(
        "--pool",
        type=positive(int),
        metavar="PAIRS",
        help="drawn once and shown again and again (default: new ones at each step)",
    )


def recipe_of(options: argparse.Namespace, known: Mapping[str, Any]) -> Recipe:
    """The recipe that is asked for.

    Parameters
    ----------
    options : options of the command
    known : settings of the run that goes on, or nothing; without --recipe its values are those that are not asked for

    Raises
    ------
    ValueError, FileNotFoundError : for values out of range, another name, or a file without a recipe.
    """
    from dataclasses import fields, replace

    from augreg.recipes import Recipe, Turn, named

    asked = {name: value for name in _VALUES if (value := getattr(options, name)) is not None}
    if options.recipe is None:
        base = Recipe.of({field.name: known[field.name] for field in fields(Recipe) if field.name in known})
    else:
        base = named(options.recipe)
    batch, symmetric = (asked.get(name, getattr(base, name)) for name in ("batch", "symmetric"))
    if symmetric and batch % 2:
        raise ValueError(f"--symmetric: expected an even --batch, of pairs and the same pairs exchanged, got {batch}")
    if options.turns is not None:
        asked["turns"] = tuple(Turn.of(about) for about in options.turns)
    return replace(base, **asked)
