"""Registrations as the options of `augreg register` ask for them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import augreg as ar

if TYPE_CHECKING:
    from augreg.networks import FlowRegistration
    from augreg.registration import Method

# options that are fields of `LPRegistration`
_OF_PROGRAMS = ("transform", "criterion", "grid_spacing", "tolerance", "budget", "rotation", "mirror", "contrast")


# registrations by what they are for
PRESETS: dict[str, Callable[[], ar.LPRegistration]] = {
    "default": ar.LPRegistration,
    "people": ar.LPRegistration.for_people,
    "quick": ar.LPRegistration.quick,
}


def program_of(options: argparse.Namespace) -> ar.LPRegistration:
    """Registration by linear programs as asked for."""
    asked = {name: value for name in _OF_PROGRAMS if (value := getattr(options, name)) is not None}
    if options.dense is not None:
        asked["dense"] = ar.DenseRegistration() if options.dense else None
    return replace(PRESETS[options.preset or "default"](), **asked)


def registration_of(preset: str | None, model: str | None, default: str) -> Method:
    """A preset, or the network of a file."""
    if model is not None:
        return method_of_file(model, "cpu", None)
    return PRESETS[preset or default]()


def kind_or_preset(options: argparse.Namespace, default: str) -> Method:
    """`--transform`, or else `--preset` or `--model`."""
    if options.transform is None:
        return registration_of(options.preset, options.model, default)
    other = "--preset" if options.preset else "--model" if options.model else None
    if other is not None:
        raise ValueError(f"--transform: expected no {other}, which says itself how images are aligned; leave one of them out")
    return ar.LPRegistration(transform=options.transform)


def network_of(options: argparse.Namespace) -> Method:
    """Registration by a network: so many passes, the last one refined; or by an agent."""
    if options.model is not None and holds_agent(options.model):
        for name in ("passes", "symmetric", "refine", "tile"):
            if getattr(options, name):
                raise ValueError(f"--{name}: expected a network of maps, got an agent, {options.model}; leave it out")
        return method_of_file(options.model, options.device or "cpu", None)
    from augreg.networks import RefinedFlow, SymmetricFlow  # torch: only where a network is asked for
    from augreg.networks.predictor import Predictor
    from augreg.training import FlowRegistration

    seen = network_file(options.model, options.device or "cpu", options.tile)
    predictor: Predictor = SymmetricFlow(seen.network) if options.symmetric else seen.network
    once = FlowRegistration(predictor, seen.spacing, seen.centred)
    method: Method = once
    if options.refine:
        method = FlowRegistration(RefinedFlow(predictor, options.refine), seen.spacing, seen.centred)
    for _ in range((options.passes or 1) - 1):
        method = ar.Chained(once, method)
    return method


def holds_agent(path: str) -> bool:
    """Whether a file, or the folder of a run, holds an agent."""
    from augreg.agents import is_agent

    return is_agent(weights_of(path))


def method_of_file(path: str, device: str, tile: tuple[int, int | None] | None) -> Method:
    """Registration by the agent or the network of a file; parameters and errors as of `network_file`."""
    if not holds_agent(path):
        return network_file(path, device, tile)
    from augreg.agents import AgentRegistration, read_agent
    from augreg.training import checked_device

    if tile is not None:
        raise ValueError(f"--tile: expected a network of maps, got an agent, {path}, which sees all at once; leave it out")
    where, file = checked_device(device), read_agent(weights_of(path))
    return AgentRegistration(file.network.to(where), file.steps, centred=file.centred)


def network_file(path: str, device: str, tile: tuple[int, int | None] | None) -> FlowRegistration:
    """Registration by the network of a file, of a run's folder, or that comes with augreg.

    Parameters
    ----------
    path : file, folder or name
    device : where the network computes
    tile : side and margin of the tiles that it sees, voxels; without a margin it is the coarsest cells'

    Raises
    ------
    ValueError, FileNotFoundError : for a device that is not here, a run without weights, or a tile that does not fit.
    """
    from augreg.networks import Tiled, coarsest_cells, read_network
    from augreg.training import FlowRegistration, checked_device

    where = checked_device(device)
    file = read_network(weights_of(path))
    file.network.to(where)
    if tile is None:
        return FlowRegistration(file.network, file.spacing, file.centred)
    cell = coarsest_cells(file.network.description)
    return FlowRegistration(Tiled(file.network, tile[0], cell if tile[1] is None else tile[1], cell), file.spacing, file.centred)


def weights_of(path: str) -> str:
    """The weights in a run's folder, or what is no folder as it is.

    Raises
    ------
    FileNotFoundError : for a folder without weights.
    """
    from augreg.training import WEIGHTS

    if not Path(path).is_dir():
        return path
    if not (Path(path) / WEIGHTS).is_file():
        raise FileNotFoundError(f"{path}: expected the folder of a run that has ended, got one without {WEIGHTS}; let it end")
    return str(Path(path) / WEIGHTS)
