"""Arrays in every order, byte order and stride give the learning half what their plain copies give, to the last bit."""

import numpy as np
import pytest
from support.flows import Oracle

from augreg import Grid, Image, Labels, fit_appearance_model
from augreg.geometry.transforms import Affine
from augreg.synthesis import RandomDeformations, StoredPairs, make_pairs, registered_pairs
from augreg.training import FlowRegistration

GRID = Grid((48, 40), (1.5, 1.2), (10.0, -50.0))
LAYOUTS = {
    "F order": np.asfortranarray,
    "negative strides": lambda a: np.flip(np.flip(a).copy()),
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "all of it": lambda a: np.asfortranarray(np.flip(np.flip(a).copy())).astype(a.dtype.newbyteorder(">"), order="F"),
}
TYPES = ["float32", "float16", "int16", "uint8"]


def subjects(kind, seed=0, count=4):
    rng, images, labels, landmarks = np.random.default_rng(seed), [], [], []
    x, y = np.meshgrid(*map(np.arange, GRID.shape), indexing="ij")
    for _ in range(count):
        shift = rng.normal(0, 1.5, 2)
        inside = (x - 24 - shift[0]) ** 2 + (y - 20 - shift[1]) ** 2 < rng.uniform(9, 12) ** 2
        images.append((rng.uniform(10, 30, GRID.shape) + 80 * inside).astype(kind))
        labels.append(inside.astype(np.int32))
        angle = np.linspace(0, 2 * np.pi, 9)[:-1]
        index = np.column_stack([24 + shift[0] + 10 * np.cos(angle), 20 + shift[1] + 10 * np.sin(angle)])
        landmarks.append(GRID.points_at(index + rng.normal(0, 0.3, index.shape)))
    return images, labels, landmarks


def fit_to_labels(images, labels, landmarks):
    return fit_appearance_model([Image(a, GRID) for a in images], labels=[Labels(a, GRID) for a in labels], points=40, rank=4)


def fit_to_landmarks(images, labels, landmarks):
    return fit_appearance_model([Image(a, GRID) for a in images], landmarks=landmarks, rank=4)


def parts(model):
    return [model.shape.mean, model.shape.basis, model.appearance.mean, model.appearance.basis, model.textures, model.gains]


def tensors(batch):
    known = (batch.fixed, batch.moving, batch.flow, batch.mask, batch.fixed_labels, batch.moving_labels)
    return [part.numpy() for part in known if part is not None]


def deformations(images, labels, landmarks):
    known = [Labels(a, GRID) for a in labels]
    return tensors(make_pairs(RandomDeformations.of([Image(a, GRID) for a in images], labels=known), 0, range(2)))


def stored(images, labels, landmarks):
    def shifted(fixed, moving):
        return Affine(np.eye(2), [2.0, -1.0])

    pairs = next(registered_pairs([Image(a, GRID) for a in images[:2]], shifted, "warped"))
    return tensors(make_pairs(StoredPairs(pairs, GRID), 0, range(2)))


def seen_by_a_network(images, labels, landmarks):
    oracle = Oracle([1.0, -2.0])
    field = FlowRegistration(oracle, (1.4, 1.4))(Image(images[0], GRID), Image(images[1], GRID))
    return [part.numpy() for part in oracle.seen] + [field.values]


WAYS = {
    "labels": lambda *given: parts(fit_to_labels(*given)),
    "landmarks": lambda *given: parts(fit_to_landmarks(*given)),
    "deformations": deformations,
    "stored": stored,
    "network": seen_by_a_network,
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("way", WAYS)
def test_the_layout_of_arrays_does_not_matter(way, kind):
    plain = subjects(kind)
    expected = WAYS[way](*plain)
    for layout, change in LAYOUTS.items():
        found = WAYS[way](*([change(a) for a in part] for part in plain))
        for ours, theirs in zip(expected, found, strict=True):
            assert ours.dtype == theirs.dtype, layout
            assert np.array_equal(ours, theirs), layout


def test_a_generator_takes_arrays_of_every_layout_as_they_are():
    images, labels, _ = subjects("float32")
    stacks = np.stack(images), np.stack(labels)
    families = RandomDeformations.of([Image(a, GRID) for a in images]).families
    expected = RandomDeformations(stacks[0], GRID, families, labels=stacks[1])
    for layout, change in LAYOUTS.items():
        other = RandomDeformations(change(stacks[0]), GRID, families, labels=change(stacks[1]))
        for ours, theirs in zip(*(tensors(make_pairs(g, 0, range(2))) for g in (expected, other)), strict=True):
            assert np.array_equal(ours, theirs), layout
        assert other.describe() == expected.describe(), layout
