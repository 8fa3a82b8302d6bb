"""The images that stand for all."""

from itertools import combinations

import numpy as np
import pytest
from support.labelled import ByMass, atlas, scene

from augreg import Grid, Image, LPRegistration, dice
from augreg.atlas import MultiAtlas, TemplateBank, representatives
from augreg.atlas.representatives import medoids, similarities

SHAPES = [(52, 42), (16, 22, 18)]


def looks(shape, *groups):
    """Images of so many looks: those of a group share a texture, each lies elsewhere in the world."""
    rng, found = np.random.default_rng(5), []
    for group, count in enumerate(groups):
        look, _ = scene(shape, 40 + group, 0.6)
        for _ in range(count):
            noise = 0.15 * rng.normal(size=shape)
            grid = Grid(shape, look.grid.spacing, rng.uniform(-40, 40, len(shape)))
            found.append(Image((look.values + noise).astype(np.float32), grid))
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_every_look_has_one_that_stands_for_it(shape):
    images = looks(shape, 4, 2, 3)
    chosen = representatives(iter(images), 3, ByMass())
    assert [sum(i >= begin for begin in (0, 4, 6)) for i in chosen] == [1, 2, 3]
    # the first three have one look
    similar = similarities(images, ByMass())
    assert similar[:, list(chosen)].max(axis=1).min() > similar[:, :3].max(axis=1).min() + 0.2


def test_the_choice_does_not_hang_on_the_order_and_is_of_the_image_in_the_middle():
    images = looks((52, 42), 4, 1)
    order = [3, 0, 4, 2, 1]
    chosen = representatives(images, 1, ByMass())
    assert chosen != (4,)
    assert [order[i] for i in representatives([images[i] for i in order], 1, ByMass())] == list(chosen)
    assert representatives(images, 5, ByMass()) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_no_other_choice_is_better(count):
    rng = np.random.default_rng(count)
    for _ in range(20):
        places = rng.normal(size=(9, 2))
        similar = -np.linalg.norm(places[:, None] - places[None], axis=-1)
        chosen = medoids(similar, count)
        assert len(set(chosen)) == count

        def worth(some, similar=similar):
            return similar[:, list(some)].max(axis=1).sum()

        best = max(map(worth, combinations(range(9), count)))
        # of exchanges none is left; the best of all may need two at a time
        others = [set(chosen) - {out} | {new} for out in chosen for new in range(9) if new not in chosen]
        assert worth(chosen) >= max(map(worth, others)) - 1e-9
        assert worth(chosen) >= 1.1 * best
    # equal images: the first
    assert medoids(np.ones((5, 5)), count) == tuple(range(count))


def test_the_template_that_stands_for_all_segments_better_than_the_first(tmp_path):
    shape, registration = (52, 42), LPRegistration(transform="rigid", dense=None)
    # hardly anything is seen in the first two
    faint = [atlas(shape, seed, 6.0, (3, -2)) for seed in (1, 2)]
    clear = [atlas(shape, seed, 0.05, (-4 * (seed % 2), 2)) for seed in (3, 4, 5)]
    atlases = [*faint, *clear]
    images = [one.image for one in atlases]
    [chosen] = representatives(images, 1, registration)
    target, truth = scene(shape, 30, 0.05, (-2, 2))

    def found(t):
        bank = TemplateBank.of([images[t]], clear, registration, tmp_path / str(t))
        return np.mean(list(dice(MultiAtlas(bank)(target).labels, truth).values()))

    assert found(chosen) > found(0) + 0.05


def test_a_number_that_cannot_be_chosen_is_refused():
    images = looks((52, 42), 2)
    for count in (0, 3):
        with pytest.raises(ValueError, match="count: expected 1 to 2"):
            representatives(images, count, ByMass())
