"""Registrations as the options of `augreg register` ask for them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import augreg as ar

if TYPE_CHECKING:
    from augreg.registration import Method


def program_of(options: argparse.Namespace) -> ar.LPRegistration:
    """Registration by linear programs as asked for."""
    return ar.LPRegistration(
        transform=options.transform or ("affine" if options.dense else "bspline"),
        criterion=options.criterion or "ncc",
        grid_spacing=options.grid_spacing,
        tolerance=options.tolerance or 0.0,
        budget=options.budget,
        **({} if options.rotation is None else {"rotation": options.rotation}),
    )


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
