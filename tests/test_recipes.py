"""Recipes: data that becomes JSON and comes back, and the same batches for whoever builds from it."""

import itertools
import json
import re
import subprocess
import sys
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path

import pytest
import torch
from support import subjects

from augreg import demo, recipes
from augreg.cli.parser import build_parser
from augreg.cli.recipe_options import recipe_of
from augreg.networks import read_network
from augreg.recipes import BRAIN, DEFAULT, DEMO, HEART, HEARTS, MULTIMODAL, Recipe, Turn
from augreg.sam import write_model
from augreg.synthesis import PairBatch, SmoothField
from augreg.training import ALONE, WEIGHTS, Batches, Machine, Team, train
from benchmarks.experiments.people import Study, Subject
from benchmarks.experiments.settings import SETTINGS
from benchmarks.experiments.ship import SHIPPED
from benchmarks.experiments.sources import source

ROOT = Path(__file__).resolve().parents[1]

# every value is another one than the default's
OTHER = Recipe(
    turns=(Turn(0.3, 0.2, 1.5, (SmoothField(20.0, (0.0, 1.0)), SmoothField(9.0, (0.5,)))), Turn("independent")),
    intensity=0.1,
    gamma=0.2,
    noise=0.01,
    jitter=(5.0, 2.5),
    bend=1.5,
    shade=0.1,
    centred=True,
    symmetric=True,
    mirrored="sideways",
    curriculum=0.5,
    architecture="FlowNetC",
    width=0.125,
    window=31,
    map="cascade",
    marks="two",
    antisymmetric=True,
    scales=(4, 1),
    batch=4,
    steps=7,
    learning_rate=3e-4,
    halvings=2,
    warm_up=5,
    weight_decay=0.0,
    clip=1.0,
    objective="mind+labels:2",
    likeness=2.0,
    smoothness=0.5,
    bending=0.25,
    prior="plausible:0.5+critic=model",
    contrasts="maps",
    targets="shapes",
    patience=3,
    descriptor="edges",
)


def equal(a: PairBatch, b: PairBatch) -> bool:
    parts = ((getattr(a, name), getattr(b, name)) for name in ("fixed", "moving", "mask"))
    return all(torch.equal(x, y) for x, y in parts) and torch.equal(a.flow.nan_to_num(), b.flow.nan_to_num())


def seen(recipe: Recipe, seed: int, team: Team = ALONE) -> Batches:
    part = team.part(recipe.drawn)
    return recipes.shown(recipe, recipes.fresh_pairs(recipe, subjects.model(), seed, part=part), seed, part=part)


def asked(line: str, known: dict | None = None) -> Recipe:
    return recipe_of(build_parser().parse_args(["train", *line.split()]), known or {})


@pytest.mark.parametrize(
    "recipe", [DEFAULT, HEART, BRAIN, DEMO, HEARTS, MULTIMODAL, recipes.CONTRASTS, OTHER, replace(OTHER, curriculum=0.0, pool=6)]
)
def test_a_recipe_becomes_json_and_comes_back_equal(recipe, tmp_path):
    text = json.dumps(recipe.described())
    assert Recipe.of(json.loads(text)) == recipe
    (tmp_path / "r.json").write_text(text, encoding="utf-8")
    assert recipes.named(str(tmp_path / "r.json")) == recipe


def test_every_value_of_a_recipe_is_in_its_json():
    # a value that is left out would not be compared when a run goes on
    for field in fields(Recipe):
        # of some the other recipe has the default, since they do not go with others of its values
        value = {"pool": 16, "tile": 16, "steered": True}.get(field.name, getattr(OTHER, field.name))
        changed = replace(DEFAULT, **{field.name: value})
        assert changed != DEFAULT
        assert Recipe.of(changed.described()) == changed


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"batch": 3, "symmetric": True}, "batch: expected an even number"),
        ({"batch": 0}, "batch: expected a positive whole number"),
        ({"batch": 2.5}, "batch: expected a positive whole number"),
        ({"noise": -1}, "noise: expected a number of at least 0"),
        ({"gamma": "much"}, "gamma: expected a number of at least 0, got 'much'"),
        ({"likeness": float("nan")}, "likeness: expected"),
        ({"symmetric": 1}, "symmetric: expected true or false, got 1"),
        ({"marks": "three"}, "marks: expected one of none, one, two"),
        ({"jitter": [3]}, "jitter: expected degrees and mm"),
        ({"jitter": [3, -1]}, "jitter: expected degrees and mm"),
        ({"centred": 1}, "centred: expected true or false, got 1"),
        ({"prior": "critic"}, "prior: expected critic=elastic or critic=model, which a critic learns from, got a critic without"),
        ({"prior": "critic=elastic+critic=model"}, "prior: expected one critic at most"),
        ({"prior": "plausible:0"}, "prior: expected none, or one or more of plausible, critic=elastic"),
        ({"prior": "plausible+plausible"}, "prior: expected none, or one or more of"),
        ({"prior": 3}, "prior: expected none, or one or more of"),
        ({"prior": "plausible", "map": "affine"}, "prior: expected a map that bends, affine ones cost nothing, got affine"),
        ({"patience": 0}, "patience: expected a positive whole number, got 0"),
        ({"descriptor": "sift"}, "descriptor: expected one of none, mind, edges, got 'sift'"),
        ({"steered": 1}, "steered: expected true or false, got 1"),
        ({"steered": True, "map": "affine"}, "steered: expected the map displacement and no marks, got affine and none"),
        ({"steered": True, "marks": "one"}, "steered: expected the map displacement and no marks, got displacement and one"),
        ({"contrasts": "all"}, "contrasts: expected one of none, maps, labels"),
        ({"pool": 12}, "pool: expected a multiple of the 8 pairs"),
        ({"pool": 16, "curriculum": 0.5}, "curriculum: expected 0 beside a pool"),
        ({"window": 30}, "window: expected a window of 3 voxels or more, an odd number, got 30"),
        ({"architecture": "FlowNetX"}, "architecture: expected one of FlowNetS, FlowNetC"),
        ({"mirrored": "up"}, "mirrored: expected one of none, sideways, all"),
        ({"turns": []}, "turns: expected at least one"),
        ({"turns": [{"appearance": "equal"}]}, "appearance: expected shared, independent"),
        ({"turns": [{"appearance": 2}]}, "appearance: expected shared, independent"),
        ({"turns": [{"pose": -1}]}, "pose: expected a number of at least 0"),
        ({"turns": [{"rest": [{"spacing": 0, "magnitudes": [1]}]}]}, "spacing: expected a positive number"),
        ({"turns": [{"rest": [{"spacing": 9, "magnitudes": []}]}]}, "rest: expected magnitudes"),
        ({"turns": [{"rest": [{"spacing": 9}]}]}, "recipe: expected numbers and turns"),
        ({"turns": [{"speed": 1}]}, "recipe: expected numbers and turns"),
        ({"speed": 1}, "recipe: expected values named"),
    ],
)
def test_what_is_no_recipe_is_refused_in_a_line(about, said):
    with pytest.raises(ValueError, match="expected") as caught:
        Recipe.of(about)
    assert said in str(caught.value)


def test_options_change_single_values_of_a_recipe():
    assert asked("") == DEFAULT
    assert asked("--recipe heart") == HEART
    assert asked("--recipe heart --steps 5 --likeness 0") == replace(HEART, steps=5, likeness=0.0)
    assert asked("--recipe contrasts --steered") == replace(recipes.named("contrasts"), steered=True)
    assert asked("--recipe heart --no-symmetric --gamma 0") == replace(HEART, symmetric=False, gamma=0.0)
    turns = "--turn 0.3,pose=0.2,amplitude=1.5,rest=20:0/1+9:0.5 --turn independent"
    looks = "--intensity 0.1 --gamma 0.2 --noise 0.01 --symmetric --mirrored sideways --curriculum 0.5"
    looks += " --jitter 5 2.5 --bend 1.5 --shade 0.1 --centred --marks two --antisymmetric"
    rest = (
        "--architecture FlowNetC --width 0.125 --window 31 --batch 4 --steps 7 --learning-rate 3e-4 --likeness 2 --smoothness 0.5"
        " --map cascade --scales 4 1 --objective mind+labels:2 --bending 0.25"
        " --prior plausible:0.5+critic=model --contrasts maps --targets shapes --patience 3 --descriptor edges"
    )
    written = {"halvings": 3, "warm_up": 20, "weight_decay": 4e-4, "clip": 5.0}
    assert asked(f"{turns} {looks} {rest}") == replace(OTHER, **written)


def test_a_run_that_goes_on_has_what_is_not_asked_for_from_itself():
    known = {name: value for name, value in OTHER.described().items() if name != "steps"} | {"data": "model", "seed": 0}
    assert asked("--steps 9", known) == replace(OTHER, steps=9)
    assert asked("--likeness 9", known) == replace(OTHER, steps=DEFAULT.steps, likeness=9.0)
    assert asked("--recipe heart", known) == HEART


def test_command_line_and_experiments_give_the_same_batches(tmp_path):
    images, labels, _ = subjects.people(2, 6)
    people = [Subject(f"p{i}", "ed", image, label) for i, (image, label) in enumerate(zip(images, labels, strict=True))]
    study = Study("toy", tuple(people[:4]), tuple(people[4:]))
    recipe = replace(HEART, turns=(HEART.turns[0], HEART.turns[2]))
    settings = replace(SETTINGS["heart"], recipe=recipe, groups=("people", "people"))
    write_model(subjects.model(), tmp_path / "labels-5.npz")
    theirs = source("sam", study, settings, 3, tmp_path).batches
    ours = seen(recipe, 3)
    batches = [ours(step) for step in range(4)]
    assert all(equal(theirs(step), batch) for step, batch in enumerate(batches))
    # of the turns the first has one appearance in both images, the second two
    assert len({batch.fixed.sum().item() for batch in batches}) == 4


def test_the_demo_learns_as_the_command_line_does_from_its_pool(tmp_path):
    recipe = replace(DEMO, pool=12, batch=4, width=1 / 16, steps=2)
    model = subjects.model()
    unseen = recipes.pairs_held_out(recipe, model, 5, 2)
    events = demo._taught(model, demo.Lesson(recipe=recipe, seed=5), unseen)
    messages = []
    while True:
        try:
            messages.append(next(events).message)
        except StopIteration as end:
            network, curve = end.value
            break
    assert messages[2] == "12 of 12 pairs with exact truth"
    assert [step for step, _ in curve] == [1, 2]
    ours, batches = recipes.first_network(recipe, 2, 5), seen(recipe, 5)
    options = recipes.training_options(recipe, Machine("cpu", threads=1))
    list(train(ours, batches, model.template.spacing, tmp_path, options, objective=recipes.objective(recipe)))
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in network.state_dict().items())


def test_a_pool_is_shown_once_before_any_pair_is_shown_again():
    recipe = replace(DEMO, pool=12, batch=4)
    batches = seen(recipe, 5)
    # mirrors move values, and change none
    values = [sorted(batch.fixed.flatten(1).sort().values.sum(1).tolist()) for batch in map(batches, range(6))]
    drawn = [batch.fixed.flatten(1).sort().values.sum(1).tolist() for batch in recipes.pool(recipe, subjects.model(), 5)]
    for epoch in (values[:3], values[3:]):
        assert sorted(itertools.chain(*epoch)) == sorted(itertools.chain(*drawn))
    assert values[:3] != values[3:]


@pytest.mark.parametrize("changed", [{}, {"symmetric": False, "mirrored": "all"}, {"pool": 8}])
def test_parts_of_a_team_are_parts_of_the_whole_batch(changed):
    recipe = replace(HEART, batch=8, **changed)
    whole = seen(recipe, 2)
    team = [seen(recipe, 2, Team(rank, 2)) for rank in range(2)]
    for step in range(3):
        everything, parts = whole(step), [batches(step) for batches in team]
        share = recipe.drawn // 2
        order = [*range(share), *range(recipe.drawn, recipe.drawn + share)] if recipe.symmetric else [*range(share)]
        for rank, part in enumerate(parts):
            assert equal(everything[torch.tensor(order) + rank * share], part)


def test_pairs_held_out_are_of_every_turn_and_no_step_has_them():
    recipe = replace(HEART, gamma=0.0, noise=0.0)
    unseen = recipes.pairs_held_out(recipe, subjects.model(), 0, 6)
    assert len(unseen) == 6
    # two of three turns have one appearance and large shapes
    sizes = unseen.flow.square().sum(1).mean((1, 2)).sqrt().reshape(3, 2).mean(1)
    assert len({round(float(size), 6) for size in sizes}) == 3
    plain = replace(recipe, symmetric=False, mirrored="none", batch=2)
    drawn = [seen(plain, 0)(step) for step in range(3)]
    assert not any(torch.equal(one.fixed[0], other) for one in drawn for other in unseen.fixed)


def test_a_demo_without_a_pool_is_refused():
    with pytest.raises(ValueError, match="recipe: expected one with a pool"):
        demo.Lesson(recipe=DEFAULT)


EXPERIMENT = """
import sys
from dataclasses import replace
from pathlib import Path
from benchmarks.experiments.people import read_study
from benchmarks.experiments.run import trained
from benchmarks.experiments.settings import SETTINGS
from benchmarks.experiments.ship import SHIPPED
settings = SETTINGS["heart"]
settings = replace(settings, recipe=replace(settings.recipe, steps=5))
trained(SHIPPED, read_study("heart").fewer(SHIPPED.people), settings, Path(sys.argv[1]), "cpu")
"""


@pytest.mark.slow
def test_the_commands_on_the_card_of_the_shipped_network_make_the_weights_of_the_experiment(tmp_path):
    card = (resources.files("augreg") / "data" / "sunnybrook-sax.md").read_text(encoding="utf-8")
    [block] = [text for text in re.findall(r"```sh\n(.*?)```", card, flags=re.DOTALL) if "augreg train" in text]
    assert block.rstrip().endswith("--seed 0")
    python = f'python() {{ "{sys.executable}" "$@"; }}\naugreg() {{ python -m augreg "$@"; }}\nset -e\n'
    subprocess.run(["bash", "-c", f"{python}{block.rstrip()} --steps 5"], cwd=tmp_path, check=True)
    folder = tmp_path / "heart" / "runs" / SHIPPED.key
    # in a process of its own, too: the last digits of pairs depend on how many threads sums are shared by
    subprocess.run([sys.executable, "-c", EXPERIMENT, str(folder)], cwd=ROOT, check=True)
    ours, theirs = (read_network(path / WEIGHTS).network.state_dict() for path in (tmp_path / "run", folder))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
