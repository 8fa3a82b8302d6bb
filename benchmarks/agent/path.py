"""A picture of the way of an agent: where the frame of the fixed image lies after every move, and how far points are off."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from augreg.agents import AgentRegistration
from augreg.training import WEIGHTS
from benchmarks.agent import brains

_SHOWN = 4
# the moves of one size, from large to small
_COLOURS = ("#3b528b", "#21918c", "#5ec962", "#e0b000")


def write_path(picture: Path, folder: Path, *, choosing: bool) -> None:
    """The agent of brains on some cases.

    Parameters
    ----------
    picture : file that is written
    folder : of networks
    choosing : whether training people are shown
    """
    agent = AgentRegistration.from_file(folder / "brain-agent" / WEIGHTS)
    _, test = brains.people(choosing)
    figure, axes = plt.subplots(2, _SHOWN, figsize=(3 * _SHOWN, 5.2), height_ratios=(3, 2), layout="constrained")
    for number in range(_SHOWN):
        pair = brains.case(test[number], number)
        states = list(agent.steps(pair.fixed, pair.moving))
        frame, error = axes[0, number], axes[1, number]
        corners = pair.fixed.grid.points_at(np.array([(0, 0), (0, 1), (1, 1), (1, 0), (0, 0)]) * pair.fixed.grid.last)
        frame.plot(*pair.truth(corners).T, color="black", linewidth=2.5, label="true")
        for state in states:
            frame.plot(*state.transform(corners).T, color=_COLOURS[state.level], linewidth=0.9)
        trail = np.stack([state.transform(pair.fixed.grid.center) for state in states])
        frame.plot(*trail.T, color="black", marker=".", markersize=3, linewidth=0.8)
        frame.set(aspect="equal", xticks=[], yticks=[])
        off = [np.linalg.norm(state.transform(pair.points) - pair.truth(pair.points), axis=1).mean() for state in states]
        for level, colour in enumerate(_COLOURS[: len(agent.sizes)]):
            mine = [(k, value) for k, (state, value) in enumerate(zip(states, off, strict=True)) if state.level == level]
            if mine:
                error.semilogy(*zip(*mine, strict=True), ".", color=colour, label=f"{agent.sizes[level]:g} mm")
        error.set(xlabel="move", ylabel="points off, mm" if number == 0 else "")
    axes[1, 0].legend(fontsize="small")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=72)
    plt.close(figure)
