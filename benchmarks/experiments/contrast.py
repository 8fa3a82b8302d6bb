"""Brains in any contrast, every person through a random map of intensities (`contrasts`): what a network learns to register by.

    likeness, squares, mind, information    real pairs, no truth: how alike the warped image is, and a smooth flow
    labels, likeness + labels               real pairs: overlap of one structure per pair and step
    adversarial                             pairs of two people of the appearance model, a critic and a smooth flow; real to the
                                            critic are other such pairs with their true maps, the network is not told any
    model                                   pairs of the appearance model, the truth and how alike images are
    maps                                    the same pairs, each image through a random map of intensities
    drawn                                   the same pairs, every label of an image with a mean and a noise of its own
    edges maps, similarities maps           as maps; the network sees descriptors (`Described`): directions of edges, or MIND
    edges maps longer                       in four times the steps
    matched maps, matched maps longer       the same networks after matching of edges (`Steered`)
    matched maps program                    the longer one, then the linear program by mutual information
    edges likeness                          as likeness, seen by directions of edges

Each is trained on training people as they are ("same") or through their maps ("any"), and registers test people both ways.
Networks are FlowNetS at a quarter of its width and see heads at half of the resolution, 80 x 96 at 2 mm. A critic is judged by
its verdicts on exact pairs whose map was moved by 0 to 8 pixels.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from augreg.geometry.grid import Grid
from augreg.lp import LPRegistration
from augreg.networks import (
    Critic,
    Described,
    Displacement,
    FlowNetS,
    FlowRegistration,
    Map,
    Network,
    Steered,
    described_channels,
    local_correlation,
    mean_squared_difference,
    mutual_information_loss,
    self_similarity_difference,
)
from augreg.recipes import BRAIN, objective, shown, turn_pairs
from augreg.registration import Chained
from augreg.sam import AppearanceModel, Locality, fit_appearance_model, read_model, write_model
from augreg.synthesis import AppearancePairs, PairBatch, SmoothField, draw_flows, pair_rngs
from augreg.threads import set_threads
from augreg.training import (
    CHECKPOINT,
    WEIGHTS,
    Alignment,
    Batches,
    JudgedLearner,
    LabelOverlap,
    Learner,
    Likeness,
    Objective,
    Smooth,
    Total,
    contrast_drawn,
    contrast_mapped,
    one_structure,
    pairs_from_generators,
    pairs_from_images,
)
from augreg.training.checkpoints import load
from benchmarks.experiments import trials
from benchmarks.experiments.contrasts import own_contrasts
from benchmarks.experiments.people import Study, read_study
from benchmarks.experiments.settings import SETTINGS
from benchmarks.experiments.software import nothing
from benchmarks.experiments.statistics import compared
from benchmarks.experiments.trials import HALF, Lesson, Registration, at_half, on_people, spread, taught
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row

__all__ = ["options", "rendered", "run"]

WIDTH, STEPS, RATE = 0.25, 600, 2e-3
# similarities, and the weight of the flow's roughness beside each
LIKENESSES = {
    "likeness": (local_correlation, 0.5),
    "squares": (mean_squared_difference, 0.5),
    "mind": (self_similarity_difference, 0.2),
    "information": (mutual_information_loss, 0.1),
}
# of the critic's verdict beside a roughness of weight `SMOOTH`, and steps over which it grows
VERDICT, WARM_UP, SMOOTH = 0.2, 300, 0.5
# weight of labels beside likeness, and of the roughness beside labels alone
LABELS, LABELS_SMOOTH = 1.0, 0.5
ERRORS = (0.0, 1.0, 2.0, 4.0, 8.0)
# in the order of the tables
METHODS = {
    "none": "no registration",
    "people": "linear program, for people",
    "information program": "linear program by mutual information",
    "likeness": "local correlation",
    "squares": "squares",
    "mind": "MIND",
    "information": "mutual information",
    "labels": "labels",
    "likeness+labels": "local correlation and labels",
    "adversarial": "adversarial similarity",
    "model": "appearance model",
    "maps": "appearance model, maps of intensities",
    "drawn": "appearance model, random contrasts",
    "similarities maps": "appearance model, maps of intensities, MIND seen",
    "edges maps": "appearance model, maps of intensities, edges seen",
    "edges maps longer": "the same in four times the steps",
    "matched maps": "appearance model, maps of intensities, edges seen after matching",
    "matched maps longer": "the same after matching in four times the steps",
    "matched maps program": "that, then linear program by mutual information",
    "edges likeness": "local correlation, edges seen",
}
# descriptors that a network sees, and what it learns from otherwise
SEEN = {
    "edges maps": ("edges", "maps"),
    "edges maps longer": ("edges", "maps"),
    "matched maps": ("edges", "maps"),
    "matched maps longer": ("edges", "maps"),
    "similarities maps": ("mind", "maps"),
    "edges likeness": ("edges", "likeness"),
}
LONGER = 4
# with the contrast that is learned from
LEARNED = (
    ("likeness", "same"),
    ("likeness", "any"),
    ("model", "same"),
    ("maps", "any"),
    ("drawn", "any"),
    ("mind", "any"),
    ("information", "any"),
    ("squares", "any"),
    ("adversarial", "any"),
    ("adversarial", "same"),
    ("likeness+labels", "same"),
    ("labels", "same"),
    ("likeness+labels", "any"),
    ("edges maps", "any"),
    ("edges maps longer", "any"),
    ("similarities maps", "any"),
    ("edges likeness", "same"),
    ("matched maps", "any"),
    ("matched maps longer", "any"),
    ("matched maps program", "any"),
)
# numbers of seeds, where there is more than one
SEEDS = {"matched maps": 3}
# factors on the weight of the roughness, and steps, when settings are chosen
FACTORS, CHOOSING_STEPS = (
    {"likeness": (1.0,), "mind": (1.0, 4.0), "information": (1.0, 4.0), "squares": (1.0,), "adversarial": (1.0, 4.0)},
    500,
)


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    trials.options(parser)


def run(options: argparse.Namespace) -> None:
    """Train, and measure."""
    set_threads(1)
    torch.set_num_threads(1)
    study = read_study("brain")
    study = study.choosing() if options.choosing else study
    kept = options.out / f"contrast-kept-{len(study.people)}"
    trials.gathered("contrast", choosing(study, kept) if options.choosing else listed(study, kept), options)


def listed(study: Study, kept: Path) -> Iterator[tuple[str, Callable[[Path], list[Row]]]]:
    """The trials."""
    people = {"same": study, "any": own_contrasts(study)}
    softwares: dict[str, Registration] = {
        "none": nothing,
        "people": LPRegistration.for_people(),
        "information program": LPRegistration(criterion="mi"),
    }
    for name, method in softwares.items():
        yield name.replace(" ", "-"), functools.partial(_rows, name, "", method, people, {})
    for name, contrast in LEARNED:
        for seed in range(SEEDS.get(name, 1)):
            make = _then_program if name.endswith("program") else functools.partial(_learned, kept=kept)
            yield f"{name.replace(' ', '-')}-{contrast}-s{seed}", functools.partial(make, name, contrast, seed, people)


def choosing(study: Study, kept: Path) -> Iterator[tuple[str, Callable[[Path], list[Row]]]]:
    """Shorter trials with several weights of the roughness."""
    people = {"any": own_contrasts(study), "same": study}
    for name, factors in FACTORS.items():
        for factor in factors:
            key = f"{name}-any-x{factor:g}"
            yield key, functools.partial(_learned, name, "any", 0, people, kept=kept, factor=factor, steps=CHOOSING_STEPS)


def _learned(
    name: str,
    contrast: str,
    seed: int,
    people: dict[str, Study],
    folder: Path,
    *,
    kept: Path,
    factor: float = 1.0,
    steps: int | None = None,
) -> list[Row]:
    study = at_half(people[contrast])
    lesson = lesson_of(name, contrast, seed, study, lambda: fitted(at_half(people["same"]), kept), factor)
    lesson = replace(lesson, steps=steps or STEPS * (LONGER if name.endswith("longer") else 1))
    flow, said = taught(lesson, seed, folder, HALF)
    about = {"seed": seed, **said}
    if name == "adversarial":
        unseen = exact(fitted(at_half(people["same"]), kept), contrast, 77)
        about["verdicts"] = verdicts(lesson, folder / CHECKPOINT, unseen, study.training[0].image.grid)
    return _rows(name, contrast, flow, people, about)


def _then_program(name: str, contrast: str, seed: int, people: dict[str, Study], folder: Path) -> list[Row]:
    """A network that was taught before, and a program that goes on from its map."""
    flow = FlowRegistration.from_file(folder.parent / f"matched-maps-longer-{contrast}-s{seed}" / WEIGHTS)
    return _rows(name, contrast, Chained(flow, LPRegistration(criterion="mi")), people, {"seed": seed})


def _rows(name: str, trained: str, method: Registration, people: dict[str, Study], said: Row, _: Path | None = None) -> list[Row]:
    return [
        {"method": name, "trained": trained, "tested": contrast, **on_people(method, study), **said}
        for contrast, study in people.items()
    ]


def lesson_of(name: str, contrast: str, seed: int, study: Study, model: Callable[[], AppearanceModel], factor: float) -> Lesson:
    """What a network learns from; `factor` multiplies the weight of the roughness."""
    matched = name.startswith("matched")
    described, name = SEEN.get(name, (None, name))
    lesson = functools.partial(Lesson, functools.partial(_network, described, matched=matched), steps=STEPS, rate=RATE)
    if name in ("model", "maps", "drawn"):
        generator = turn_pairs(BRAIN, BRAIN.turns[0], model())
        pairs = pairs_from_generators(lambda _: generator, BRAIN.drawn, seed)
        if name == "maps":
            pairs = contrast_mapped(pairs, seed=seed)
        if name == "drawn":
            pairs = contrast_drawn(pairs, seed=seed)
        return lesson(shown(BRAIN, pairs, seed), objective(BRAIN))
    if name == "adversarial":
        known = model()
        judged = functools.partial(_judged, exact(known, contrast, seed + 500), factor)
        return lesson(exact(known, contrast, seed), teach=judged)
    images, labels = [one.image for one in study.training], [one.labels for one in study.training]
    pairs = pairs_from_images(images, BRAIN.drawn, seed, labels=labels)
    if "labels" in name:
        pairs = one_structure(pairs, seed)
    batches = shown(replace(BRAIN, objective="likeness"), pairs, seed)
    similarity, weight = LIKENESSES.get(name, (local_correlation, SMOOTH))
    found: Objective = Likeness(similarity)
    if name == "labels":
        found, weight = LabelOverlap(spacing=HALF), LABELS_SMOOTH
    elif name == "likeness+labels":
        found = Total(((found, 1.0), (LabelOverlap(spacing=HALF), LABELS)))
    return lesson(batches, Smooth(found, factor * weight))


def _network(described: str | None, *, matched: bool) -> Network:
    if described is None:
        return FlowNetS(2, 1, WIDTH)
    network = FlowNetS(2, described_channels(described, 2), WIDTH)
    return Described(Steered(network) if matched else network, described)


def fitted(study: Study, kept: Path) -> AppearanceModel:
    """The appearance model of the training people, with their labels, fitted once."""
    path = kept / "model.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        images, labels = [one.image for one in study.training], [one.labels for one in study.training]
        program = SETTINGS["brain"].program
        write_model(fit_appearance_model(images, labels=labels, registration=program, locality=Locality(levels=5)), path)
    return read_model(path)


def exact(model: AppearanceModel, contrast: str, seed: int) -> Batches:
    """Exact pairs of two people, as a network and as a critic see them: what is real and what is made differ by the map alone."""
    generator = AppearancePairs(model, appearance="independent", intensity=BRAIN.intensity, rest=BRAIN.turns[0].rest)
    pairs = pairs_from_generators(lambda _: generator, BRAIN.drawn, seed)
    return shown(BRAIN, pairs if contrast == "same" else contrast_mapped(pairs, seed=seed), seed)


def _none(_: Sequence[Map], batch: PairBatch) -> torch.Tensor:
    """Nothing but the critic says whether images are alike."""
    return batch.fixed.new_zeros(())


def _judged(real: Batches, factor: float, network: Network, batches: Batches, spacing: tuple[float, ...]) -> Learner:
    critic = Critic(2, 2)
    about = {"weight": VERDICT, "warm_up": WARM_UP}
    return JudgedLearner(
        network, critic, batches, spacing, sees=Alignment(real), objective=Smooth(_none, factor * SMOOTH), **about
    )


@torch.no_grad()
def verdicts(lesson: Lesson, checkpoint: Path, pairs_of: Batches, grid: Grid) -> list[float]:
    """Mean verdicts of a critic on exact pairs, the true map moved by smooth fields of so many pixels root mean square."""
    assert lesson.teach is not None
    learner = lesson.teach(lesson.network(), lesson.batches, HALF)
    load(learner, checkpoint)
    assert isinstance(learner, JudgedLearner)
    said = []
    for size in ERRORS:
        means = []
        for number in range(8):
            pairs = pairs_of(number)
            images = {name: learner.network.prepare(getattr(pairs, name)) for name in ("fixed", "moving")}
            rngs = pair_rngs(3, range(number * len(pairs), (number + 1) * len(pairs)))
            wrong = draw_flows((SmoothField(48.0, (max(size, 1e-6),)),), grid, rngs)
            moved = Displacement.of(torch.where(pairs.mask, pairs.flow, 0) + wrong.float())
            seen = learner.sees.made(number, moved, replace(pairs, **images))
            means.append(learner.critic(seen * pairs.mask).mean().item())
        said.append(round(float(np.mean(means)), 4))
    return said


def rendered(record: Record) -> str:
    """The tables."""
    rows = record["rows"]
    lines = []
    for name, title in METHODS.items():
        for trained in ("", "same", "any"):
            found = [row for row in rows if (row["method"], row["trained"]) == (name, trained)]
            if not found:
                continue
            cells = []
            for tested in ("same", "any"):
                each = [row for row in found if row["tested"] == tested]
                cells += [spread([mean(row["jaccard"]) for row in each]), f"{mean(row['folding'] for row in each):.3f}"]
            # one that went on does not know what it took before
            spent = [row["cpu"] / 60 for row in found if "cpu" in row and not row["resumed"]]
            seeds = str(len(found) // 2) if trained else ""
            lines.append([title, trained, seeds, *cells, f"{mean(spent):.1f}" if spent else ""])
    header = [
        "Jaccard of people",
        "learned from",
        "seeds",
        "as they are",
        "folding %",
        "any contrast",
        "folding %",
        "training, CPU min",
    ]
    parts = [heading(record), table(header, lines), _against(rows), _verdicts(rows)]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _against(rows: Sequence[Row]) -> str:
    """Matched edges and the critic against the others, person by person, in any contrast."""
    found: dict[str, list[list[float]]] = {}
    for row in rows:
        if row["tested"] == "any" and row["trained"] != "same":
            found.setdefault(row["method"], []).append(row["jaccard"])
    means = {
        name: {str(person): value for person, value in enumerate(np.mean(values, axis=0).tolist())}
        for name, values in found.items()
    }
    return "\n\n".join(_of(name, means).rstrip("\n") for name in ("matched maps longer", "adversarial") if name in means)


def _of(own: str, means: dict[str, dict[str, float]]) -> str:
    lines = []
    for name, title in METHODS.items():
        if name in means and name not in (own, "none"):
            one = compared(means[own], means[name])
            low, high = one.interval
            cells = [f"{one.difference:+.3f}", f"{low:+.3f} to {high:+.3f}", f"{one.p:.3f}", f"{one.higher} of {one.people}"]
            lines.append([title, *cells])
    return table([f"{METHODS[own]} in any contrast, against", "difference", "95 % interval", "p", "better for"], lines)


def _verdicts(rows: Sequence[Row]) -> str:
    """What critics say of maps that are wrong by so much."""
    lines = [
        [f"learned from {row['trained']}", *(f"{value:+.2f}" for value in row["verdicts"])]
        for row in rows
        if "verdicts" in row and row["tested"] == "any"
    ]
    return table(["a critic's verdict at errors of", *(f"{size:g} px" for size in ERRORS)], lines) if lines else ""
