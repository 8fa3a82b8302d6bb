"""`augreg train`: a network that learns from pairs of a model, from shards, or from real pairs of a table."""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import augreg as ar
from augreg.cli import agent_training
from augreg.cli.arguments import positive, seed
from augreg.cli.followed import followed
from augreg.cli.options import Commands, command_of, json_option
from augreg.cli.output import report, say
from augreg.cli.recipe_options import OF_DRAWING, add_recipe_options, recipe_of
from augreg.registration.table import is_table, read_table

if TYPE_CHECKING:
    # torch: loaded only where a command needs it
    import numpy as np
    import numpy.typing as npt

    from augreg import training
    from augreg.networks import Network
    from augreg.recipes import Recipe
    from augreg.registration.table import Line
    from augreg.sam import AppearanceModel
    from augreg.synthesis import PairBatch

# lines that are named
_SHOWN = 3
# pairs that training looks at without learning from them
_HELD_OUT = 16
# steps from which on it is worth knowing before how long they take
_LONG = 20
# what is told of the last step
_TOLD = ("loss", "epe", "epe_without", "learning_rate", "seconds", "epe_held_out", "best_step")


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "train",
        run,
        "train a network on pairs drawn from a model, on shards, or on your own pairs",
        "augreg train model.npz -o run --steps 2000\n  augreg train pairs.csv -o run --map cascade --trunk unet --minutes 30",
    )
    parser.add_argument(
        "source",
        nargs="?",
        metavar="MODEL.npz|DIR|PAIRS.csv",
        help="a model of `augreg sam fit`, shards of `augreg synthesize`, or a table of your own pairs: a header "
        "fixed,moving[,fixed_labels,moving_labels], a pair a line, paths relative to it",
    )
    parser.add_argument("-o", "--output", metavar="RUN", help="folder of checkpoint and weights, of a run of its own")
    parser.add_argument(
        "--spacing",
        type=positive(float),
        nargs="+",
        metavar="MM",
        help="voxel size that the pairs of PAIRS.csv are brought to, one number or one per axis (default the first image's)",
    )
    parser.add_argument("--device", default="auto", metavar="D", help="cpu, cuda, mps, or auto (default)")
    parser.add_argument("--threads", type=positive(int), metavar="T", help="of PyTorch on the CPU (default: as it chooses)")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of convolutions (default auto: bfloat16 on cards that have it, else float32)",
    )
    parser.add_argument("--compile", action="store_true", help="compile the network first: takes minutes, for long runs on CUDA")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="same seed, same result (default 0)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on where RUN was stopped, as it began; --steps may be more")
    start.add_argument("--init", metavar="WEIGHTS", help="start from these weights")
    json_option(parser)
    add_recipe_options(parser)
    agent_training.add_agent_options(parser)


def run(options: argparse.Namespace) -> None:
    """`augreg train`."""
    if options.agent is not None:
        agent_training.run(options)
        return
    agent_training.check_no_agent(options)
    if options.explain:
        _explain(options)
        return
    if options.source is None or options.output is None:
        raise ValueError(agent_training.NOTHING)
    from augreg import recipes, training  # torch: only here

    machine = training.Machine(options.device, options.threads, options.precision, compiled=options.compile)
    known = training.run_settings(options.output) if options.resume else None
    if known is None:
        training.check_unused(options.output)
    lines = _lines(options)
    recipe = recipe_of(options, known or {}, labelled=bool(lines) and all(line.labelled for line in lines))
    table = _table(options, recipe, lines)
    with training.joined(options.device) as team:
        lesson, part = _lesson(options, recipe, team, table), team.part(recipe.drawn)
        network = _first_network(options, recipe, lesson, known or {})
        model = _shapes(options, recipe, lesson)
        objective = recipes.objective(recipe, lesson.spacing, lesson.structures, model)
        sees = _judged(options, recipe, lesson, model, team)
        if known is None and (options.minutes is not None or recipe.steps >= _LONG):
            tried = _learner(options, recipe, copy.deepcopy(network), lesson, objective, sees, part)
            pace = training.pace_of(tried, recipes.training_options(recipe, machine), team)
            if options.minutes is not None:
                recipe = replace(recipe, steps=pace.steps(options.minutes))
                if recipe.curriculum:
                    # shapes grow over a share of the steps
                    lesson = _lesson(options, recipe, team, table)
            if team.rank == 0:
                say(f"augreg: {pace.said(recipe.steps)}")
        wanted = _run_settings(options, recipe, lesson, network, known or {})
        if known is None:
            training.claim(options.output, wanted, writes=team.rank == 0)
        else:
            # runs of before recipes were said in full had the default of what they do not name
            training.check_same(options.output, _settled(recipes.DEFAULT) | known, wanted)
        learner = _learner(options, recipe, network, lesson, objective, sees, part)
        states = training.learn(
            learner, options.output, recipes.training_options(recipe, machine), team=team, resume=options.resume
        )
        state = followed(states, options.output, recipe.steps, team, _said)
    if team.rank > 0:
        return
    weights = Path(options.output) / training.WEIGHTS
    steps = recipe.steps if state is None else state.step
    result: dict[str, Any] = {"weights": str(weights), "steps": steps}
    text = f"{weights}: {steps} steps"
    if state is not None:
        result |= {name: getattr(state, name) for name in _TOLD}
        text += f", the best after {state.best_step}" * (state.best_step is not None)
        if math.isfinite(state.epe):
            text += f", EPE {state.epe:.2f} voxels on the last pairs (without registration {state.epe_without:.2f})"
        else:
            text += f", loss {state.loss:.3f} on the last pairs; try it by `augreg test {options.output} PAIRS.csv`"
        if math.isfinite(state.epe_held_out):
            text += f", {state.epe_held_out:.2f} on pairs held out"
    report(result, text, as_json=options.json)


def _said(state: training.TrainingState) -> str:
    known_truth = f", EPE {state.epe:.2f} (without {state.epe_without:.2f})" if math.isfinite(state.epe) else ""
    return f"loss {state.loss:.3f}{known_truth}"


def _explain(options: argparse.Namespace) -> None:
    lines = _lines(options)
    recipe = recipe_of(options, {}, labelled=bool(lines) and all(line.labelled for line in lines)).described()
    report(recipe, json.dumps(recipe, indent=1), as_json=options.json)


class _Lesson(NamedTuple):
    """What a network is to learn from; `seen` is the shape of the images, `labels` those of the fixed ones."""

    batches: training.Batches
    held_out: PairBatch | None
    spacing: tuple[float, ...]
    ndim: int
    content: str
    shape: tuple[int, ...] | None = None
    structures: tuple[int, ...] = (1,)
    seen: tuple[int, ...] = ()
    labels: npt.NDArray[np.integer] | None = None


def _lines(options: argparse.Namespace) -> list[Line]:
    """The lines of a table, if the source is one."""
    return read_table(options.source) if is_table(options.source) else []


def _table(options: argparse.Namespace, recipe: Recipe, lines: list[Line]) -> training.RealPairs | None:
    """The pairs of a table, if there is one."""
    if not lines:
        if options.spacing is not None:
            raise ValueError("--spacing: expected PAIRS.csv, whose pairs are brought to it, got another source; leave it out")
        for name, value in (("jitter", any(recipe.jitter)), ("bend", recipe.bend), ("centred", recipe.centred)):
            if value:
                raise ValueError(
                    f"--{name}: expected PAIRS.csv, whose images have no truth to blur, got another source; leave it out"
                )
        if recipe.targets != "none":
            raise ValueError("--targets: expected PAIRS.csv with label maps, got another source; leave it out")
        if recipe.marks != "none":
            raise ValueError("--marks: expected PAIRS.csv with label maps, got another source; leave it out")
        return None
    from augreg import training
    from augreg.registration import Centred

    table = training.real_pairs(lines, options.spacing, before=Centred() if recipe.centred else None)
    if recipe.targets == "none":
        return table
    found = training.matched(table)
    if found.lost:
        said = ", ".join(lines[number].where for number in found.lost[:_SHOWN])
        say(f"augreg: {len(found.lost)} of {len(lines)} pairs are left out, whose outlines cannot be matched: {said}")
    return found.pairs


def _lesson(options: argparse.Namespace, recipe: Recipe, team: training.Team, table: training.RealPairs | None) -> _Lesson:
    """Real pairs, those drawn from a model, or those of a folder of shards but for the last ones."""
    from augreg import recipes, training

    part, source = team.part(recipe.drawn), options.source
    if table is not None:
        _check_settled(options, recipe, "a table of pairs")
        _check_objective(recipe, table)
        _check_contrasts(recipe, _maps(table.pairs))
        drawn = training.pairs_of_table(table.pairs, recipe.drawn, options.seed, part=part)
        batches = recipes.shown(recipe, drawn, options.seed, part=part, spacing=table.spacing)
        known = (table.spacing, table.ndim, table.content, table.shape, table.structures or (1,), table.shape)
        return _Lesson(batches, None, *known, _maps(table.pairs))
    if Path(source).is_dir():
        _check_settled(options, recipe, "a folder of pairs")
        pairs = training.read_pairs(source)
        kept = len(pairs) - min(_HELD_OUT, len(pairs) // 10)
        if kept < recipe.batch:
            raise ValueError(
                f"{source}: expected at least a batch of {recipe.batch} pairs beside those held out, got {kept}; "
                "synthesize more, or lower --batch"
            )
        drawn = recipes.pairs_at_hand(recipe, pairs[:kept], options.seed, part=part)
        unseen = pairs[kept:] if kept < len(pairs) else None
        spacing, ndim, content = training.shard_spacing(source), pairs.flow.shape[1], training.pairs_hash(pairs)
        seen, labels = tuple(pairs.flow.shape[2:]), _maps(pairs)
    else:
        model = ar.read_model(source)
        drawn = recipes.fresh_pairs(recipe, model, options.seed, part=part)
        unseen = recipes.pairs_held_out(recipe, model, options.seed, _HELD_OUT) if team.rank == 0 else None
        spacing, ndim, content = model.template.spacing, model.template.ndim, training.model_hash(model)
        seen, labels = model.template.shape, None
        if model.label_maps is not None:
            labels = model.label_maps.reshape(-1, *seen)
    _check_contrasts(recipe, labels)
    shown = recipes.shown(recipe, drawn, options.seed, part=part)
    return _Lesson(shown, unseen, spacing, ndim, content, seen=seen, labels=labels)


def _maps(pairs: PairBatch) -> npt.NDArray[np.integer] | None:
    """Label maps of the fixed images."""
    return None if pairs.fixed_labels is None else pairs.fixed_labels[:, 0].numpy()


def _shapes(options: argparse.Namespace, recipe: Recipe, lesson: _Lesson) -> AppearanceModel | None:
    """The appearance model that a prior knows: that of --shapes, or the source."""
    from augreg import recipes

    needed = recipes.needs_model(recipe.prior)
    if not needed:
        if options.shapes is not None:
            raise ValueError(f"--shapes: expected --prior plausible or critic=model beside it, got {recipe.prior}; leave it out")
        return None
    path = options.shapes
    if path is None and not is_table(options.source) and not Path(options.source).is_dir():
        path = options.source
    if path is None:
        return None
    model = ar.read_model(path)
    recipes.check_model(recipe.prior, model, lesson.seen, lesson.spacing)
    return model


def _judged(
    options: argparse.Namespace, recipe: Recipe, lesson: _Lesson, model: AppearanceModel | None, team: training.Team
) -> training.Fields | None:
    """What a critic sees, if there is one."""
    from augreg import recipes

    grid = ar.Grid(lesson.seen, lesson.spacing) if model is None or lesson.shape is not None else model.template
    return recipes.fields_for_critic(
        recipe.prior,
        recipe.drawn,
        grid,
        labels=lesson.labels,
        model=model,
        seed=options.seed,
        part=team.part(recipe.drawn),
        doubled=recipe.symmetric,
    )


def _learner(
    options: argparse.Namespace,
    recipe: Recipe,
    network: Network,
    lesson: _Lesson,
    objective: training.Objective,
    sees: training.Fields | None,
    part: slice,
) -> training.Learner:
    from augreg import recipes

    about = {"sees": sees, "seed": options.seed, "unseen": lesson.held_out, "part": part}
    return recipes.learner_of(recipe, network, lesson.batches, lesson.spacing, objective, **about)


def _check_contrasts(recipe: Recipe, labels: npt.NDArray[np.integer] | None) -> None:
    if recipe.contrasts == "labels" and labels is None:
        raise ValueError(
            "--contrasts: expected label maps of what is learned from for labels, got none; give them in PAIRS.csv or to "
            "`augreg sam fit`, or take maps"
        )


def _check_settled(options: argparse.Namespace, recipe: Recipe, what: str) -> None:
    """Refuse options on how pairs are drawn where they are."""
    if recipe.curriculum:
        raise ValueError(f"--curriculum: expected a model to draw from, got {what}, whose size is settled; leave it out")
    for name in OF_DRAWING:
        if getattr(options, name) is not None:
            raise ValueError(
                f"--{name.removesuffix('s')}: expected a model to draw from, got {what}, which are drawn; leave it out"
            )


def _check_objective(recipe: Recipe, table: training.RealPairs) -> None:
    """Refuse objectives that look at what the pairs of a table do not have."""
    from augreg.recipes import objective_words

    words = dict(objective_words(recipe.objective))
    if recipe.targets == "none" and (known := {"truth", "velocity"} & words.keys()):
        raise ValueError(
            f"--objective: expected words without {min(known)}, which real pairs do not have; take likeness, mind or labels, or "
            "--targets shapes"
        )
    if recipe.marks != "none" and table.pairs.fixed_labels is not None and not table.structures:
        raise ValueError("--marks: expected a structure that the label maps of all pairs have, got none; check their numbers")
    if "labels" in words and table.pairs.fixed_labels is None:
        raise ValueError(
            "--objective: expected label maps of all pairs for labels, got lines without; fill the columns fixed_labels and "
            "moving_labels, or leave labels out"
        )


def _run_settings(
    options: argparse.Namespace, recipe: Recipe, lesson: _Lesson, network: Network, known: Mapping[str, Any]
) -> dict[str, Any]:
    """What the weights of a run depend on; where it computes changes their last digits alone, more steps are allowed.

    Of a run that was given minutes the steps are kept, as they were settled: one that goes on is the same run.
    """
    from augreg import training
    from augreg.networks import FlowNet

    first = {"data": lesson.content, "seed": options.seed}
    # those of before had but one kind of network, and its numbers beside the recipe's
    about = network.description if isinstance(network, FlowNet) else {"network": network.description}
    length: dict[str, Any] = {}
    if options.minutes is not None or "minutes" in known:
        minutes = known.get("minutes") if options.minutes is None else options.minutes
        length = {"minutes": minutes, "steps": known.get("steps", recipe.steps)}
    seen: dict[str, Any] = {} if lesson.shape is None else {"shape": list(lesson.shape)}
    if options.shapes is not None:
        seen["shapes"] = training.model_hash(ar.read_model(options.shapes))
    return {**first, **_settled(recipe), **about, **length, **seen, "precision": options.precision}


def _settled(recipe: Recipe) -> dict[str, Any]:
    """What a run that goes on must not change."""
    return {name: value for name, value in recipe.described().items() if name != "steps"}


def _first_network(options: argparse.Namespace, recipe: Recipe, lesson: _Lesson, known: Mapping[str, Any]) -> Network:
    """The network that training begins with."""
    from augreg import recipes
    from augreg.networks import network_of, read_network

    # patches are what a network has to have strides for
    shape = lesson.shape if recipe.tile is None else tuple(min(n, recipe.tile) for n in lesson.seen)
    if options.init is None and "network" in known and options.map is None and options.scales is None:
        # a run that began with --init has the network of that file
        return network_of(known["network"])
    if options.init is None:
        return recipes.first_network(recipe, lesson.ndim, options.seed, shape, lesson.structures)
    network = read_network(options.init).network
    found = {"ndim": network.ndim, "channels": network.channels, **network.description}
    wanted = {name: getattr(options, name) for name in ("architecture", "width", "window")} | {"ndim": lesson.ndim, "channels": 1}
    if options.map is not None or options.scales is not None:
        # not to be seen from single numbers
        as_asked = recipes.first_network(recipe, lesson.ndim, options.seed, shape, lesson.structures).description
        found["description"], wanted = network.description, {"ndim": lesson.ndim, "description": as_asked}
    for name, value in wanted.items():
        if value is not None and found.get(name) != value:
            raise ValueError(
                f"{options.init}: expected a network with {name} {value}, got {found.get(name)}; start without --init"
            )
    return network
