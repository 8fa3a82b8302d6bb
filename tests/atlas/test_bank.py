"""Banks of templates: what they store, what they add, whom they choose."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from support.labelled import ByMass, Noted, atlas, scene

from augreg import Affine, DenseRegistration, DisplacementField, Grid, Image, LPRegistration, dice, warp
from augreg.atlas import Atlas, JointFusion, Majority, MultiAtlas, TemplateBank, TemplateRegistration, building, digests, fuse
from augreg.atlas.likeness import likeness
from augreg.atlas.rough import affine_part, rough
from augreg.registration import Method, State

SHAPES = [(52, 42), (16, 22, 18)]


def people(shape, count=4):
    shifts = np.random.default_rng(3).uniform(-3, 3, (count, 3))
    return [atlas(shape, seed + 1, 0.05, shift, 1 + seed) for seed, shift in enumerate(shifts)]


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bank_holds_the_registration_of_every_template_to_every_atlas(shape, tmp_path):
    atlases, registration = people(shape), ByMass(0.2)
    other = scene(shape, 20, 0.05, (2, -1, 1))[0]
    bank = TemplateBank.of([other, atlases[1].image], atlases, registration, tmp_path / "bank")
    points = other.grid.points().reshape(-1, len(shape))[::37]
    for t, template in enumerate([other, atlases[1].image]):
        assert np.array_equal(bank.routes.template(t).values, template.values)
        for a, one in enumerate(atlases):
            found = bank.routes.to_atlas(t, a)
            wanted = Affine.identity(len(shape)) if template is one.image else registration(template, one.image)
            np.testing.assert_allclose(found(points), wanted(points), atol=1e-9)
            kept = bank.routes.atlas(a)
            assert np.array_equal(kept.labels.values, one.labels.values)
            assert kept.image.grid == one.image.grid
    # what the first template knows of the others
    np.testing.assert_allclose(bank.routes.between(1)(points), registration(other, atlases[1].image)(points), atol=1e-9)


def test_a_bank_is_the_same_bytes_in_any_number_of_processes(tmp_path):
    atlases = people((40, 33), 3)
    images = [one.image for one in atlases[:2]]
    for name, workers in (("one", 1), ("two", 2)):
        list(building(images, atlases, ByMass(0.1), tmp_path / name, workers=workers))
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert len(files(tmp_path / "one")) == 3 + 3 + 4 + 1


def test_only_what_is_new_is_registered_and_what_is_damaged_again(tmp_path):
    atlases, noted = people((40, 33), 4), Noted(ByMass(), tmp_path / "log")
    templates, folder = [atlases[0].image, atlases[1].image], tmp_path / "bank"
    TemplateBank.of(templates, atlases[:3], noted, folder)
    assert noted.calls == 4
    *_, state = building(templates, atlases, noted, folder)
    assert (noted.calls, state.total, state.kept, state.repaired) == (6, 6, 4, 0)
    before = files(folder)
    damaged = sorted((folder / "transforms").iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:-50])
    *_, state = building(templates, atlases, noted, folder)
    assert (noted.calls, state.kept, state.repaired) == (7, 5, 1)
    assert files(folder) == before
    # a labels map that changes costs no registration, other options of the registration cost all
    changed = [Atlas(atlases[0].image, atlases[1].labels), *atlases[1:]]
    assert TemplateBank.of(templates, changed, noted, folder).routes.atlas(0).labels.unique() == (5, 17, 300)
    assert noted.calls == 7
    *_, state = building(templates, atlases, Noted(ByMass(0.1), noted.log), folder)
    assert (state.kept, noted.calls) == (0, 13)


def test_a_stopped_run_leaves_the_bank_of_before(tmp_path):
    atlases, folder = people((40, 33), 4), tmp_path / "bank"
    bank = TemplateBank.of([atlases[0].image], atlases[:2], ByMass(), folder)
    states = building([atlases[0].image], atlases, ByMass(), folder)
    next(states)
    next(states)
    states.close()
    again = TemplateBank.read(folder, ByMass())
    assert again.routes.atlases == bank.routes.atlases == 2
    assert not list(folder.rglob(".*partial*"))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_template_that_looks_like_an_image_is_chosen_wherever_that_lies(shape, tmp_path):
    looks = [scene(shape, 7, 0.3), scene(shape, 8, 0.3), scene(shape, 9, 0.3)]
    atlases = [Atlas(*one) for one in looks]
    bank = TemplateBank.of([one.image for one in atlases], atlases, ByMass(), tmp_path / "bank")
    for t, one in enumerate(atlases):
        grid = one.image.grid
        # the same voxels in another corner of the world
        moved = Image(one.image.values, Grid(grid.shape, grid.spacing, np.full(len(shape), 55.0), grid.direction))
        order = bank.ranked(moved)
        assert order[0].template == t
        assert order[0].likeness > order[1].likeness + 0.1
        assert sorted(choice.template for choice in order) == [0, 1, 2]
        assert [c.template for c in bank.choose(moved, 2)] == [c.template for c in order[:2]]
        np.testing.assert_allclose(order[0].start.translation, -55, atol=0.3)
    assert [choice.template for choice in bank.choose(moved)] == [0, 1, 2]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bank_knows_how_well_its_atlases_fit_each_template(shape, tmp_path):
    atlases, other = people(shape), scene(shape, 20, 0.6, (2, -1, 1))[0]
    templates, folder = [other, atlases[1].image], tmp_path / "bank"
    bank = TemplateBank.of(templates, atlases, ByMass(0.2), folder)
    for t, template in enumerate(templates):
        like = likeness(template)
        through = [warp(one.image, bank.routes.to_atlas(t, a), template.grid) for a, one in enumerate(atlases)]
        wanted = [like(image) for a, image in enumerate(through) if atlases[a].image is not template]
        assert bank.routes.fit(t) == pytest.approx(np.mean(wanted), abs=2e-6)
    # what is noise fits worse
    assert bank.routes.fit(0) < bank.routes.fit(1) - 0.2
    # it is found again, whoever has found it out, and a folder that does not know it learns it
    before, listed = files(folder), folder / "bank.json"
    text = json.loads(listed.read_text(encoding="utf-8"))
    listed.write_text(json.dumps({name: part for name, part in text.items() if name != "likeness"}), encoding="utf-8")
    older = TemplateBank.read(folder, ByMass(0.2))
    assert older.routes.fit(0) is None
    assert [choice.template for choice in older.choose(atlases[0].image, 1)]
    TemplateBank.of(templates, atlases, ByMass(0.2), folder)
    assert files(folder) == before


def test_templates_are_chosen_by_their_look_and_by_how_well_atlases_fit_them(tmp_path):
    atlases, target = people((52, 42)), scene((52, 42), 30, 0.05)[0]
    held = TemplateBank.of([one.image for one in atlases], atlases, ByMass(), tmp_path / "bank").held()
    look = [choice.likeness for choice in sorted(held.ranked(target), key=lambda choice: choice.template)]
    for fits in ((0.1, 0.9, 0.5, 0.5), (0.5, 0.2, 0.3, 0.9), (0.5, 0.5, 0.5, 0.5)):
        bank = TemplateBank(ByMass(), replace(held.routes, fits=fits))
        order = bank.ranked(target)
        assert [choice.template for choice in order] == sorted(range(4), key=lambda t: -look[t] - 2 * fits[t])
        assert [choice.fit for choice in order] == [fits[choice.template] for choice in order]
        # one that is not known says nothing of the others
        bank = TemplateBank(ByMass(), replace(held.routes, fits=(*fits[:3], None)))
        assert [choice.template for choice in bank.ranked(target)] == sorted(range(4), key=lambda t: -look[t])


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_go_through_the_online_registration_then_the_stored_one(shape, tmp_path):
    atlases, registration = people(shape), ByMass(0.3)
    bank = TemplateBank.of([atlases[2].image], atlases, registration, tmp_path / "bank")
    target, _ = scene(shape, 30, 0.05, (-2, 2, 1))
    online = registration(target, atlases[2].image)
    for a, found in enumerate(bank.propagate(target)):
        phi = bank.routes.to_atlas(0, a) @ online
        wanted = atlases[a].through(phi, target.grid)
        assert np.array_equal(found.labels.values, wanted.labels.values)
        assert np.array_equal(found.seen.values, wanted.seen.values)
        np.testing.assert_allclose(found.image.values, wanted.image.values, atol=1e-5)
        through = TemplateRegistration(bank)(target, atlases[a].image)
        corner = target.grid.points()[(1,) * len(shape)]
        # from a rough start on: the same where the registration finds the same
        assert np.abs(through(corner) - phi(corner)).max() < 1.5
    held = [one.labels.values for one in bank.held().propagate(target)]
    assert np.array_equal(held, [one.labels.values for one in bank.propagate(target)])


@pytest.mark.parametrize("shape", SHAPES)
def test_direct_segmentation_is_the_fusion_of_all_registrations(shape, tmp_path):
    atlases, registration = people(shape), ByMass()
    target, truth = scene(shape, 30, 0.05, (-2, 2, 1))
    wanted = fuse(target, [one.through(registration(target, one.image), target.grid) for one in atlases], Majority())
    bank = TemplateBank.of([atlases[0].image], atlases, registration, tmp_path / "bank")
    for direct in (TemplateBank.direct(atlases, registration), TemplateBank.direct(bank), TemplateBank.direct(bank.held())):
        found = MultiAtlas(direct, count=None, fusion=Majority())(target)
        assert np.array_equal(found.labels.values, wanted.labels.values)
        assert np.array_equal(found.agreement.values, wanted.agreement.values)
    through = MultiAtlas(bank, count=1)(target)
    assert min(dice(through.labels, truth).values()) > 0.85
    assert len(MultiAtlas(TemplateBank.direct(bank), count=2, fusion=JointFusion()).bank.choose(target, 2)) == 2


@dataclass(frozen=True)
class Twofold(Method):
    """By mass, then a bend; near the truth the bend alone, from where it begins."""

    bend: bool = True
    start: bool = True

    def near(self):
        return replace(self, start=False)

    def _states(self, pair, clock):
        yield State(0, 0, 0.0, 0.0, pair.start, clock.seconds, stage="start")
        phi = ByMass(0.0)(pair.fixed, pair.moving) if self.start else pair.start
        yield State(0, 1, 0.0, 0.0, phi, clock.seconds, stage="mass" if self.start else "near")
        if self.bend:
            u = np.full((*pair.fixed.grid.shape, pair.fixed.ndim), 0.4)
            yield State(1, 0, 0.0, 0.0, phi @ DisplacementField(u, pair.fixed.grid), clock.seconds, stage="bent")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rough_map_is_the_affine_one_that_a_registration_finds_before_it_bends(shape):
    fixed, moving = scene(shape, 1, 0.05)[0], scene(shape, 2, 0.05, (2, -1, 1))[0]
    found = rough(Twofold(), fixed, moving)
    np.testing.assert_allclose(found.translation, ByMass(0.0)(fixed, moving).translation, atol=1e-9)
    # one that only bends has no other affine part than that of the bend
    bent = rough(Twofold(start=False), fixed, moving)
    np.testing.assert_allclose(bent(fixed.grid.center), fixed.grid.center + 0.4, atol=0.05)


@pytest.mark.parametrize("shape", SHAPES)
def test_direct_registrations_begin_where_a_bank_expects_images_that_look_alike(shape, tmp_path):
    atlases, registration = people(shape), Twofold(bend=False)
    bank = TemplateBank.direct(TemplateBank.of([atlases[0].image], atlases, registration, tmp_path / "bank"))
    target, truth = scene(shape, 30, 0.05, (-2, 2, 1))
    noise = target.with_values(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    for known in (bank, bank.held()):
        choices = known.choose(target)
        assert all(choice.near for choice in choices)
        assert [known.online(target, choice).stage for choice in choices] == ["near"] * 4
        found = MultiAtlas(known, count=None)(target)
        assert min(dice(found.labels, truth).values()) > 0.85
        # so do the atlases that look most like it, if not all are wanted
        few = known.choose(target, 2)
        assert [one.template for one in few] == [one.template for one in known.ranked(target)][:2]
        assert [known.online(target, one).stage for one in few] == ["near"] * 2
        # where nothing looks alike all is done, from nothing
        choices = known.choose(noise)
        assert [choice.start for choice in choices] == [None] * 4
        assert known.online(noise, choices[1]).stage == "mass"
    # as is where a template carries many
    whole = bank.routes.others
    many = TemplateBank(registration, whole)
    assert not any(choice.near for count in (1, None) for choice in many.choose(target, count))
    # as is where atlases alone are known
    alone = TemplateBank.direct(atlases, registration)
    assert alone.online(target, alone.choose(target)[1]).stage == "mass"


def test_near_the_truth_the_dense_stage_of_an_affine_registration_is_left():
    people = LPRegistration.for_people()
    assert people.near() == people.dense
    assert replace(people, budget=0.5).near() == DenseRegistration(budget=0.5)
    for whole in (LPRegistration(), LPRegistration.quick(), LPRegistration(transform="affine", dense=None)):
        assert whole.near() is whole


def test_the_affine_part_is_the_nearest_affine_map():
    grid = Grid((20, 30), (2.0, 1.0), (5.0, -3.0))
    phi = Affine([[1.1, 0.2], [-0.1, 0.9]], [4.0, 2.0])
    wave = np.sin(grid.points() / 3)
    x = np.concatenate([grid.points().reshape(-1, 2), np.ones((600, 1))], axis=1)
    bent = DisplacementField(wave, grid)
    fitted, *_ = np.linalg.lstsq(x, bent(grid.points().reshape(-1, 2)), rcond=None)
    found = affine_part(bent, grid)
    np.testing.assert_allclose(found.matrix, fitted[:2].T, atol=0.02)
    both = affine_part(phi @ bent, grid)
    np.testing.assert_allclose(both.matrix, phi.matrix @ found.matrix, atol=1e-9)
    assert rough(ByMass(), *[scene((40, 33), 1, 0, s)[0] for s in ((0, 0), (3, 1))]).translation == pytest.approx(
        [3, 1.3], abs=0.1
    )


def test_digests_tell_what_differs_and_nothing_else():
    one, other = LPRegistration.for_people(), LPRegistration(transform="affine", dense=DenseRegistration())
    assert digests.of_registration(one) == digests.of_registration(other)
    assert digests.of_registration(one) != digests.of_registration(LPRegistration())
    image, _ = scene((9, 8))
    turned = Image(image.values, Grid((9, 8), (1.0, 1.3), (-0.0, 0.0)))
    assert digests.of_image(image) == digests.of_image(turned)
    assert digests.of_image(image) != digests.of_image(image.with_values(image.values.astype(np.float64)))
    assert digests.of_image(image) != digests.of_image(Image(image.values, Grid((9, 8), (1.0, 1.3), (0.0, 0.1))))
    assert digests.of_registration(scene) == digests.of_registration(scene) != digests.of_registration(atlas)
    with pytest.raises(TypeError, match="registration: expected a frozen dataclass or a function of a module, got function"):
        digests.of_registration(lambda fixed, moving: None)


def test_networks_are_told_apart_by_their_weights():
    torch = pytest.importorskip("torch")
    nets = [torch.nn.Linear(2, 3) for _ in range(2)]
    assert digests.of_registration(nets[0]) != digests.of_registration(nets[1])
    nets[1].load_state_dict(nets[0].state_dict())
    assert digests.of_registration(nets[0]) == digests.of_registration(nets[1])


def bank_of(place, **changes):
    atlases = people((20, 17), 2)
    given = {"templates": [atlases[0].image], "atlases": atlases, "registration": ByMass(), "folder": place / "bank"}
    return TemplateBank.of(**{**given, **changes})


def flat(shape):
    return Image(np.zeros(shape, dtype=np.float32), Grid(shape))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"atlases": []}, ValueError, "templates, atlases: expected at least one of each, got 1 and 0"),
        ({"templates": [flat((5, 6, 7))]}, ValueError, r"atlases\[0\]: expected a 3-D image, as the first, got a 2-D one"),
        ({"templates": [np.zeros((5, 6))]}, TypeError, r"templates\[0\]: expected an Image, got ndarray"),
        ({"atlases": [flat((5, 6))]}, TypeError, r"atlases\[0\]: expected an Atlas, got Image; an atlas has labels"),
        ({"templates": [flat((5, 6))] * 2}, ValueError, r"templates\[1\]: expected different images"),
        ({"templates": [flat((20, 17))], "registration": LPRegistration()}, ValueError, "template 0, atlas 0: fixed: expected"),
        ({"registration": 7}, TypeError, "registration: expected a callable"),
        ({"workers": 0}, ValueError, "workers: expected at least 1, got 0"),
    ],
)
def test_what_makes_no_bank_is_refused(changes, error, message, tmp_path):
    with pytest.raises(error, match=message):
        bank_of(tmp_path, **changes)
    assert not (tmp_path / "bank" / "bank.json").exists()


def test_what_is_no_bank_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a bank with bank.json, got none"):
        TemplateBank.read(tmp_path, ByMass())
    bank = bank_of(tmp_path)
    with pytest.raises(ValueError, match="count: expected at least 1 template, got 0"):
        bank.choose(flat((5, 5)), 0)
    with pytest.raises(ValueError, match="image: expected a 2-D one, as those of the bank, got a 3-D one"):
        bank.choose(flat((5, 5, 5)))
    with pytest.raises(ValueError, match="moving: expected an image of the bank, got another"):
        TemplateRegistration(bank)(flat((5, 5)), scene((20, 17), 99)[0])
    with pytest.raises(TypeError, match="registration: expected a callable"):
        TemplateBank.direct(people((9, 8), 2))
    listed = tmp_path / "bank" / "bank.json"
    text = listed.read_text(encoding="utf-8")
    for changed, message in (
        (text.replace('"version": 1', '"version": 2'), "expected version 1, got 2"),
        ("{}", "expected the list of a bank of augreg"),
        (text.replace('"templates"', '"other"'), "expected registration, templates and atlases"),
    ):
        listed.write_text(changed, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            TemplateBank.read(tmp_path / "bank", ByMass())
        with pytest.raises(ValueError, match=message):
            bank_of(tmp_path)
    listed.write_text(text, encoding="utf-8")
    next((tmp_path / "bank" / "transforms").iterdir()).unlink()
    with pytest.raises(ValueError, match="expected a file of the bank, it is missing; run augreg atlas build again"):
        TemplateBank.read(tmp_path / "bank", ByMass())
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(ValueError, match="expected an empty folder or a bank, got a folder with other files"):
        bank_of(tmp_path, folder=tmp_path / "else")
