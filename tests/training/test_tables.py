"""Real pairs on one lattice: seen as a network sees them in use."""

import numpy as np
import pytest
import torch

import augreg as ar
from augreg.networks import FlowNetS, FlowRegistration, normalised
from augreg.networks.maps import Displacement
from augreg.registration.table import read_table
from augreg.training import pairs_of_table, real_pairs

TURNED = np.array([[0.0, -1.0], [1.0, 0.0]])


def write(folder, name, grid, middle, numbers=(1, 2)):
    """A blob about a place of the world, and two structures in it."""
    away = np.linalg.norm(grid.points() - np.asarray(middle), axis=-1)
    ar.write_image(ar.Image((np.exp(-((away / 8) ** 2)) + 0.01 * away).astype(np.float32), grid), folder / f"{name}.mha")
    values = np.where(away < 5, numbers[1], np.where(away < 10, numbers[0], 0)).astype(np.uint8)
    ar.write_image(ar.Labels(values, grid), folder / f"{name}_l.mha")


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Three pairs of images of several shapes, spacings, directions and places."""
    folder = tmp_path_factory.mktemp("pairs")
    write(folder, "a", ar.Grid((40, 30), (1.0, 1.5)), (20, 22))
    write(folder, "b", ar.Grid((36, 44), (1.25, 1.0), (3.0, -2.0)), (24, 20))
    write(folder, "c", ar.Grid((50, 20), (1.0, 2.0), (40.0, 0.0), TURNED), (15, 24))
    write(folder, "far", ar.Grid((40, 30), (1.0, 1.5), (900.0, 900.0)), (920, 922))
    rows = ["fixed,moving,fixed_labels,moving_labels"]
    rows += [f"{f}.mha,{m}.mha,{f}_l.mha,{m}_l.mha" for f, m in (("a", "b"), ("c", "a"), ("b", "far"))]
    (folder / "pairs.csv").write_text("\n".join(rows), encoding="utf-8")
    return read_table(folder / "pairs.csv")


def test_pairs_of_different_images_become_one_lattice_with_structures_where_images_show_them(lines):
    found = real_pairs(lines)
    assert found.shape == (40, 30)
    assert found.spacing == (1.0, 1.5)
    pairs = found.pairs
    assert torch.isnan(pairs.flow).all()
    # the blob's middle is the middle of structure 2, in every image and whatever its axes are
    for images, labels in ((pairs.fixed, pairs.fixed_labels), (pairs.moving, pairs.moving_labels)):
        for image, structure in zip(images, labels, strict=True):
            brightest = np.unravel_index(int(image[0].argmax()), found.shape)
            middle = np.argwhere(structure[0].numpy() == 2).mean(axis=0)
            assert np.abs(np.subtract(brightest, middle)).max() < 1.0


def test_a_pair_is_seen_as_in_use(lines):
    class Spy(FlowNetS):
        def predict(self, fixed, moving):
            self.seen = fixed, moving
            return Displacement.of(torch.zeros(1, 2, *fixed.shape[2:]))

    found = real_pairs(lines, (1.25,))
    pair = lines[0].read()
    spy = Spy(2, width=0.03125)
    FlowRegistration(spy, found.spacing)(pair.fixed, pair.moving)
    for seen, ours in zip(spy.seen, (found.pairs.fixed[:1], found.pairs.moving[:1]), strict=True):
        assert seen.shape == ours.shape
        torch.testing.assert_close(seen, normalised(ours), atol=0.02, rtol=0)


def test_a_spacing_is_exact_and_the_shape_follows(lines):
    found = real_pairs(lines, (2.0, 1.0))
    assert found.spacing == (2.0, 1.0)
    assert found.shape == (20, 45)
    with pytest.raises(ValueError, match="spacing: expected one number or 2, got 3"):
        real_pairs(lines, (1.0, 1.0, 1.0))


def test_what_is_learned_from_is_known_by_its_content(lines):
    first, again = real_pairs(lines), real_pairs(lines)
    assert first.content == again.content
    assert real_pairs(lines[:2]).content != first.content
    first.pairs.fixed_labels[0, 0, 3, 3] += 1
    assert first.content != again.content


def test_batches_show_all_pairs_alike_also_where_they_are_fewer_than_a_batch(lines):
    pairs = real_pairs(lines).pairs
    batch_of = pairs_of_table(pairs, 4, seed=3)
    shown = [next(k for k in range(3) if torch.equal(one, pairs.fixed[k])) for step in range(3) for one in batch_of(step).fixed]
    assert [shown.count(k) for k in range(3)] == [4, 4, 4]
    assert torch.equal(batch_of(1).fixed[2:], pairs_of_table(pairs, 4, seed=3, part=slice(2, 4))(1).fixed)
