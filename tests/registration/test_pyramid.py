"""Levels of images of integers are those of their float32, made a few rows at a time."""

import numpy as np
import pytest

from augreg import Grid, Image, Labels
from augreg.keypoints import pyramid
from augreg.keypoints.pyramid import rasters


@pytest.mark.parametrize("shape", [(70, 43), (37, 30, 26), (40, 5, 4), (9, 33), (4, 30, 31)])
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("masked", [False, True])
def test_levels_of_integers_are_those_of_their_float32_whatever_the_slabs(shape, channels, masked, monkeypatch):
    grid = Grid(shape, (1.0, 1.0, 3.0)[: len(shape)])
    values = np.random.default_rng(0).integers(-900, 900, (*shape, *channels)).astype(np.int16)
    mask = Labels((np.random.default_rng(1).random(shape) < 0.8).astype(np.uint8), grid) if masked else None
    # 2.0 alone: the first level is not the image's own
    for spacings in ([4.0, 2.0, 1.0], [4.0, 2.0]):
        known = rasters(Image(values.astype(np.float32), grid), mask, spacings)
        for slab in (1, 700, 1 << 22):
            monkeypatch.setattr(pyramid, "_SLAB", slab)
            for one, other in zip(rasters(Image(values, grid), mask, spacings), known, strict=True):
                assert one.values.dtype == np.float32
                assert one.values.shape == other.values.shape
                assert one.values.tobytes() == other.values.tobytes()
                assert one.allowed.tobytes() == other.allowed.tobytes()
