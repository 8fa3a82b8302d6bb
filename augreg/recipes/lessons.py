"""What is built from a recipe, a source of pairs and a seed: batches, objective, first network, options of training.

    fresh_pairs(recipe, model, seed)             pairs of every step, drawn from a model
    pairs_at_hand(recipe, pairs, seed)           or taken from those in memory
    shown(recipe, batches, seed)                 the same pairs as the network sees them: other looks, exchanged, mirrored

Several processes ask for the part of each batch that is theirs, `team.part(recipe.drawn)`: together they have the batch of one
process alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from augreg.networks import Critic, Network, seeded
from augreg.recipes.priors import critic_weight, held_to
from augreg.recipes.recipe import Recipe, Turn
from augreg.recipes.shapes import network_as
from augreg.recipes.words import objective_of, objective_words
from augreg.sam import AppearanceModel
from augreg.synthesis import AppearancePairs, PairBatch
from augreg.training import (
    Alike,
    Batches,
    Bending,
    Fields,
    FlowLearner,
    JudgedLearner,
    Learner,
    Machine,
    Objective,
    Outlined,
    Smooth,
    TrainingOptions,
    contrast_drawn,
    contrast_mapped,
    growing,
    held_out,
    in_both_directions,
    jittered,
    mirrored,
    mirrored_by_chance,
    one_structure,
    pairs_from_generators,
    pairs_from_memory,
    patches,
    seen_differently,
    shaded,
)

ALL = slice(None)
# deviation of the logarithm of sizes of bodies that are moved by chance
_SIZES = 0.1
# batches that are held out, if no more turns are to be looked at
_LOOKS = 2


def turn_pairs(recipe: Recipe, turn: Turn, model: AppearanceModel, factor: float = 1.0) -> AppearancePairs:
    """The generator of a turn; `factor` multiplies its shapes."""
    return AppearancePairs(
        model,
        appearance=turn.appearance,
        amplitude=factor * turn.amplitude,
        pose=turn.pose,
        intensity=recipe.intensity,
        rest=turn.rest,
        shapes=turn.shapes,
    )


def fresh_pairs(
    recipe: Recipe,
    model: AppearanceModel,
    seed: int,
    *,
    part: slice = ALL,
    device: str | None = None,
) -> Batches:
    """Pairs of every step, drawn from a model; with a pool, in an order of chance out of those that are drawn here.

    Parameters
    ----------
    recipe : recipe by which they are drawn
    model : the appearance model
    seed : seed of all random numbers
    part : which of a step's pairs are wanted
    device : device of the rendering, by default the CPU
    """
    if recipe.pool is not None:
        pairs = PairBatch.concatenate(list(pool(recipe, model, seed, device=device)))
        return pairs_at_hand(recipe, pairs, seed, part=part)
    grown = growing(recipe.steps, share=recipe.curriculum)
    return _drawn(recipe, model, seed, grown, recipe.drawn, part, device)


def pool(recipe: Recipe, model: AppearanceModel, seed: int, *, device: str | None = None) -> Iterator[PairBatch]:
    """The recipe's pool of pairs, batch by batch."""
    # another seed than that of the order in which they are shown
    draw = _drawn(recipe, model, seed + 1, lambda _: 1.0, recipe.drawn, ALL, device)
    for number in range((recipe.pool or 0) // recipe.drawn):
        yield draw(number)


def pairs_at_hand(recipe: Recipe, pairs: PairBatch, seed: int, *, part: slice = ALL) -> Batches:
    """Pairs of every step out of those at hand, in an order of chance; see `augreg.training.pairs_from_memory`."""
    return pairs_from_memory(pairs, recipe.drawn, seed, part=part)


def shown(recipe: Recipe, batches: Batches, seed: int, *, part: slice = ALL, spacing: tuple[float, ...] | None = None) -> Batches:
    """The same pairs as the network sees them.

    Parameters
    ----------
    recipe : recipe with their poses, looks and mirrors
    batches : drawn or from memory, `recipe.drawn` pairs of every step or this process's part of them
    seed : seed of poses, looks and mirrors
    part : which of a step's pairs they are
    spacing : size of a voxel, mm, for poses; None is 1 mm
    """
    these: dict[str, Any] = {"seed": seed, "batch": recipe.drawn, "part": part}
    if any(recipe.jitter) or recipe.bend:
        degrees, shift = recipe.jitter
        poses: dict[str, Any] = {"rotation": degrees, "scale": _SIZES * bool(degrees), "shift": shift, "bend": recipe.bend}
        batches = jittered(batches, **poses, spacing=spacing, **these)
    batches = _in_contrasts(recipe, batches, these)
    if recipe.shade:
        batches = shaded(batches, gain=recipe.shade, **these)
    if recipe.gamma or recipe.noise:
        batches = seen_differently(batches, gamma=recipe.gamma, noise=recipe.noise, **these)
    if recipe.marks == "none" and any(word == "labels" for word, _ in objective_words(recipe.objective)):
        batches = one_structure(batches, **these)
    if recipe.symmetric:
        batches = in_both_directions(batches)
    if recipe.mirrored == "sideways":
        return _sideways_by_chance(batches, seed)
    return mirrored_by_chance(batches, seed) if recipe.mirrored == "all" else batches


def pairs_held_out(recipe: Recipe, model: AppearanceModel, seed: int, count: int) -> PairBatch:
    """Some `count` pairs that no training sees, of every turn alike, with shapes of full size."""
    batches = max(_LOOKS, len(recipe.turns))
    each = max(1, count // batches)
    drawn = _in_contrasts(recipe, _drawn(recipe, model, seed, lambda _: 1.0, each, ALL, None), {"seed": seed})
    if recipe.gamma or recipe.noise:
        drawn = seen_differently(drawn, gamma=recipe.gamma, noise=recipe.noise, seed=seed)
    return held_out(drawn, batches)


def _in_contrasts(recipe: Recipe, batches: Batches, these: Mapping[str, Any]) -> Batches:
    if recipe.contrasts == "none":
        return batches
    return contrast_mapped(batches, **these) if recipe.contrasts == "maps" else contrast_drawn(batches, **these)


def objective(
    recipe: Recipe,
    spacing: tuple[float, ...] | None = None,
    structures: tuple[int, ...] = (1,),
    model: AppearanceModel | None = None,
) -> Objective:
    """What is minimised, and what else has a weight.

    Parameters
    ----------
    recipe : recipe with its words and weights
    spacing : size of a voxel of the pairs, mm, for label maps
    structures : labels that are marked
    model : appearance model, for a prior that knows its shapes

    Raises
    ------
    ValueError : for marks without labels, and a prior without its model.
    """
    marked = recipe.marks != "none"
    if marked and "labels" not in dict(objective_words(recipe.objective)):
        raise ValueError(f"marks: expected labels in the objective, which they are held to, got {recipe.objective}")
    minimised = objective_of(recipe.objective, spacing, structures if marked else (1,))
    if recipe.likeness and recipe.objective == "truth":
        minimised = Alike(minimised, recipe.likeness)
    if recipe.bending:
        minimised = Bending(minimised, recipe.bending)
    if recipe.smoothness:
        minimised = Smooth(minimised, recipe.smoothness)
    minimised = held_to(recipe.prior, minimised, model)
    return Outlined(minimised, structures) if marked else minimised


def first_network(
    recipe: Recipe, ndim: int, seed: int, shape: tuple[int, ...] | None = None, structures: tuple[int, ...] = (1,)
) -> Network:
    """The network that training begins with.

    Parameters
    ----------
    recipe : recipe with its trunk and map
    ndim : D
    seed : seed of the first weights
    shape : shape of the pairs, where it is settled: a `UNet` then has strides that leave thin axes alone
    structures : labels that are marked, if any are

    Raises
    ------
    ValueError : for a shape that is thinner than the network's strides.
    """
    return network_as(
        recipe.map,
        recipe.architecture,
        recipe.scales,
        ndim,
        recipe.width,
        window=recipe.window,
        seed=seed,
        shape=shape,
        marks=0 if recipe.marks == "none" else len(structures),
        markers=2 if recipe.marks == "two" else 1,
        antisymmetric=recipe.antisymmetric,
        descriptor=recipe.descriptor,
        steered=recipe.steered,
    )


def learner_of(
    recipe: Recipe,
    network: Network,
    batches: Batches,
    spacing: tuple[float, ...],
    minimised: Objective,
    *,
    sees: Fields | None = None,
    seed: int = 0,
    part: slice = ALL,
    unseen: PairBatch | None = None,
) -> Learner:
    """Who learns: a network, and its critic where it has one.

    Parameters
    ----------
    recipe : recipe with the weight of the critic's verdict, which grows over half of the steps
    network : trained in place
    batches : pairs of a step
    spacing : size of a voxel of the pairs, mm
    minimised : see `objective`
    sees : what a critic sees, see `augreg.recipes.priors.fields_for_critic`
    seed : seed of the critic's first weights, and of patches
    part : which of a step's pairs these are
    unseen : pairs that are looked at, not learned from
    """
    known: dict[str, Any] = {"objective": minimised, "held_out": unseen, "centred": recipe.centred}
    known |= {"weight_decay": recipe.weight_decay, "clip": recipe.clip}
    if recipe.tile is not None:
        these: dict[str, Any] = {"seed": seed, "batch": recipe.drawn, "part": part, "doubled": recipe.symmetric}
        batches = patches(batches, recipe.tile, prepare=network.prepare, **these)
        known["prepared"] = True
    if sees is None:
        return FlowLearner(network, batches, spacing, **known)
    critic = seeded(seed, lambda: Critic(network.ndim, sees.channels(network.ndim)))
    weight = critic_weight(recipe.prior)
    return JudgedLearner(network, critic, batches, spacing, sees=sees, weight=weight, warm_up=recipe.steps // 2, **known)


def training_options(recipe: Recipe, machine: Machine, *, checkpoint_seconds: float = 120.0) -> TrainingOptions:
    """Steps and rates; where to compute and how often to keep a checkpoint is no part of a recipe."""
    names = ("steps", "learning_rate", "halvings", "warm_up", "weight_decay", "clip", "patience")
    known = {name: getattr(recipe, name) for name in names}
    return TrainingOptions(**known, checkpoint_seconds=checkpoint_seconds, machine=machine)


def _drawn(
    recipe: Recipe,
    model: AppearanceModel,
    seed: int,
    factor: Callable[[int], float],
    batch: int,
    part: slice,
    device: str | None,
) -> Batches:
    def generators(step: int) -> AppearancePairs:
        return turn_pairs(recipe, recipe.turns[step % len(recipe.turns)], model, factor(step))

    return pairs_from_generators(generators, batch, seed, part=part, device=device)


def _sideways_by_chance(batches: Batches, seed: int) -> Batches:
    """Left and right of a batch exchanged by chance: about which people are nearly symmetric."""

    def batch_of(step: int) -> PairBatch:
        batch = batches(step)
        # other coins than those of `mirrored_by_chance`: the weights that augreg ships were made with these
        return mirrored(batch, [0]) if np.random.default_rng([seed, step]).random() < 0.5 else batch

    return batch_of
