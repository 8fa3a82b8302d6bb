"""What options take: text to numbers, or one line that says what was expected."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

# of `augreg.sam.density`, which takes its time to import
SHAPES = ("gaussian", "kernel", "mixture", "best")


def positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """A number of that kind above 0."""

    def check(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
        return value

    check.__name__ = "positive number"
    return check


def not_negative(text: str) -> float:
    """A number of at least 0."""
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return value


def degrees(text: str) -> float:
    """An angle from 0 to 180."""
    value = float(text)
    if not 0 <= value <= 180:
        raise argparse.ArgumentTypeError(f"expected degrees from 0 to 180, got {text}")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text}")
    return value


def appearance(text: str) -> float | str:
    """Shared, independent or a correlation."""
    if text in ("shared", "independent"):
        return text
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected shared, independent or a correlation from 0 to 1, got {text}")
    return value


def field(text: str) -> tuple[float, float]:
    """SPACING:RMS of a random field, mm."""
    try:
        spacing, size = map(float, text.split(":"))
    except ValueError:
        spacing = size = math.nan
    if not (0 < spacing < math.inf and 0 <= size < math.inf):
        raise argparse.ArgumentTypeError(f"expected SPACING:RMS, a positive number and one of at least 0, in mm, got {text}")
    return spacing, size


def turn(text: str) -> dict[str, Any]:
    """APPEARANCE[,pose=P][,amplitude=F][,rest=SPACING:RMS[/RMS...][+...]][,shapes=D] of a recipe's turn, as its JSON."""
    first, *rest = text.split(",")
    try:
        found: dict[str, Any] = {"appearance": appearance(first)}
        for part in rest:
            name, _, value = part.partition("=")
            if name in found or name not in ("pose", "amplitude", "rest", "shapes"):
                raise ValueError(name)
            found[name] = value if name == "shapes" else _families(value) if name == "rest" else not_negative(value)
            if name == "shapes" and value not in SHAPES:
                raise ValueError(value)
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            "expected APPEARANCE[,pose=P][,amplitude=F][,rest=SPACING:RMS[/RMS...][+...]][,shapes=D], as "
            f"shared,pose=0.5,rest=40:0/2/4, got {text}"
        ) from None
    return found


def _families(text: str) -> list[dict[str, Any]]:
    """SPACING:RMS[/RMS...][+...] of random fields, mm."""
    families = []
    for family in text.split("+"):
        spacing, sizes = family.split(":")
        families.append({"spacing": positive(float)(spacing), "magnitudes": [not_negative(size) for size in sizes.split("/")]})
    return families


def seed(text: str) -> int:
    """A whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return value


def trunk(text: str) -> str:
    """A network's trunk by its name, in any case."""
    known = {"flownet": "FlowNetS", "flownets": "FlowNetS", "flownetc": "FlowNetC"}
    known |= {"unet": "UNet", "localnet": "LocalNet", "regnet": "RegNet", "patchnet": "PatchNet"}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"expected flownet, flownetc, unet, localnet, regnet or patchnet, got {text}")
    return known[text.lower()]


def tile(text: str) -> tuple[int, int | None]:
    """VOXELS[:MARGIN] of a tile."""
    side, colon, margin = text.partition(":")
    try:
        found = int(side), int(margin) if colon else None
    except ValueError:
        found = 0, None
    if found[0] < 1 or (found[1] is not None and found[1] < 0):
        raise argparse.ArgumentTypeError(f"expected VOXELS or VOXELS:MARGIN, as 128:64, got {text}")
    return found
