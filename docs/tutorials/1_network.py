"""
A network from twenty labelled slices
=====================================

Ten patients, each at end-diastole and end-systole: twenty slices of hearts with the left ventricle outlined. Too few for a
network, but enough for an appearance model, and that draws as many pairs as a network wants, with exact truth.

The hearts come with augreg; your own images are read by :func:`augreg.read_image` and :func:`augreg.read_labels`.
"""

# %%
# Images and a model
# ------------------
# Slices are cut to 128 x 128 pixels around the ventricle. Nothing of the last patients is shown to model or network.

import tempfile

import matplotlib.pyplot as plt
import numpy as np

import augreg as ar
from augreg.report.figures import overlay, picture
from augreg.synthesis import AppearancePairs, make_pairs, training_pairs
from augreg.training import (
    FlowRegistration,
    Machine,
    TrainingOptions,
    mirrored_by_chance,
    pairs_error,
    pairs_from_memory,
    seeded_network,
    train,
)

hearts = ar.datasets.hearts(side=128)
known, unseen = slice(0, 20), slice(48, 60)
model = ar.fit_appearance_model(hearts.images[known], labels=hearts.labels[known])
print(f"{model.shape.rank} modes of shape and {model.appearance.rank} of appearance, from {len(hearts.images[known])} slices")

# %%
# Pairs
# -----
# Two images of a pair differ in shape and share their appearance. `pose` says how much the whole body moves between them:
# between two phases of one patient hardly at all. `y + u(y)` is where the point y of the first image lies in the second,
# known exactly.

generator = AppearancePairs(model, pose=0.05)
pairs = make_pairs(generator, seed=0, indices=range(192))
first = next(training_pairs(pairs, model.template))

_, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for ax, (title, draw) in zip(
    axes,
    {
        "fixed": picture(first.fixed),
        "moving": picture(first.moving),
        "both: red and cyan where they differ": overlay(first.fixed, first.moving),
    }.items(),
    strict=True,
):
    draw(ax)
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()

# %%
# Training
# --------
# A FlowNetS of an eighth of its width, 250 steps of eight pairs, mirrored by chance. In earnest take a quarter of the width
# and 2000 steps (three CPU minutes), or `augreg train` in the shell, which can be resumed. :mod:`augreg.progress` tells how far
# a loop is: a bar in a terminal, a line every ten seconds in a notebook or a log.

unknown = make_pairs(generator, seed=1, indices=range(16))
network = seeded_network(0, ndim=2, width=0.125)
options = TrainingOptions(steps=250, learning_rate=2e-3, machine=Machine("cpu", threads=1))
batches = mirrored_by_chance(pairs_from_memory(pairs, batch=8))
with tempfile.TemporaryDirectory() as run:
    states = train(network, batches, model.template.spacing, run, options)
    for state in ar.progress.over(states, "train", options.steps, note=lambda state: f"loss {state.loss:.3f}"):
        if state.step % 50 == 0:
            print(f"step {state.step}: error {pairs_error(network, unknown):.2f} pixels, of {pairs_error(None, unknown):.2f}")

# %%
# Real patients
# -------------
# From end-diastole to end-systole of the last six patients. The network has seen nothing but drawn pairs. A linear program
# needs no training at all; both are callables with one call, so they are compared in a loop.

methods = {
    "nothing": lambda *_: ar.Affine.identity(2),
    "network": FlowRegistration(network, model.template.spacing),
    "network, used twice": ar.Chained(*[FlowRegistration(network, model.template.spacing)] * 2),
    "linear program, then dense steps": ar.LPRegistration(),
}
images, labels = hearts.images[unseen], hearts.labels[unseen]
results = {}
for name, method in methods.items():
    maps = [method(fixed, moving) for fixed, moving in zip(images[::2], images[1::2], strict=True)]
    moved = [ar.warp(moving, phi, moving.grid) for moving, phi in zip(labels[1::2], maps, strict=True)]
    results[name] = maps
    overlaps = [ar.dice(fixed, after)[1] for fixed, after in zip(labels[::2], moved, strict=True)]
    print(f"{name:34} Dice of the ventricle {np.mean(overlaps):.2f}, least {min(overlaps):.2f}")

# %%
# One of them, seen: the fixed image in red, the moved one in cyan.

_, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for ax, name in zip(axes, ("nothing", "network, used twice", "linear program, then dense steps"), strict=True):
    overlay(images[0], ar.warp(images[1], results[name][0], images[0].grid))(ax)
    ax.set_title(name, fontsize=9)
    ax.set_axis_off()

# %%
# Where to go from here: `augreg sam fit`, `augreg synthesize` and `augreg train` do the same in the shell, on all cores, and
# on a graphics card where there is one. Real pairs serve as well, with or without labels: see :doc:`../how-to/train`.
