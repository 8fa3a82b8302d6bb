"""Files of agents: `.safetensors`, weights with a JSON description in the metadata, of a kind of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from augreg.agents.network import QNet
from augreg.agents.view import View
from augreg.networks import Committee, Marker
from augreg.networks.catalogue import part_of
from augreg.networks.files import kind_of, read_tensors, same_looks, write_tensors

_KIND = "augreg agent"


@dataclass(frozen=True, eq=False)
class AgentFile:
    """An agent and how it is used.

    Parameters
    ----------
    network : what moves are worth
    steps : sizes of steps that it has learned, mm, from large to small
    centred : whether the centres of the grids are put on each other first
    """

    network: QNet
    steps: tuple[float, ...]
    centred: bool = False


def write_agent(network: QNet, steps: Sequence[float], path: str | os.PathLike[str], *, centred: bool = False) -> None:
    """Write weights and description, atomically."""
    about = {**network.description, "steps": list(steps), "centred": centred}
    write_tensors(network.state_dict(), about, path, _KIND)


def is_agent(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it holds an agent."""
    return Path(path).is_file() and kind_of(path) == _KIND


def read_agent(path: str | os.PathLike[str]) -> AgentFile:
    """Read what `write_agent` wrote.

    Raises
    ------
    FileNotFoundError : if there is no file. ValueError : if it is truncated, foreign, or does not fit its description.
    """
    tensors, about = read_tensors(path, _KIND)
    try:
        # nothing is allocated before the file is known to hold what it describes
        with torch.device("meta"):
            skeleton = agent_of(about)
        if not same_looks(skeleton.state_dict(), tensors):
            raise KeyError("tensors")
        network = agent_of(about)
        network.load_state_dict(tensors)
        steps, centred = tuple(float(step) for step in about["steps"]), about["centred"]
        if not steps or not isinstance(centred, bool):
            raise KeyError("steps, centred")
    except (KeyError, TypeError, RuntimeError, OverflowError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: expected an agent that fits its description, got another; train it again") from error
    return AgentFile(network.eval(), steps, centred)


def agent_of(about: dict[str, Any]) -> QNet:
    """A network with random weights as described.

    Raises
    ------
    KeyError, TypeError, ValueError : for a description of something else.
    """
    view = about["view"]
    known = View(tuple(view["shape"]), tuple(float(s) for s in view["spacing"]), float(view["radius"]), view["kind"])
    markers = [part_of(part) for part in about["markers"]]
    if not all(isinstance(marker, Marker | Committee) for marker in markers):
        raise ValueError("markers: expected networks that mark structures, got others")
    return QNet(known, about["channels"], about["width"], markers, about["images"])  # type: ignore[arg-type]  # looked at above
