"""`augreg train`: a network that learns from pairs of a model, or from shards."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import augreg as ar
from augreg.cli.arguments import not_negative, positive, seed, share
from augreg.cli.options import Commands, command_of, json_option
from augreg.cli.output import report, say
from augreg.cli.progress import bar

if TYPE_CHECKING:
    # torch: loaded only where a command needs it
    from augreg import training
    from augreg.networks import Network
    from augreg.synthesis import PairBatch

# pairs that training looks at without learning from them
_HELD_OUT = 16
_WIDTH = 0.25


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "train",
        run,
        "train a FlowNet on pairs drawn from a model, or on shards",
        "augreg train model.npz -o run --steps 2000",
    )
    parser.add_argument("source", metavar="MODEL.npz|DIR", help="a model of `augreg sam fit`, or shards of `augreg synthesize`")
    parser.add_argument(
        "-o",
        "--output",
        metavar="RUN",
        required=True,
        help="folder of checkpoint and weights, of a run of its own",
    )
    parser.add_argument("--steps", type=positive(int), default=2000, metavar="N", help="of Adam (default 2000)")
    parser.add_argument("--batch", type=positive(int), default=8, metavar="B", help="pairs per step (default 8)")
    parser.add_argument("--architecture", choices=("FlowNetS", "FlowNetC"), help="of the network (default FlowNetS)")
    parser.add_argument("--width", type=positive(float), help="of the network (default 1/4)")
    parser.add_argument(
        "--window", type=positive(int), metavar="VOXELS", help="within which contrast is normalised first, odd (default none)"
    )
    parser.add_argument("--learning-rate", type=positive(float), default=1e-3, help="of Adam (default 1e-3)")
    parser.add_argument(
        "--curriculum", type=share, default=0.0, metavar="SHARE", help="of the steps, while displacements grow (default 0: none)"
    )
    weight = "weight of %s beside the end-point error (default %d)"
    unlike = "how unlike fixed and warped image are"
    parser.add_argument("--likeness", type=not_negative, default=6.0, metavar="W", help=weight % (unlike, 6))
    parser.add_argument(
        "--smoothness", type=not_negative, default=0.0, metavar="W", help=weight % ("the flow's mean squared gradient", 0)
    )
    parser.add_argument("--symmetric", action="store_true", help="half the batch is the other half with its images exchanged")
    parser.add_argument("--device", default="auto", metavar="D", help="cpu, cuda, or auto (default)")
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


def run(options: argparse.Namespace) -> None:
    """`augreg train`."""

    from augreg import training  # torch: only here

    machine = training.Machine(options.device, None, options.precision, compiled=options.compile)
    settings = training.TrainingOptions(steps=options.steps, learning_rate=options.learning_rate, machine=machine)
    # before the work
    known = training.run_settings(options.output) if options.resume else None
    with training.joined(options.device) as team:
        lesson = _lesson(options, team)
        network = _first_network(options, lesson.ndim, known or {})
        wanted = _run_settings(options, lesson, network)
        if known is None:
            training.claim(options.output, wanted, writes=team.rank == 0)
        else:
            training.check_same(options.output, known, wanted)
        states = training.train(
            network,
            lesson.batches,
            lesson.spacing,
            options.output,
            settings,
            objective=_objective(options),
            held_out=lesson.held_out,
            team=team,
            resume=options.resume,
        )
        state = None
        with training.tensorboard_log(Path(options.output) / "logs") as log, bar("train", options.steps) as update:
            for state in states:
                update(state.step, f"loss {state.loss:.3f}, EPE {state.epe:.2f} (without {state.epe_without:.2f})")
                if log is not None and team.rank == 0:
                    log(state)
    if team.rank > 0:
        return
    if log is None:
        say("augreg: no curves written: TensorBoard is not installed; pip install augreg[logs]")
    weights = Path(options.output) / training.WEIGHTS
    result: dict[str, Any] = {"weights": str(weights), "steps": options.steps}
    text = f"{weights}: {options.steps} steps"
    if state is not None:
        told = ("loss", "epe", "epe_without", "learning_rate", "seconds", "epe_held_out")
        result |= {name: getattr(state, name) for name in told}
        text += f", EPE {state.epe:.2f} voxels on the last pairs (without registration {state.epe_without:.2f})"
        if math.isfinite(state.epe_held_out):
            text += f", {state.epe_held_out:.2f} on pairs held out"
    report(result, text, as_json=options.json)


class _Lesson(NamedTuple):
    """What a network is to learn from."""

    batches: training.Batches
    held_out: PairBatch | None
    spacing: tuple[float, ...]
    ndim: int
    content: str


def _lesson(options: argparse.Namespace, team: training.Team) -> _Lesson:
    """Pairs drawn from a model, or those of a folder of shards but for the last ones."""
    from augreg import training

    if options.symmetric and options.batch % 2:
        raise ValueError(f"--symmetric: expected an even --batch, of pairs and the same pairs exchanged, got {options.batch}")
    batch = options.batch // 2 if options.symmetric else options.batch
    directions = training.in_both_directions if options.symmetric else (lambda batches: batches)
    part = team.part(batch)
    if Path(options.source).is_dir():
        if options.curriculum:
            raise ValueError(
                "--curriculum: expected a model to draw from, got a folder of pairs, whose size is settled; leave it out"
            )
        pairs = training.read_pairs(options.source)
        kept = len(pairs) - min(_HELD_OUT, len(pairs) // 10)
        if kept < options.batch:
            raise ValueError(
                f"{options.source}: expected at least a batch of {options.batch} pairs beside those held out, got {kept}; "
                "synthesize more, or lower --batch"
            )
        batches = training.pairs_from_memory(pairs[:kept], batch, options.seed, part=part)
        unseen = pairs[kept:] if kept < len(pairs) else None
        content = training.pairs_hash(pairs)
        return _Lesson(directions(batches), unseen, training.shard_spacing(options.source), pairs.flow.shape[1], content)
    model = ar.read_model(options.source)
    amplitude = training.growing(options.steps, share=options.curriculum)
    batches = training.pairs_from_model(model, batch, options.seed, amplitude=amplitude, part=part)
    unseen = training.held_out(training.pairs_from_model(model, _HELD_OUT // 2, options.seed)) if team.rank == 0 else None
    return _Lesson(directions(batches), unseen, model.template.spacing, model.template.ndim, training.model_hash(model))


def _objective(options: argparse.Namespace) -> training.Objective:
    """What is minimised: the end-point error, and what else has a weight."""
    from augreg import training

    objective: training.Objective = training.supervised
    if options.likeness:
        objective = training.Alike(objective, options.likeness)
    return training.Smooth(objective, options.smoothness) if options.smoothness else objective


def _run_settings(options: argparse.Namespace, lesson: _Lesson, network: Network) -> dict[str, Any]:
    """What the weights of a run depend on; where it computes changes their last digits alone, more steps are allowed."""
    names = ("batch", "seed", "learning_rate", "curriculum", "likeness", "smoothness", "symmetric", "precision")
    return {"data": lesson.content, **network.description, **{name: getattr(options, name) for name in names}}


def _first_network(options: argparse.Namespace, ndim: int, known: Mapping[str, Any]) -> Network:
    """The network that training begins with; what is not asked for is that of a run that is known."""
    from augreg import training
    from augreg.networks import ARCHITECTURES, read_network

    if options.init is None:
        architecture = ARCHITECTURES[options.architecture or known.get("architecture", "FlowNetS")]
        width = options.width or known.get("width", _WIDTH)
        window = known.get("window") if options.window is None else options.window
        return training.seeded_network(options.seed, ndim, width, architecture=architecture, window=window)
    network = read_network(options.init).network
    found = {"ndim": network.ndim, "channels": network.channels, **network.description}
    wanted = {name: getattr(options, name) for name in ("architecture", "width", "window")} | {"ndim": ndim, "channels": 1}
    for name, value in wanted.items():
        if value is not None and found.get(name) != value:
            raise ValueError(
                f"{options.init}: expected a network with {name} {value}, got {found.get(name)}; start without --init"
            )
    return network
