"""Results of the experiment, and their tables in its README.

The results of all runs are gathered in `benchmarks/results/experiment-STUDY.json`, from which the tables are made; without runs
these are made anew, and a run that was made again takes the place of what was kept of it. There a run has a line, the pairs of
test people are listed once, and a run has for every way of registering and every measure a list of numbers, one per pair.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import product
from math import isfinite
from pathlib import Path
from statistics import mean, median, stdev

from benchmarks.experiments.people import STUDIES
from benchmarks.experiments.run import FULL, RESULT, WIDTH, Run
from benchmarks.experiments.sources import LEARNED
from benchmarks.experiments.statistics import by_person, compared
from benchmarks.harness.page import put_into, table
from benchmarks.harness.places import kept
from benchmarks.harness.record import Record, read_record, write_record

README, MARK = Path(__file__).with_name("README.md"), "experiments"
_PAIR = ("group", "fixed", "moving")
# key, heading, whether more is better
Measure = tuple[str, str, bool]
# header and lines
Table = tuple[list[str], list[list[str]]]

NAMES = {
    "none": "no registration",
    "program": "linear program",
    "gradient": "gradient steps",
    "syn_quick": "ANTs SyNQuick",
    "syn_cc": "ANTs SyN, CC",
    "elastix": "elastix B-spline",
    "sam": "appearance model with locality",
    "pca": "appearance model without (PCA)",
    "random": "random smooth fields",
    "warped": "registration fields, image warped",
    "estimated": "registration fields, two images",
    "unsupervised": "unsupervised",
}
# width and factor on the steps, and what is added to a name
_SCALES = {(WIDTH, 1): "", (WIDTH, 2): ", twice the steps", FULL: ", full width, ten times the steps"}
# ways of using a network, besides alone
FOLLOWED = ("twice", "thrice", "then program", "then gradient", "then dense")
# of each group of pairs
MEASURES = {
    ("brain", "people"): (("jaccard", "Jaccard", True), ("dice", "Dice", True)),
    ("heart", "phases"): (("distance", "distance px", False), ("dice", "Dice", True)),
    ("heart", "people"): (("distance", "distance px", False), ("dice", "Dice", True)),
}
TITLES = {
    ("brain", "people"): "Brain: slices of two people",
    ("heart", "phases"): "Heart: the two phases of a patient",
    ("heart", "people"): "Heart: end-diastole of two patients, centred",
}


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"), metavar="FOLDER", help="of the runs")


def run(options: argparse.Namespace) -> None:
    """Gather what is there, and write the tables."""
    for study in STUDIES:
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(options.out.glob(f"{study}/runs/*/{RESULT}"))]
        if found:
            anew = {_key(record): record for record in found}
            before = {_key(record): record for record in read_results(study)}
            write_results(study, list((before | anew).values()))
    put_into(README, MARK, tables())


def tables() -> str:
    """Of all studies with results."""
    return "".join(rendered(study, found) for study in STUDIES if (found := read_results(study)))


def write_results(study: str, runs: Sequence[Record]) -> None:
    """Results as they are kept."""
    pairs = list(dict.fromkeys(tuple(row[part] for part in _PAIR) for run in runs for row in run["rows"]))
    lines = []
    for run in runs:
        measured: dict[str, dict[str, list[float]]] = {}
        for row in sorted(run["rows"], key=lambda row: pairs.index(tuple(row[part] for part in _PAIR))):
            for measure in row.keys() - {"how", *_PAIR}:
                measured.setdefault(row["how"], {}).setdefault(measure, []).append(row[measure])
        lines.append({name: value for name, value in run.items() if name != "rows"} | {"measured": measured})
    write_record(kept(f"experiment-{study}"), {"pairs": [list(pair) for pair in pairs], "runs": lines})


def read_results(study: str) -> list[Record]:
    """The committed results of a study, with rows again; none where there are none."""
    path = kept(f"experiment-{study}")
    if not path.exists():
        return []
    known = read_record(path)
    pairs = [dict(zip(_PAIR, pair, strict=True)) for pair in known["pairs"]]
    return [{**run, "rows": list(_rows(run["measured"], pairs))} for run in known["runs"]]


def _rows(measured: dict[str, dict[str, list[float]]], pairs: list[dict[str, str]]) -> Iterator[Record]:
    for how, measures in measured.items():
        for number, pair in enumerate(pairs):
            yield {"how": how, **pair, **{measure: values[number] for measure, values in measures.items()}}


def rendered(study: str, records: Sequence[Record]) -> str:
    """The tables of a study, after a line about the machine."""
    parts = [_about(records) + "\n"]
    everyone = max(record["people"] for record in records)
    for (name, group), measures in MEASURES.items():
        if name == study:
            found = [alone(records, group, measures, everyone), used_otherwise(records, group, measures[0], everyone)]
            found += [comparisons(records, group, how, measures[0], everyone) for how in ("alone", "then gradient")]
            parts.append(f"### {TITLES[name, group]}\n\n" + "\n".join(table(*one) for one in found))
    if fewer := fewer_people(records, study, everyone):
        group, (_, heading, _) = first_measure(study)
        title = f"{TITLES[study, group].split(':')[0]}: fewer people to learn from, {heading}"
        parts.append(f"### {title}\n\n" + table(*fewer))
    return "\n".join(parts) + "\n"


def alone(records: Sequence[Record], group: str, measures: Sequence[Measure], everyone: int) -> Table:
    """Means over all pairs of a group; of several seeds the mean, with the standard deviation over seeds."""
    lines = []
    for name, runs in _kinds(records, everyone):
        learned = runs[0]["method"] in LEARNED
        values = [over_seeds(runs, group, "alone", measure) for measure, _, _ in measures]
        trained = [run["training_cpu_seconds"] / 60 for run in runs if learned and not run["resumed"]]
        took = f"{mean(trained):.1f}" if trained else ""
        lines.append([name, str(len(runs)) if learned else "", *values, *_costs(runs, group, "alone"), took])
    return ["alone", "seeds", *[heading for _, heading, _ in measures], "folding %", "CPU ms", "training, CPU min"], lines


def used_otherwise(records: Sequence[Record], group: str, measure: Measure, everyone: int) -> Table:
    """The first measure, folding and time of networks used otherwise than alone."""
    lines = []
    for name, runs in _kinds(records, everyone):
        if runs[0]["method"] in LEARNED:
            ways = [[over_seeds(runs, group, how, measure[0]), *_costs(runs, group, how)] for how in FOLLOWED]
            lines.append([name, *["; ".join(filter(None, way)) for way in ways]])
    return [f"{measure[1]}; folding %; CPU ms", *FOLLOWED], lines


def _kinds(records: Sequence[Record], everyone: int) -> Iterator[tuple[str, list[Record]]]:
    """The rows of the tables: a name, and the runs of all seeds."""
    for method, (scale, added) in product(NAMES, _SCALES.items()):
        runs = of_method(records, method, everyone, *scale)
        if runs and (method in LEARNED or not added):
            yield NAMES[method] + added, runs


def comparisons(records: Sequence[Record], group: str, how: str, measure: Measure, everyone: int) -> Table:
    """The model with locality against every other method, person by person; of several seeds the mean per person.

    Networks are used as `how` says, all else stands alone.
    """
    key, heading, more_is_better = measure
    own = person_means(of_method(records, "sam", everyone), group, how, key)
    lines = []
    for method, name in NAMES.items():
        other = person_means(of_method(records, method, everyone), group, how if method in LEARNED else "alone", key)
        if method == "sam" or not own or not other:
            continue
        found = compared(own, other)
        better = found.higher if more_is_better else found.people - found.higher
        low, high = found.interval
        cells = [f"{found.difference:+.3f}", f"{low:+.3f} to {high:+.3f}", f"{found.p:.3f}", f"{found.effect:+.2f}"]
        lines.append([name, *cells, f"{better} of {found.people}"])
    return [f"{heading} of {NAMES['sam']}, {how}, against", "difference", "95 % interval", "p", "effect", "better for"], lines


def fewer_people(records: Sequence[Record], study: str, everyone: int) -> Table | None:
    """How much is lost with fewer people to learn from, by the study's first measure."""
    sizes = sorted({record["people"] for record in records if 0 < record["people"] < everyone})
    if not sizes:
        return None
    group, measure = first_measure(study)
    lines = []
    for method in LEARNED:
        if any(of_method(records, method, size) for size in sizes):
            cells = [over_seeds(of_method(records, method, size), group, "alone", measure[0]) for size in (*sizes, everyone)]
            lines.append([NAMES[method], *cells])
    return ["method", *[str(size) for size in (*sizes, everyone)]], lines


def first_measure(study: str) -> tuple[str, Measure]:
    """Of the first group of a study: group and measure."""
    return next((group, measures[0]) for (name, group), measures in MEASURES.items() if name == study)


def of_method(records: Sequence[Record], method: str, people: int, width: float = WIDTH, longer: int = 1) -> list[Record]:
    """The runs of a method: all seeds, one number of people, one width, one factor on the steps."""
    asked = Run(method, people, width=width, longer=longer) if method in LEARNED else Run(method)
    parts = ("method", "people", "width", "longer")
    return [run for run in records if all(run[part] == getattr(asked, part) for part in parts)]


def _key(run: Record) -> str:
    return Run(**{part.name: run[part.name] for part in fields(Run)}).key


def rows_of(run: Record, group: str, how: str) -> list[Record]:
    """The rows of one group of pairs and one way of registering."""
    return [row for row in run["rows"] if row["group"] == group and row["how"] == how]


def person_means(runs: Sequence[Record], group: str, how: str, measure: str) -> dict[str, float]:
    """Of every fixed person, the mean over pairs and seeds."""
    found = [by_person(rows_of(run, group, how), measure) for run in runs]
    return {person: mean(one[person] for one in found) for person in found[0]} if found and found[0] else {}


def over_seeds(runs: Sequence[Record], group: str, how: str, measure: str) -> str:
    """The mean over pairs, then over seeds, with their standard deviation; and of how many pairs the measure has no value."""
    values = [[row[measure] for row in rows] for run in runs if (rows := rows_of(run, group, how))]
    if not values:
        return ""
    means = [mean(value for value in found if isfinite(value)) for found in values]
    lost = sum(not isfinite(value) for found in values for value in found)
    text = f"{mean(means):.3f}" + (f" ± {stdev(means):.3f}" if len(means) > 1 else "")
    return text + (f" ({lost} lost)" if lost else "")


def _costs(runs: Sequence[Record], group: str, how: str) -> list[str]:
    rows = [row for run in runs for row in rows_of(run, group, how)]
    if not rows:
        return ["", ""]
    return [f"{100 * mean(row['folding'] for row in rows):.3f}", f"{1000 * median(row['cpu_seconds'] for row in rows):.0f}"]


def _about(records: Sequence[Record]) -> str:
    machine = records[0]["machine"]
    versions = {name: version for record in records for name, version in record["versions"].items()}
    named = ", ".join(f"{name} {versions[name]}" for name in sorted(versions, key=str.lower))
    first, last = (which(record["date"] for record in records) for which in (min, max))
    dates = last if first == last else f"{first} to {last}"
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}; "
        f"registrations with {records[0]['threads']} thread; {named}; {dates}."
    )
