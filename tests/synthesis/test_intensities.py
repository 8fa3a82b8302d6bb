"""What pairs show: no intensity that the images have not, and every label as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from augreg import Grid, Image, Labels, fit_appearance_model, read_model, write_model
from augreg.geometry.splines import control_grid
from augreg.geometry.transforms import Affine
from augreg.synthesis import (
    AppearancePairs,
    PairStream,
    RandomDeformations,
    ShardStream,
    StoredPairs,
    make_pairs,
    registered_pairs,
    training_pairs,
    write_shards,
)
from augreg.synthesis.render import renderer
from augreg.synthesis.render.arithmetic import Textures
from augreg.synthesis.render.compiled import CompiledArithmetic
from augreg.synthesis.render.frame import ControlFrame
from augreg.synthesis.render.tensor_splines import prefilter
from augreg.synthesis.render.tensors import TensorArithmetic

GRID = Grid((64, 52), (0.7, 0.9), (-20.0, 30.0), ((0.0, -1.0), (1.0, 0.0)))
# of an atlas; float32 holds none of the large ones, int32 not the last two
IDS = np.array([0, 997, 16777217, 614454277, 614454278, 2147483649, 4294967295])


def scans(seed=0, count=5):
    """CT-like images, air at -1024 around a body with bone, and label maps with large ids."""
    rng, images, labels = np.random.default_rng(seed), [], []
    x, y = np.meshgrid(*map(np.arange, GRID.shape), indexing="ij")
    for _ in range(count):
        shift, size = rng.normal(0, 1.5, 2), 1 + rng.normal(0, 0.05)
        values, known = np.full(GRID.shape, -1024.0), np.zeros(GRID.shape, np.int64)
        for k, (a, b, r, v) in enumerate([(31, 26, 22, 40), (24, 20, 5, 900), (40, 32, 6, -800), (30, 38, 4, 300)], start=2):
            inside = (x - a - shift[0]) ** 2 + ((y - b - shift[1]) * 1.1) ** 2 < (r * size) ** 2
            values[inside], known[inside] = v, IDS[k + 1]
        values += rng.normal(0, 8, GRID.shape) * (values > -1000)
        images.append(Image(np.rint(values).astype(np.int16), GRID))
        labels.append(Labels(known.astype(np.uint32), GRID))
    return images, labels


def shifted(fixed, moving):
    return Affine(np.array([[1.02, 0.05], [-0.04, 0.97]]), [9.0, -6.0])


@pytest.fixture(scope="module")
def generators():
    images, labels = scans()
    model = fit_appearance_model(images, labels=labels, points=80, rank=8)
    pairs = registered_pairs(images[:2], shifted, "warped")
    return {
        "appearance": AppearancePairs(model, amplitude=1.5),
        "independent": AppearancePairs(model, appearance="independent", modes=1.0),
        "deformations": RandomDeformations.of(images, magnitudes=(6.0,), labels=labels),
        "registered": StoredPairs(next(pairs), GRID),
    }


@pytest.mark.parametrize("name", ["appearance", "independent", "deformations", "registered"])
@pytest.mark.parametrize("path", ["compiled", "tensors"])
def test_pairs_stay_within_the_range_of_the_images(generators, name, path, monkeypatch):
    if path == "tensors":
        monkeypatch.setattr(renderer, "arithmetic_on", lambda device: TensorArithmetic())
    images, _ = scans()
    low, high = min(i.values.min() for i in images), max(i.values.max() for i in images)
    batch = make_pairs(generators[name], 0, range(3))
    for part in (batch.fixed, batch.moving):
        assert part.min() >= low
        assert part.max() <= high
    # they use it, too
    assert batch.moving.min() < low + 60
    assert batch.moving.max() > 0.75 * high


def test_a_warped_image_is_its_mirror_image_outside(generators):
    images, _ = scans()
    batch = next(registered_pairs(images[:2], shifted, "warped"))
    target = GRID.indices_at(shifted(None, None)(GRID.points()))
    far = (target < 0).any(axis=-1) | (target > np.array(GRID.shape) - 1).any(axis=-1)
    assert far.mean() > 0.1
    truth = map_coordinates(images[1].values.astype(float), np.moveaxis(target, -1, 0), order=3, mode="mirror")
    truth = np.clip(truth, images[1].values.min(), images[1].values.max())
    assert np.allclose(batch.fixed[0, 0].numpy()[far], truth[far], atol=0.1)
    assert not batch.mask[0, 0].numpy()[far].any()


def test_a_model_keeps_the_range_of_its_images(generators, tmp_path):
    images, _ = scans()
    model = generators["appearance"].model
    assert model.observed == (min(i.values.min() for i in images), max(i.values.max() for i in images))
    write_model(model, tmp_path / "model.npz")
    assert read_model(tmp_path / "model.npz").range == model.range == model.observed
    write_model(replace(model, observed=(5.0, float("inf"))), tmp_path / "wrong.npz")
    with pytest.raises(ValueError, match=r"wrong\.npz.*observed: expected"):
        read_model(tmp_path / "wrong.npz")
    # one that was written before: what gains and common intensities allow
    old = replace(model, observed=None)
    write_model(old, tmp_path / "old.npz")
    low, high = read_model(tmp_path / "old.npz").range
    assert (low, high) == pytest.approx((model.intensities[0] * model.gains.max(), model.intensities[1] * model.gains.max()))
    batch = make_pairs(AppearancePairs(old), 0, range(2))
    assert low <= batch.moving.min() <= batch.moving.max() <= high


@pytest.mark.parametrize("arithmetic", [TensorArithmetic(), CompiledArithmetic()], ids=["tensors", "kernels"])
def test_what_a_spline_overshoots_is_clipped_and_nothing_else(arithmetic):
    step = np.where(np.arange(30) < 15, -1024.0, 929.0).astype(np.float32)
    coefficients = prefilter(torch.tensor(np.stack([step, 0.5 * step])[:, None, :].repeat(20, axis=1)))
    grid = Grid((20, 30))
    frame = ControlFrame.of(control_grid(grid), grid)
    splines = torch.zeros((2, 4, *frame.shape, 2), dtype=torch.float64)
    # between the pixels
    affine = torch.tensor([[1, 0, 0.4], [0, 1, 0.45]], dtype=torch.float64).expand(2, 4, 2, 3)
    own, swapped = torch.tensor([[0, 0, 1, 1]] * 2), torch.tensor([False, True, False, True])
    free, whole = (torch.tensor(bounds, dtype=torch.float32) for bounds in ((-np.inf, -np.inf), (np.inf, np.inf)))
    values = arithmetic.shown(splines, frame, affine, Textures(coefficients, free, whole, own), swapped)[2:]
    low, high = torch.tensor([-1024.0, -512.0]), torch.tensor([929.0, 464.5])
    kept = arithmetic.shown(splines, frame, affine, Textures(coefficients, low, high, own), swapped)[2:]
    for before, after in zip(values, kept, strict=True):
        assert before[0].min() < -1030
        for k, texture in enumerate(own[0]):
            assert low[texture] <= after[k].min()
            assert after[k].max() <= high[texture]
            within = (before[k] >= low[texture]) & (before[k] <= high[texture])
            assert 0.3 < within.float().mean() < 1
            assert torch.equal(before[k][within], after[k][within])


@pytest.mark.parametrize("name", ["appearance", "deformations"])
def test_ids_of_labels_go_through_generators_shards_and_streams(generators, name, tmp_path):
    generator, known = generators[name], set(IDS[[0, 3, 4, 5, 6]].tolist())
    batch = make_pairs(generator, 0, range(3))
    for part in (batch.fixed_labels, batch.moving_labels):
        assert part.dtype == torch.int64
        assert set(part.unique().tolist()) == known
    [pair, *_] = training_pairs(batch, generator.grid)
    assert set(pair.moving_labels.unique()) == known - {0}
    list(write_shards(generator, tmp_path, 3, seed=0))
    for stream in (ShardStream(tmp_path), PairStream(generator, 0, 3)):
        items = list(stream)
        assert set(torch.cat([item["fixed_labels"] for item in items]).unique().tolist()) == known
        assert torch.equal(items[1]["moving_labels"], batch.moving_labels[1])


def test_ids_move_as_small_numbers_do(generators):
    images, labels = scans()
    small = [Labels(np.searchsorted(IDS, one.values).astype(np.uint8), GRID) for one in labels]
    plain = make_pairs(RandomDeformations.of(images, magnitudes=(6.0,), labels=small), 0, range(3)).moving_labels
    large = make_pairs(generators["deformations"], 0, range(3)).moving_labels
    # as before for small ones: four bytes each
    assert plain.dtype == torch.int32
    assert np.array_equal(IDS[plain.numpy()], large.numpy())
    model = fit_appearance_model(images, labels=small, points=80, rank=8)
    of_ids = generators["appearance"].model
    assert np.array_equal(IDS[model.label_maps], of_ids.label_maps)
    assert np.array_equal(IDS[model.label_map([1.0]).values], of_ids.label_map([1.0]).values)


def test_ids_beyond_doubles_are_exact_and_beyond_64_bits_refused():
    images, labels = scans()
    # neighbours that a double does not tell apart
    wide = [Labels(np.where(one.values == IDS[3], 2**53 + 1, np.where(one.values, 2**53, 0)), GRID) for one in labels]
    model = fit_appearance_model(images, labels=wide, points=80, rank=8)
    assert set(np.unique(model.label_maps).tolist()) == {0, 2**53, 2**53 + 1}
    assert set(model.label_map().unique()) == {2**53, 2**53 + 1}
    assert make_pairs(AppearancePairs(model), 0, [0]).fixed_labels.unique().tolist() == [0, 2**53, 2**53 + 1]
    negative = [one.with_values(np.where(one.values > 2**40, -3, 0)) for one in wide]
    assert fit_appearance_model(images, labels=negative, points=80, rank=8).label_map().unique() == (-3,)
    huge = [Labels(np.where(one.values, np.uint64(2**63), np.uint64(0)), GRID) for one in labels]
    for refused in (RandomDeformations.of, lambda i, labels: fit_appearance_model(i, labels=labels)):
        with pytest.raises(ValueError, match=r"labels\[0\]: expected ids below 2\^63"):
            refused(images, labels=huge)


def test_labels_of_another_number_or_grid_are_refused():
    images, labels = scans()
    with pytest.raises(ValueError, match="labels: expected 5, one per image, got 4"):
        RandomDeformations.of(images, labels=labels[:4])
    elsewhere = Labels(labels[0].values, Grid(GRID.shape, GRID.spacing))
    with pytest.raises(ValueError, match=r"labels\[4\]: expected the grid"):
        RandomDeformations.of(images, labels=[*labels[:4], elsewhere])
    nan = Image(np.where(np.eye(*GRID.shape) > 0, np.nan, images[0].values), GRID)
    with pytest.raises(ValueError, match=r"images\[1\]: expected finite"):
        list(registered_pairs([images[0], nan], shifted, "warped"))
