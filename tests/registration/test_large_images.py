"""Memory by voxel: what a registration of a large image needs beside the image itself."""

import tracemalloc

import numpy as np
import pytest
from support import phantoms

from augreg import Affine, Grid, Image, LPRegistration, warp
from augreg.dense import known
from augreg.keypoints import pyramid
from augreg.keypoints.pyramid import level_spacings

SIZE = 1600


def test_levels_end_before_one_of_more_than_two_hundred_million_voxels():
    assert level_spacings(Grid((14000, 14000), (0.5, 0.5)), 64)[-1] == 0.5
    assert level_spacings(Grid((20000, 20000), (0.5, 0.5)), 64) == [128.0, 64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0]
    # axes that are coarse anyway are not halved: two of them are
    assert level_spacings(Grid((1000, 1000, 400), (0.5, 0.5, 2.0)), 40)[-1] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("transform", ["affine", "bspline"])
def test_a_large_image_takes_a_few_bytes_a_voxel_and_is_still_found(transform, monkeypatch):
    # as if it were 200 times as large
    for module, limits in ((pyramid, {"_MOST": SIZE**2 // 2, "_SLAB": 1 << 17}), (known, {"_MOST": 1 << 18, "_SLAB": 1 << 17})):
        for name, value in limits.items():
            monkeypatch.setattr(module, name, value)
    photograph = np.kron(20 + 200 * phantoms.photograph("camera").astype(np.float32), np.ones((4, 4), np.float32))[:SIZE, :SIZE]
    grid = Grid(photograph.shape)
    truth = Affine.about([[1.01, 0.05], [-0.04, 0.99]], grid.center, [21.0, -13.0])
    noise = np.random.default_rng(0)
    clean = Image(photograph, grid)
    fixed, moving = (
        Image(np.clip(image.values + noise.normal(0, 4, grid.shape), 0, 255).astype(np.uint8), grid)
        for image in (warp(clean, truth, grid, fill=100.0), clean)
    )
    registration = LPRegistration(transform=transform, keypoints=400)
    registration(fixed, moving)  # what is loaded once
    tracemalloc.start()
    phi = registration(fixed, moving)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7 * grid.size
    points = np.random.default_rng(1).uniform(300, SIZE - 300, (500, 2))
    assert np.median(np.linalg.norm(phi(points) - truth(points), axis=1)) < 0.15
