"""`augreg synthesize`: pairs of a model written as shards."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import augreg as ar
from augreg.cli.arguments import SHAPES, appearance, field, not_negative, positive, seed
from augreg.cli.options import Commands, command_of, json_option, work_options
from augreg.cli.output import report, say
from augreg.progress import bar


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "synthesize",
        run,
        "write training pairs with exact displacements as WebDataset shards; running it again resumes",
        "augreg synthesize model.npz -n 1000 -o pairs --seed 1",
    )
    parser.add_argument("model", metavar="MODEL.npz", help="of `augreg sam fit`")
    parser.add_argument("-n", "--count", type=positive(int), required=True, metavar="COUNT", help="pairs in all")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="folder of the shards")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="same seed, same result (default 0)")
    parser.add_argument("--shard-size", type=positive(int), default=256, metavar="K", help="pairs per shard (default 256)")
    parser.add_argument(
        "--appearance",
        type=appearance,
        default="shared",
        metavar="A",
        help="of both images of a pair: shared (default), independent, or their correlation from 0 to 1",
    )
    factor = "factor on the training images' %s (default 1)"
    parser.add_argument(
        "--shapes",
        choices=SHAPES,
        default="gaussian",
        help="density of the shapes: gaussian (default), kernel, mixture, or best, which expects unseen shapes most",
    )
    parser.add_argument("--amplitude", type=not_negative, default=1.0, metavar="F", help=factor % "spread of shapes")
    parser.add_argument("--pose", type=not_negative, default=1.0, metavar="F", help=factor % "spread of poses")
    parser.add_argument(
        "--intensity", type=not_negative, default=0.0, metavar="SD", help="of the logarithm of smooth gains (default 0)"
    )
    parser.add_argument(
        "--rest",
        type=field,
        nargs="+",
        default=[],
        metavar="SPACING:RMS",
        help="random fields, mm, of which one is added to each shape: what the model knows nothing of",
    )
    parser.add_argument(
        "--without",
        nargs="+",
        choices=("reverse", "labels"),
        default=[],
        help="leave out the way back (reverse), label maps (labels), or both: pairs are made faster, shards are smaller",
    )
    work_options(parser)
    json_option(parser)


def run(options: argparse.Namespace) -> None:
    """`augreg synthesize`."""
    model = ar.read_model(options.model)
    from augreg.synthesis import AppearancePairs, SmoothField, write_shards

    how = {name: getattr(options, name) for name in ("appearance", "amplitude", "pose", "intensity", "shapes")}
    rest = tuple(SmoothField(spacing, (size,)) for spacing, size in options.rest)
    generator = AppearancePairs(model, **how, rest=rest)
    begin, state = time.perf_counter(), None
    settings = {name: getattr(options, name) for name in ("seed", "shard_size", "workers", "scheduler", "without")}
    with bar("synthesize", options.count) as update:
        for state in write_shards(generator, options.output, options.count, **settings):
            update(state.written, f"shard {state.shard}")
    assert state is not None  # there is at least one shard
    for warning in state.warnings:
        say(f"augreg: warning: {warning}")
    result = {
        "pairs": state.written,
        "shards": -(-options.count // options.shard_size),
        "seed": options.seed,
        "kept": state.kept,
        "repaired": state.repaired,
        "shrunk": state.shrunk,
        "rejected": state.rejected,
        "bytes": sum(path.stat().st_size for path in Path(options.output).glob("pairs-*.tar")),
        "seconds": time.perf_counter() - begin,
        "warnings": list(state.warnings),
    }
    text = "{pairs} pairs ({kept} were there) in {shards} shards, {rejected} draws replaced, {seconds:.1f} s"
    report(result, f"{options.output}: " + text.format(**result), as_json=options.json)
