"""Layers to try it with."""

from typing import Any

import augreg as ar


def hearts() -> list[tuple[Any, dict[str, Any], str]]:
    """Two magnetic resonance images of hearts, one after the other, as layers."""
    images = ar.datasets.hearts().images
    names = ("fixed heart", "moving heart")
    return [(image.values.T, {"name": name}, "image") for image, name in zip(images[:4:2], names, strict=True)]
