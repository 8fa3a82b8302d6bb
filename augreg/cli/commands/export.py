"""`augreg export`: a network as a file for programs without augreg."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from augreg.cli.arguments import positive
from augreg.cli.methods import weights_of
from augreg.cli.options import Commands, command_of, json_option
from augreg.cli.output import check_distinct, check_output, report


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "export",
        run,
        "write a network as ONNX or TorchScript, for programs without augreg",
        "augreg export run -o net.onnx --shape 160 192",
    )
    parser.add_argument("network", metavar="RUN|WEIGHTS", help="folder of a run, its weights, or sunnybrook-sax")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help=".onnx or .pt (TorchScript): from fixed and moving (1, 1, *shape), x first, to the flow (1, D, *shape) in voxels",
    )
    parser.add_argument(
        "--shape",
        type=positive(int),
        nargs="+",
        metavar="N",
        help="voxels of the images along each axis, which the file settles (default those of the run's pairs)",
    )
    json_option(parser)


def run(options: argparse.Namespace) -> None:
    """`augreg export`."""
    from augreg.networks import read_network
    from augreg.networks.export import SUFFIXES, check_export, export_network

    check_output(options.output, SUFFIXES)
    check_export(options.output)
    weights = weights_of(options.network)
    check_distinct({"-o": options.output}, {"RUN": weights})
    shape = tuple(options.shape) if options.shape else _shape_of(options.network)
    file = read_network(weights)
    miss = export_network(file.network, shape, options.output)
    result = {"file": options.output, "shape": list(shape), "spacing": list(file.spacing), "miss": miss}
    sides, spacing = (" x ".join(f"{n:g}" for n in numbers) for numbers in (shape, file.spacing))
    text = f"{options.output}: images of {sides} voxels of {spacing} mm; differs from the network by {miss:.1g} voxels"
    report(result, text, as_json=options.json)


def _shape_of(network: str) -> tuple[int, ...]:
    """The shape of the pairs that a run was trained on."""
    from augreg.training import SETTINGS

    path = Path(network) / SETTINGS
    try:
        shape = json.loads(path.read_text(encoding="utf-8"))["settings"]["shape"]
        return tuple(int(n) for n in shape)
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            "--shape: expected the voxels of the images along each axis, which the run does not say; give it"
        ) from None
