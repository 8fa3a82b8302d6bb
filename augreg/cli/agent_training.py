"""`augreg train --agent`: an agent that learns what moves are worth, from pairs with known poses."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import augreg as ar
from augreg.cli.followed import followed
from augreg.cli.output import report
from augreg.registration.table import is_table, read_table, told_of

if TYPE_CHECKING:
    # torch: loaded only where a command needs it
    from augreg.agents import AdvantageLearner, DoubleQLearner, Known
    from augreg.agents.view import Kind

NOTHING = "MODEL.npz|DIR|PAIRS.csv, -o RUN: expected what to learn from and a folder for the run, got none; give both"
# what an agent can be told, and what holds where nothing is said
DEFAULTS: dict[str, Any] = {
    "agent": "rigid",
    "learn": "gains",
    "offsets": (20.0, 20.0),
    "batch": 16,
    "learning_rate": 1e-3,
    "width": 1.0,
    "gamma": 0.0,
    "noise": 0.0,
    "jitter": (0.0, 0.0),
    "mirrored": "none",
    "contrasts": "none",
    "centred": False,
    "seed": 0,
}
# logarithm of sizes of poses at chance, for similarities, and of the jitter's, with angles
_SIZES = 0.2
_SCALE = 0.05
# what says nothing to an agent
_STRANGE = (
    "recipe",
    "explain",
    "minutes",
    "objective",
    "map",
    "marks",
    "antisymmetric",
    "architecture",
    "scales",
    "window",
    "curriculum",
    "likeness",
    "smoothness",
    "bending",
    "symmetric",
    "bend",
    "shade",
    "prior",
    "patience",
    "descriptor",
    "shapes",
    "init",
)
_OF_MODELS = ("turns", "intensity", "pool")
# pairs that are drawn from a model, and steps, where nothing is said
_POOL, _STEPS = 256, 2000


def add_agent_options(parser: argparse.ArgumentParser) -> None:
    """The options."""
    agent = parser.add_argument_group("an agent, which moves step by step")
    agent.add_argument(
        "--agent",
        choices=("rigid", "similarity"),
        help="train an agent for such poses, in place of a network that predicts maps; label maps of PAIRS.csv say where images "
        "belong, by the centroids of their structures; pairs without lie as they should. --spacing is that of what it sees",
    )
    agent.add_argument(
        "--offsets",
        type=float,
        nargs=2,
        metavar=("MM", "DEGREES"),
        help="from how far it finds back (default 20 20)",
    )
    agent.add_argument(
        "--learn",
        choices=("gains", "double-q"),
        help="gains: what all moves gain, from the known pose (default); double-q: from its own moves and rewards, as published",
    )


def check_no_agent(options: argparse.Namespace) -> None:
    """Refuse options of agents without one."""
    for name in ("offsets", "learn"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name}: expected --agent, which this is about, got none; name a kind of pose or leave it out")


def run(options: argparse.Namespace) -> None:
    """Train."""
    for name in _STRANGE:
        if getattr(options, name) not in (None, False):
            typed = "trunk" if name == "architecture" else name.replace("_", "-")
            raise ValueError(f"--{typed}: expected no --agent, to which it says nothing; leave one of them out")
    if options.source is None or options.output is None:
        raise ValueError(NOTHING)
    from augreg import training  # torch: only here

    machine = training.Machine(options.device, options.threads, options.precision, compiled=options.compile)
    known = training.run_settings(options.output) if options.resume else {}
    if options.resume and "agent" not in known:
        raise ValueError(
            f"{options.output}: expected the run of an agent to go on with, got one of a network of maps; leave --agent out"
        )
    asked = {name: value for name in DEFAULTS if (value := getattr(options, name, None)) is not None}
    # the seed has a default of its own
    settings = {**DEFAULTS, **{name: known[name] for name in DEFAULTS if name in known}, **asked}
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    if settings["mirrored"] == "all":
        raise ValueError("--mirrored: expected none or sideways with --agent, got all")
    if settings["contrasts"] == "labels":
        raise ValueError("--contrasts: expected none or maps with --agent, got labels")
    steps = options.steps or _STEPS
    pairs = _pairs(options, settings)
    with training.joined(options.device) as team:
        learner = _learner(settings, pairs, options.spacing)
        wanted = {**settings, "data": learner.pairs.content, "view": learner.network.description["view"]}
        wanted |= {"steps_mm": list(learner.steps), "precision": options.precision}
        if options.resume:
            training.check_same(options.output, known, wanted)
        else:
            training.claim(options.output, wanted, writes=team.rank == 0)
        how = training.TrainingOptions(steps=steps, learning_rate=settings["learning_rate"], machine=machine)
        states = training.learn(learner, options.output, how, team=team, resume=options.resume)
        state = followed(states, options.output, steps, team)
    if team.rank > 0:
        return
    weights = Path(options.output) / training.WEIGHTS
    result: dict[str, Any] = {"weights": str(weights), "steps": steps, "pairs": len(learner.pairs)}
    text = f"{weights}: an agent, {steps} steps on {len(learner.pairs)} pairs"
    if state is not None:
        result |= {"loss": state.loss, "learning_rate": state.learning_rate, "seconds": state.seconds}
        result |= {name: state.numbers[name] for name in ("chosen", "reward") if name in state.numbers}
        text += f", loss {state.loss:.3f} on the last states; try it by `augreg test {options.output} PAIRS.csv`"
    report(result, text, as_json=options.json)


def _pairs(options: argparse.Namespace, settings: Mapping[str, Any]) -> list[Known]:
    """Pairs with known poses."""
    from augreg import agents, training
    from augreg.registration import Centred

    kind: Kind = settings["agent"]
    if is_table(options.source):
        _check_no_model(options)
        found: list[Known] = []
        for line in read_table(options.source):
            pair = line.read()
            with told_of(line.where):
                if settings["centred"]:
                    pair = pair.with_initial(Centred()(pair.fixed, pair.moving))
                found.append(agents.from_pair(pair, kind, len(found)))
                if found[-1].fixed.ndim != found[0].fixed.ndim:
                    raise ValueError(
                        f"fixed: expected a {found[0].fixed.ndim}-D image, as the first, got {found[-1].fixed.ndim}-D"
                    )
        return found
    if settings["centred"]:
        raise ValueError("--centred: expected PAIRS.csv, got another source, whose pairs share a grid; leave it out")
    if Path(options.source).is_dir():
        _check_no_model(options)
        pairs = training.read_pairs(options.source)
        grid = ar.Grid(tuple(pairs.fixed.shape[2:]), training.shard_spacing(options.source))
        return agents.from_truth(pairs, grid, kind)
    return _of_model(options, kind, settings["seed"])


def _of_model(options: argparse.Namespace, kind: Kind, seed: int) -> list[Known]:
    """Pairs that are drawn from a model, before the first step."""
    from augreg import agents, recipes
    from augreg.recipes import Recipe, Turn
    from augreg.synthesis import PairBatch

    model = ar.read_model(options.source)
    recipe = Recipe(pool=_POOL if options.pool is None else options.pool, batch=1)
    if options.turns is not None:
        recipe = replace(recipe, turns=tuple(Turn.of(about) for about in options.turns))
    if options.intensity is not None:
        recipe = replace(recipe, intensity=options.intensity)
    pairs = PairBatch.concatenate(list(recipes.pool(recipe, model, seed)))
    return agents.from_truth(pairs, model.template, kind)


def _check_no_model(options: argparse.Namespace) -> None:
    for name in _OF_MODELS:
        if getattr(options, name) is not None:
            raise ValueError(
                f"--{name.removesuffix('s')}: expected a model to draw from, got pairs, which are drawn; leave it out"
            )


def _learner(settings: Mapping[str, Any], pairs: list[Known], spacing: list[float] | None) -> AdvantageLearner | DoubleQLearner:
    from augreg import agents
    from augreg.agents.lessons import one_after_the_other
    from augreg.networks import seeded

    ndim = pairs[0].fixed.ndim
    if spacing is not None and len(spacing) not in (1, ndim):
        raise ValueError(f"--spacing: expected one number or {ndim}, got {len(spacing)}")
    view = agents.view_of(pairs, spacing, settings["agent"])
    network = seeded(settings["seed"], lambda: agents.QNet(view, width=settings["width"]))
    shift, rotation = settings["offsets"]
    degrees, mm = settings["jitter"]
    looks = []
    if settings["contrasts"] == "maps":
        looks.append(agents.any_contrast())
    if settings["gamma"] or settings["noise"]:
        looks.append(agents.gamma_and_noise(settings["gamma"], settings["noise"]))
    lesson = agents.Lesson(
        agents.Offsets(shift, rotation, _SIZES if settings["agent"] == "similarity" else 0.0),
        agents.Jitter(degrees, mm, _SCALE * bool(degrees), 0 if settings["mirrored"] == "sideways" else None),
        one_after_the_other(*looks) if looks else None,
    )
    make = agents.AdvantageLearner if settings["learn"] == "gains" else agents.DoubleQLearner
    known = agents.PosePairs.of(pairs, network)
    return make(network, known, lesson, batch=settings["batch"], seed=settings["seed"], centred=settings["centred"])
