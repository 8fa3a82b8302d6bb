"""Any wrapper of any wrapper of any registration takes everything that is known, and passes it on."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from support import spaces

from augreg import Affine, Chained, ConsistentRegistration, Grid, Image, Labels, LPRegistration
from augreg.registration import Method, State

NDIMS = (2, 3)
RIGID = LPRegistration(transform="rigid")


def images(ndim):
    """Two images on different grids, the second one turned."""
    rng = np.random.default_rng(ndim)
    fixed = Grid((24, 20, 18)[:ndim], (1.0, 1.5, 1.2)[:ndim], (3.0, -2.0, 5.0)[:ndim])
    moving = Grid((21, 26, 17)[:ndim], (1.2, 1.0, 1.4)[:ndim], (0.0, -4.0, 1.0)[:ndim])
    return tuple(Image(rng.uniform(size=grid.shape), grid) for grid in (fixed, moving))


def everything(fixed, moving):
    """A value for every keyword."""
    ndim, rng = fixed.ndim, np.random.default_rng(9)
    middle = np.zeros(fixed.grid.shape, np.uint8)
    middle[8:12, 8:12] = 1
    maps = {
        f"{side}_{what}": Labels((rng.uniform(size=image.grid.shape) < 0.9).astype(np.uint8), image.grid)
        for side, image in (("fixed", fixed), ("moving", moving))
        for what in ("mask", "labels")
    }
    return maps | {
        "fixed_points": fixed.grid.center + rng.normal(size=(3, ndim)),
        "moving_points": moving.grid.center + rng.normal(size=(3, ndim)),
        "rigid_mask": Labels(middle, fixed.grid),
        "initial": Affine(np.eye(ndim), np.arange(1.0, ndim + 1)),
    }


@dataclass(frozen=True)
class Recorder(Method):
    """Finds a small stretch one way and nothing the other way, so that the directions agree near the origin only."""

    fixed: Image
    pairs: list = field(default_factory=list)

    def _states(self, pair, clock):
        self.pairs.append(pair)
        ndim = pair.fixed.ndim
        step = Affine(1.02 * np.eye(ndim) if pair.fixed is self.fixed else np.eye(ndim), np.zeros(ndim))
        for number in range(2):
            share = 0.5 * (number + 1)
            yield State(0, number, 1.0, 0.1, pair.start @ step, share, ("recorded",), 7, 0.5 * share)


def wrapped(depth, leaf):
    """All ways to wrap a registration so many times."""
    if depth == 0:
        return [leaf]
    inner = wrapped(depth - 1, leaf)
    return [
        *(ConsistentRegistration(one, 0.5) for one in inner),
        *(Chained(one, leaf) for one in inner),
        *(Chained(leaf, one) for one in inner),
    ]


WAYS = [(depth, number) for depth in (0, 1, 2) for number in range(3**depth)]


@pytest.mark.parametrize("ndim", NDIMS)
@pytest.mark.parametrize(("depth", "number"), WAYS)
def test_everything_reaches_the_innermost_registration(ndim, depth, number):
    fixed, moving = images(ndim)
    known = everything(fixed, moving)
    leaf = Recorder(fixed)
    states = list(wrapped(depth, leaf)[number].steps(fixed, moving, **known))
    kept = fixed.grid.size
    for pair in leaf.pairs:
        forward = pair.fixed is fixed
        assert (pair.fixed, pair.moving) == ((fixed, moving) if forward else (moving, fixed))
        near, far = ("fixed", "moving") if forward else ("moving", "fixed")
        for what in ("labels", "points"):
            np.testing.assert_array_equal(getattr(pair, f"fixed_{what}"), known[f"{near}_{what}"])
            np.testing.assert_array_equal(getattr(pair, f"moving_{what}"), known[f"{far}_{what}"])
        # known in the fixed space only: who has gone the other way has lost it
        assert pair.rigid_mask is known["rigid_mask"] or (pair.rigid_mask is None and (depth == 2 or not forward))
        # masks may only lose voxels
        for side, given in (("fixed", near), ("moving", far)):
            mask, of = getattr(pair, f"{side}_mask"), known[f"{given}_mask"]
            assert np.all(of.values[mask.values != 0] != 0)
            kept = min(kept, int((mask.values != 0).sum())) if side == "fixed" and forward else kept
        # of the start, the given one stays the left part
        start = known["initial"] if forward else known["initial"].inverse()
        behind = start.inverse() @ pair.initial
        assert np.abs(behind.matrix - np.eye(ndim)).max() < 0.1
    consistent = "Consistent" in repr(type(wrapped(depth, leaf)[number])) and depth == 1
    assert (len(leaf.pairs) == 3 and kept < 0.9 * known["fixed_mask"].values.sum()) or not consistent
    # what runs, counts
    assert states[-1].solve_seconds == pytest.approx(0.5 * len(leaf.pairs))
    assert states[-1].seconds >= len(leaf.pairs)
    assert states[-1].seconds < len(leaf.pairs) + 10
    for name in ("level", "seconds", "solve_seconds"):
        values = [getattr(state, name) for state in states]
        assert values == sorted(values), name
    places = [(state.level, state.iteration) for state in states]
    assert places == sorted(set(places))
    assert sum(text == "recorded" for text in states[-1].warnings) == 1


def test_the_second_of_a_chain_starts_where_the_first_has_ended():
    fixed, moving = images(2)
    known, leaf = everything(fixed, moving), Recorder(fixed)
    Chained(leaf, Chained(leaf, leaf))(fixed, moving, **known)
    for number, pair in enumerate(leaf.pairs):
        np.testing.assert_allclose(pair.initial.matrix, 1.02**number * np.eye(2))
        np.testing.assert_allclose(pair.initial.translation, known["initial"].translation)


@dataclass(frozen=True)
class Named(Method):
    """Says what is said of its pair, and the size of its fixed image."""

    def _states(self, pair, clock):
        texts = (*pair.scenes.warnings, f"{pair.fixed.grid.shape[0]} voxels")
        yield State(0, 0, 1.0, 0.0, Affine.identity(2), 0.0, texts)


def test_warnings_of_the_way_back_are_told_apart_and_nothing_is_said_twice():
    fixed, moving = images(2)
    fixed.values[3, 4] = np.nan
    *_, state = ConsistentRegistration(Named()).steps(fixed, moving)
    assert state.warnings == (
        "1 of 480 voxels of fixed are NaN or infinite: masked",
        "24 voxels",
        "moving to fixed: 21 voxels",
    )


def test_a_start_is_inverted_for_the_way_back():
    fixed, moving = images(2)
    start = Affine(np.array([[1.1, 0.2], [-0.1, 0.9]]), [2.0, -1.0])
    leaf = Recorder(fixed)
    ConsistentRegistration(leaf)(fixed, moving, initial=start)
    points = fixed.grid.points()
    np.testing.assert_allclose(leaf.pairs[1].initial(start(points)), points, atol=1e-9)


def blob(grid, center):
    x = (grid.points() - center) / np.array([7.0, 5.0, 6.0])[: grid.ndim]
    values = np.exp(-((x**2).sum(-1) ** 2)) + 0.3 * np.exp(-((x - 0.4) ** 2).sum(-1) * 6)
    return Image(values.astype(np.float32), grid)


def scene(grid, shift):
    """Many blobs, sharp and blunt, that tell every direction."""
    rng = np.random.default_rng(1)
    x = grid.points() - grid.center - shift
    centers, sizes = rng.uniform(-14, 14, (30, grid.ndim)), rng.uniform(2, 6, 30)
    values = [np.exp(-((((x - c) ** 2).sum(-1) / s**2) ** 2)) for c, s in zip(centers, sizes, strict=True)]
    return Image(np.sum(values, axis=0).astype(np.float32), grid)


@pytest.mark.parametrize("ndim", NDIMS)
def test_wrapped_linear_programs_find_what_one_finds(ndim):
    grid = Grid((44, 40, 36)[:ndim], (1.0, 1.1, 0.9)[:ndim], (-4.0, 6.0, 2.0)[:ndim])
    shift = np.array([3.0, -2.0, 1.5])[:ndim]
    fixed, moving = scene(grid, 0 * shift), scene(grid, shift)
    start = Affine(np.eye(ndim), 0.5 * shift)
    x = grid.center + np.random.default_rng(0).uniform(-6, 6, (20, ndim))
    for method in (
        Chained(ConsistentRegistration(RIGID), RIGID),
        ConsistentRegistration(Chained(RIGID, RIGID)),
        ConsistentRegistration(ConsistentRegistration(RIGID)),
    ):
        for known in ({}, {"initial": start}):
            np.testing.assert_allclose(method(fixed, moving, **known)(x), x + shift, atol=0.3)


def shift_of(fixed, moving):
    """A callable that knows no keyword: the shift between the centres of mass."""
    centers = [
        (image.values[..., None] * image.grid.points()).reshape(-1, image.ndim).sum(0) / image.values.sum()
        for image in (fixed, moving)
    ]
    return Affine(np.eye(fixed.ndim), centers[1] - centers[0])


@pytest.mark.parametrize("ndim", NDIMS)
def test_a_callable_without_a_start_sees_the_moving_image_through_it(ndim):
    grid = Grid((44, 40, 36)[:ndim], direction=spaces.directions(ndim)["flip"])
    shift = np.array([3.0, -2.0, 1.5])[:ndim]
    fixed, moving = blob(grid, grid.center), blob(grid, grid.center + shift)
    half = Affine.about(np.eye(ndim) * 1.01, grid.center, 0.5 * shift)
    *_, state = Chained(lambda fixed, moving: half, shift_of).steps(fixed, moving)
    np.testing.assert_allclose(state.transform(grid.center), grid.center + shift, atol=0.02)
    assert not state.warnings
    np.testing.assert_allclose(
        ConsistentRegistration(shift_of)(fixed, moving, initial=half)(grid.center), grid.center + shift, atol=0.02
    )


def test_a_callable_gets_the_keywords_that_it_takes_and_the_others_are_named():
    fixed, moving = images(2)
    known = everything(fixed, moving)
    calls = []

    def masked(fixed, moving, *, fixed_mask=None, initial=None):
        calls.append({"fixed_mask": fixed_mask, "initial": initial})
        return initial

    def anything(fixed, moving, **given):
        calls.append(given)
        return given["initial"]

    *_, state = Chained(masked, anything).steps(fixed, moving, **known)
    assert calls[0] == {"fixed_mask": known["fixed_mask"], "initial": known["initial"]}
    assert set(calls[1]) == set(known)
    (warning,) = state.warnings
    assert "masked" in warning
    assert all(name in warning for name in known if name not in calls[0])


@pytest.mark.parametrize(("first", "second"), [(RIGID, "rigid"), ("rigid", RIGID)])
def test_what_cannot_be_called_is_refused_at_once(first, second):
    with pytest.raises(TypeError, match="expected a callable"):
        Chained(first, second)
    with pytest.raises(TypeError, match="expected a callable"):
        ConsistentRegistration(None)


def test_unknown_keywords_get_one_line_with_the_known_ones():
    fixed, moving = images(2)
    for method in (RIGID, Chained(RIGID, RIGID), ConsistentRegistration(RIGID)):
        with pytest.raises(TypeError, match=r"mask.*expected keywords among fixed_mask, .*initial") as caught:
            method(fixed, moving, mask=None)
        assert "\n" not in str(caught.value)


def test_a_callable_must_return_a_transform():
    with pytest.raises(TypeError, match="returns a Transform, got ndarray"):
        Chained(lambda fixed, moving: np.eye(3), RIGID)(*images(2))


def test_disagreement_everywhere_is_said():
    fixed, moving = images(2)
    *_, state = ConsistentRegistration(lambda f, m: Affine(np.eye(2), [5.0, 0.0]), 1.0).steps(fixed, moving)
    assert any("agree in only 0%" in text for text in state.warnings)
