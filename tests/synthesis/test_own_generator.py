"""A generator of one's own: what it takes, and what it gets for it."""

import numpy as np
import torch
from support.contributing import shown
from support.subjects import people

from augreg.sam.alignment import pose_transform
from augreg.shards import read_shards, write_shards
from augreg.streams import PairStream
from augreg.synthesis import make_pairs, training_pairs


def test_a_generator_of_ones_own_has_exact_pairs_shards_and_streams(tmp_path):
    generator = shown()["Turned"](people(2)[0][0])
    batch = make_pairs(generator, 5, range(3))
    draw = generator.draw([np.random.default_rng(np.random.SeedSequence(5, spawn_key=(i, 0))) for i in range(3)])
    points, center = generator.grid.points(), generator.grid.center
    for pair, (first, second) in zip(training_pairs(batch, generator.grid), draw.pose, strict=True):
        expected = pose_transform(second, center)(pose_transform(first, center).inverse()(points)) - points
        assert np.abs(expected).max() > 1
        assert np.abs(pair.displacement.values - expected).max() < 1e-4
    # as many as are wanted, each a function of seed and index, on disk and in a loader
    *_, state = write_shards(generator, tmp_path, 3, seed=5, shard_size=2)
    assert state.written == 3
    for stored in (next(read_shards(tmp_path)), make_pairs(generator, 5, [2, 1, 0])[torch.tensor([2, 1, 0])]):
        assert torch.allclose(stored.fixed, batch.fixed, atol=1e-4)
        assert torch.allclose(stored.flow, batch.flow, atol=1e-4)
    items = list(PairStream(generator, seed=5, count=3))
    assert torch.allclose(torch.stack([item["moving"] for item in items]), batch.moving, atol=1e-4)
