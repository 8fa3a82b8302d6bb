"""One label map from several."""

import numpy as np
import pytest
import scipy.ndimage
from support import naive_fusion
from support.labelled import scene

from augreg import Affine, Grid, Image, Labels, dice, get_threads, set_threads
from augreg.atlas import Atlas, JointFusion, LocalWeights, Majority, Staple, fuse
from augreg.atlas.atlas import Candidates

ALL = [Majority(), LocalWeights(), JointFusion(overlap=0.5), JointFusion(search=1), Staple()]
SHAPES = [(52, 42), (16, 22, 18)]


def atlases(shape, count=5, noise=0.1):
    shifts = np.random.default_rng(3).uniform(-2, 2, (count, 3))
    return [Atlas(*scene(shape, seed + 1, noise, shift, 1 + seed)) for seed, shift in enumerate(shifts)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fusion", ALL, ids=repr)
def test_copies_of_one_atlas_give_that_atlas(fusion, shape):
    target, _ = scene(shape)
    one = Atlas(*scene(shape, 7, 0.2, (1.5, 1, 1)))
    found = fuse(target, [one] * 4, fusion)
    np.testing.assert_array_equal(found.labels.values, one.labels.values)
    assert (found.agreement.values == 1).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fusion", ALL, ids=repr)
def test_several_are_better_than_one_and_no_order_matters(fusion, shape):
    target, truth = scene(shape, noise=0.1)
    given = atlases(shape)
    found = fuse(target, given, fusion)
    again = fuse(target, given[::-1], fusion)
    np.testing.assert_array_equal(found.labels.values, again.labels.values)

    def mean(labels):
        return np.mean(list(dice(truth, labels).values()))

    # performances of whole atlases say little of borders that lie elsewhere
    gain = -0.02 if isinstance(fusion, Staple) else 0.02
    assert mean(found.labels) > np.mean([mean(one.labels) for one in given]) + gain
    shares = [found.probability(label).values for label in (0, 5, 17, 300)]
    np.testing.assert_allclose(sum(shares), 1, atol=2e-4)
    best = np.array([0, 5, 17, 300])[np.argmax(shares, axis=0)]
    # some have less support and more to gain
    assert (best == found.labels.values).mean() > (0.99 if getattr(fusion, "overlap", None) is None else 0.97)
    taken = np.choose(np.searchsorted([0, 5, 17, 300], found.labels.values), shares)
    np.testing.assert_allclose(taken, found.agreement.values, atol=1e-5)
    assert not found.probability(99).values.any()


def test_looks_decide_where_votes_mislead():
    shape = (40, 33)
    target, truth = scene(shape, noise=0.05)
    good = [Atlas(*scene(shape, 1, 0.05, (0.4, 0)))]
    # four atlases that are wrong in the same way
    wrong = [Atlas(*scene(shape, 2 + i, 0.05, (5, 4))) for i in range(4)]
    scores = {
        type(fusion).__name__: np.mean(list(dice(truth, fuse(target, good + wrong, fusion).labels).values()))
        for fusion in (Majority(), LocalWeights(), JointFusion(search=0))
    }
    assert scores["Majority"] + 0.05 < scores["LocalWeights"]
    assert scores["Majority"] + 0.1 < scores["JointFusion"]


@pytest.mark.parametrize("shape", SHAPES)
def test_local_weights_are_powers_of_the_correlation_in_a_window(shape):
    target, _ = scene(shape, noise=0.3)
    candidates = Candidates.of(target, atlases(shape, 3, 0.3))
    votes = LocalWeights(radius=2, power=3.0).votes(candidates)
    images = candidates.images.reshape(-1, *shape)
    checked = 0
    for v in range(0, len(candidates.disputed), 5):
        x = np.unravel_index(candidates.disputed[v], shape)
        if not all(2 <= i < n - 2 for i, n in zip(x, shape, strict=True)):
            continue
        near = tuple(slice(i - 2, i + 3) for i in x)
        f = target.values[near].ravel()
        weights = [max(0.0, np.corrcoef(f, image[near].ravel())[0, 1]) ** 3 for image in images]
        named = votes.named[v]
        shares = [sum(w for w, k in zip(weights, named, strict=True) if k == own) / sum(weights) for own in named]
        np.testing.assert_allclose(votes.support[v], shares, atol=2e-3)
        checked += 1
    assert checked > 10


@pytest.mark.kernels
@pytest.mark.parametrize(("shape", "search", "beta"), [((17, 14), 0, 2.0), ((17, 14), 1, 1.0), ((6, 7, 8), 1, 2.0)])
def test_joint_weights_are_those_of_their_slow_twin(shape, search, beta):
    target, _ = scene(shape, noise=0.2)
    given = atlases(shape, 4, 0.3)
    fusion = JointFusion(radius=1, beta=beta, alpha=0.2, search=search, own=1.5)
    candidates = Candidates.of(target, given)
    wide = candidates.target.reshape(shape), candidates.images.reshape(-1, *shape), candidates.labels.reshape(-1, *shape)
    votes = fusion.votes(candidates)
    places = [tuple(map(int, np.unravel_index(flat, shape))) for flat in candidates.disputed]
    assert len(places) > 40
    known = {x: naive_fusion.joint_weights(*wide, x, 1, beta, 0.2, search) for x in places}
    weighed = naive_fusion.on_lattice(places, 1)
    assert len(weighed) < 0.4 * len(places)
    for v in range(0, len(places), 7):
        shares = naive_fusion.joint_support(known, weighed, wide[2], places[v], 1, 1.5)
        named = [int(rank) for rank in votes.named[v] if rank >= 0]
        assert sorted(named) == sorted(shares)
        np.testing.assert_allclose(votes.support[v][: len(named)], [shares[rank] for rank in named], atol=2e-3)


def test_staple_is_that_of_its_slow_twin_and_finds_who_is_reliable():
    shape = (60, 50)
    target, truth = scene(shape)
    rng = np.random.default_rng(0)
    given = []
    for share in (0.02, 0.6, 0.6, 0.6, 0.6):
        values = np.where(rng.random(shape) < share, rng.choice([0, 5, 17, 300], shape), truth.values)
        given.append(Atlas(target, truth.with_values(values)))
    candidates = Candidates.of(target, given)
    for rounds in (1, 4):
        fusion = Staple(rounds, 1e-9)
        W = naive_fusion.staple(candidates.votes(), len(candidates.ids), rounds, 20.0)
        votes = fusion.votes(candidates)
        np.testing.assert_allclose(votes.support, np.take_along_axis(W, votes.named.astype(int), axis=1), atol=1e-5)
    wrong = [(fuse(target, given, fusion).labels.values != truth.values).mean() for fusion in (Majority(), Staple())]
    assert wrong[1] < 0.6 * wrong[0]


def test_what_an_atlas_does_not_show_has_no_vote():
    shape = (26, 21)
    target, truth = scene(shape)
    shifted = Atlas(*scene(shape)).through(Affine(np.eye(2), [8.0, 0.0]), target.grid)
    assert not shifted.seen.values.all()
    for fusion in ALL:
        # where only one is seen it decides, although what is outside of the other is 0
        found = fuse(target, [Atlas(*scene(shape)), shifted], fusion)
        unseen = shifted.seen.values == 0
        np.testing.assert_array_equal(found.labels.values[unseen], truth.values[unseen])
    nothing = Atlas(target, truth, truth.with_values(np.zeros(shape, dtype=np.uint8)))
    assert not fuse(target, [nothing], Majority()).labels.values.any()


def test_equal_votes_go_to_what_is_around():
    values = np.zeros((9, 9), dtype=np.int64)
    values[:, 5:] = 3
    other = values.copy()
    other[4, 4] = 3
    grid = Grid((9, 9))
    target = Image(np.random.default_rng(0).normal(size=(9, 9)), grid)
    pair = [Atlas(target, Labels(v, grid)) for v in (values, other)]
    for given in (pair, pair[::-1]):
        # column 4 is 0 above and below: two of three columns around are 0
        assert fuse(target, given, Majority()).labels.values[4, 4] == 0


def test_bits_do_not_depend_on_threads():
    shape = (40, 50, 30)
    target, _ = scene(shape, noise=0.1)
    before, found = get_threads(), []
    try:
        for count in (1, before):
            set_threads(count)
            found.append(fuse(target, atlases(shape), JointFusion(radius=1)))
    finally:
        set_threads(before)
    assert np.array_equal(found[0].labels.values, found[1].labels.values)
    assert np.array_equal(found[0].agreement.values, found[1].agreement.values)


def test_flat_atlases_and_noise_beyond_all_bounds_are_fused():
    shape = (20, 20)
    target, _ = scene(shape)
    flat = target.with_values(np.full(shape, 5.0, dtype=np.float32))
    rng = np.random.default_rng(0)
    given = [Atlas(flat, scene(shape, 1, 0, (s, 0))[1]) for s in (0, 2, 3)]
    given.append(Atlas(target.with_values(1e20 * rng.normal(size=shape).astype(np.float32)), scene(shape)[1]))
    for fusion in ALL:
        found = fuse(target, given, fusion)
        assert np.isfinite(found.agreement.values).all()


def spoilt():
    image, _ = scene((9, 9))
    values = image.values.copy()
    values[2, 3:5] = np.nan, np.inf
    return image.with_values(values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalWeights(radius=0), "radius, power: expected at least 1 and 0, got 0 and 4.0"),
        (lambda: JointFusion(alpha=0), "radius, search, own, beta, alpha: expected"),
        (lambda: JointFusion(overlap=1.5), "overlap: expected a power from 0 to 1 or None, got 1.5"),
        (lambda: Staple(iterations=0), "iterations, tolerance, expected: expected the first two above 0"),
        (lambda: fuse(scene((9, 9))[0], [], Majority()), "atlases: expected at least one, got none"),
        (lambda: fuse(scene((9, 9))[0], [Atlas(*scene((9, 8)))], Majority()), r"atlases\[0\]: expected the grid of the target"),
        (lambda: fuse(spoilt(), [Atlas(*scene((9, 9)))], JointFusion()), "target: expected finite intensities, got 2 NaN"),
        (lambda: fuse(scene((9, 9))[0], [Atlas(spoilt(), scene((9, 9))[1])], Majority()), r"atlases\[0\]: expected finite"),
        (lambda: Atlas(scene((9, 9))[0], scene((9, 8))[1]), "labels: expected a map on the grid of its image"),
    ],
)
def test_what_cannot_be_fused_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_smooth_noise_is_no_reason_to_leave_the_truth():
    # correlated errors of several atlases, as registrations of one template make them, count once
    shape = (48, 40)
    target, truth = scene(shape, noise=0.1)
    drift = 4 * scipy.ndimage.gaussian_filter(np.random.default_rng(1).normal(size=3), 1)
    same = [Atlas(*scene(shape, 10 + i, 0.1, drift + 0.1 * i)) for i in range(3)]
    free = [Atlas(*scene(shape, 20 + i, 0.1, s)) for i, s in enumerate([(1.5, -1.5), (-1.5, 1.0)])]
    scores = [np.mean(list(dice(truth, fuse(target, same + free, f).labels).values())) for f in (Majority(), JointFusion())]
    assert scores[1] > scores[0]


@pytest.mark.parametrize(
    ("known", "dtype"),
    [
        ((0, 3, 255), np.uint8),
        ((-5, 0, 2), np.int16),
        ((-32768, 32767), np.int16),
        ((0, 4, 1 << 20), np.int64),
        ((1 << 40, (1 << 40) + 3), np.int64),
    ],
)
def test_labels_keep_their_numbers_whatever_these_are(known, dtype):
    rng = np.random.default_rng(1)
    grid = Grid((9, 8))
    maps = [rng.choice(known, grid.shape).astype(dtype) for _ in range(3)]
    image = Image(rng.random(grid.shape).astype(np.float32), grid)
    candidates = Candidates.of(image, [Atlas(image, Labels(one, grid)) for one in maps])
    assert np.array_equal(candidates.ids, np.unique(maps))
    assert np.array_equal(candidates.ids[candidates.labels[:, 0]], maps)
    assert np.array_equal(candidates.disputed, np.flatnonzero(np.ptp(np.array(maps), axis=0)))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_joint_fusion_takes_the_label_that_makes_the_expected_overlap_greatest(power):
    target, _ = scene((30, 24), 0, 0.3)
    maps = [Atlas(*scene((30, 24), seed + 1, 0.6, shift)) for seed, shift in enumerate([(2, 1), (-3, 0), (0, 3), (1, -3)])]
    candidates = Candidates.of(target, maps)
    votes = JointFusion(overlap=power).votes(candidates)
    certain, p = candidates.agreed().ravel(), []
    row = {x: v for v, x in enumerate(candidates.disputed)}
    for x in range(len(certain)):
        v = row.get(x)
        said = [(certain[x], 1.0)] if v is None else zip(votes.named[v], votes.support[v], strict=True)
        p.append({int(label): float(share) for label, share in said})
    wanted = naive_fusion.expected_overlap(len(candidates.ids), p, power)
    found = fuse(target, maps, JointFusion(overlap=power))
    assert np.mean(found.labels.values.ravel() == candidates.ids[wanted]) > 0.999
    plain = fuse(target, maps, JointFusion(overlap=None))
    assert np.mean(found.labels.values == plain.labels.values) < 0.999
    # the agreement is the support of what was taken
    for label in candidates.ids:
        where = found.labels.values == label
        np.testing.assert_allclose(found.agreement.values[where], found.probability(int(label)).values[where], atol=1e-6)


def test_thin_structures_that_atlases_seldom_hit_are_not_lost_to_the_background():
    # a line of 2 pixels, which each of nine atlases has somewhere else
    grid, rng = Grid((40, 30)), np.random.default_rng(0)

    def line(at):
        labels = np.zeros(grid.shape, np.int64)
        labels[at : at + 2, 5:25] = 4
        return labels

    truth = Labels(line(20), grid)
    maps = [line(20 + shift) for shift in (-3, -2, -2, -1, 0, 1, 2, 2, 3)]
    image = Image(np.zeros(grid.shape, np.float32), grid)
    atlases = [Atlas(Image(rng.normal(size=grid.shape).astype(np.float32), grid), Labels(one, grid)) for one in maps]
    scores = [dice(truth, fuse(image, atlases, JointFusion(overlap=overlap)).labels).get(4) or 0.0 for overlap in (None, 0.5)]
    assert scores[0] < 0.3 < 0.4 < scores[1]
