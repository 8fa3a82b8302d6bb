"""Registrations as the options of `augreg register` ask for them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import augreg as ar

if TYPE_CHECKING:
    from augreg.registration import Method

# options that are fields of `LPRegistration`
_OF_PROGRAMS = ("transform", "criterion", "grid_spacing", "tolerance", "budget", "rotation", "mirror")


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


def network_of(options: argparse.Namespace) -> Method:
    """Registration by a network: so many passes, the last one refined."""
    from augreg.networks import RefinedFlow, SymmetricFlow, read_network  # torch: only where a network is asked for
    from augreg.networks.predictor import Predictor
    from augreg.training import FlowRegistration

    file = read_network(options.model)
    predictor: Predictor = SymmetricFlow(file.network) if options.symmetric else file.network
    once = FlowRegistration(predictor, file.spacing)
    method: Method = once
    if options.refine:
        method = FlowRegistration(RefinedFlow(predictor, options.refine), file.spacing)
    for _ in range((options.passes or 1) - 1):
        method = ar.Chained(once, method)
    return method
