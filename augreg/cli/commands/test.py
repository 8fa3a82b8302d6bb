"""`augreg test`: whether a network is any good on one's own pairs, beside the linear program and nothing."""

from __future__ import annotations

import argparse
import importlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import augreg as ar
from augreg.cli.arguments import tile
from augreg.cli.methods import method_of_file
from augreg.cli.options import Commands, command_of, json_option
from augreg.cli.output import PAGES, check_distinct, check_output, report
from augreg.progress import bar
from augreg.registration.table import read_table, told_of

if TYPE_CHECKING:
    from augreg.registration import Pair

NONE, PROGRAM, NETWORK = "none", "program", "network"
# the first that is known decides which is better, and whether larger is
_DECIDING = (("dice", 1), ("tre", -1), ("similarity", 1))
# fewer pairs can show no difference at 5 %
_FEWEST = 6
_LEVEL = 0.05
_UNITS = {"tre": " mm", "milliseconds": " ms"}


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "test",
        run,
        "measure a network on pairs of images, beside the linear program and nothing",
        "augreg test run pairs.csv --report page.html",
    )
    parser.add_argument("network", metavar="RUN|WEIGHTS", help="folder of a run, its weights, or sunnybrook-sax")
    parser.add_argument(
        "table",
        metavar="PAIRS.csv",
        help="a header fixed,moving[,fixed_labels,moving_labels][,fixed_points,moving_points], paths relative to it",
    )
    parser.add_argument("--report", metavar="PAGE.html", help="also write a page with the table and pictures")
    parser.add_argument("--device", default="cpu", metavar="D", help="of the network: cpu (default), cuda, mps, or auto")
    parser.add_argument(
        "--tile",
        type=tile,
        metavar="VOXELS[:MARGIN]",
        help="the network sees tiles, for volumes that do not fit into memory; multiples of its coarsest cells",
    )
    json_option(parser)


def run(options: argparse.Namespace) -> None:
    """`augreg test`."""
    if options.report is not None:
        check_output(options.report, PAGES)
        check_distinct({"--report": options.report}, {"PAIRS.csv": options.table, "RUN": options.network})
        importlib.import_module("augreg.report")  # a broken matplotlib is told before the work
    lines = read_table(options.table)
    # all pairs are looked at before the first is registered
    for line in lines:
        line.read()
    methods = {
        NONE: _nothing,
        PROGRAM: ar.LPRegistration(),
        NETWORK: method_of_file(options.network, options.device, options.tile),
    }
    found: list[dict[str, Any]] = []
    shown: list[tuple[Pair, dict[str, ar.Transform]]] = []
    with bar("test", len(lines)) as update:
        for number, line in enumerate(lines):
            pair = line.read()
            with told_of(line.where):
                transforms, measured = _measured(pair, methods)
            found.append({"fixed": str(line.paths["fixed"]), "moving": str(line.paths["moving"]), **measured})
            if options.report is not None and len(shown) < 6:
                shown.append((pair, transforms))
            update(number + 1, "")
    result: dict[str, Any] = {name: _means([one[name] for one in found]) for name in methods}
    compared = [_compared(found, other) for other in (PROGRAM, NONE)]
    if options.report is not None:
        from augreg.report import comparison_page

        page = comparison_page(_header(result), _rows(result), [text for _, text in compared], shown)
        with ar.io.atomic(options.report) as temporary:
            temporary.write_text(page, encoding="utf-8")
    result |= {"compared": [numbers for numbers, _ in compared], "pairs": found}
    report(result, _text(result, [text for _, text in compared]), as_json=options.json)


def _nothing(fixed: ar.Image, moving: ar.Image) -> ar.Transform:
    """No registration; where grids do not overlap, their centres on each other."""
    from augreg.registration import Pair

    return Pair.of(fixed, moving).start


def _measured(pair: Pair, methods: Mapping[str, Any]) -> tuple[dict[str, ar.Transform], dict[str, Any]]:
    """The transform of each method, and how good it is. No method is told of label maps and landmarks."""
    transforms, measured = {}, {}
    for name, method in methods.items():
        begin = time.perf_counter()
        transform = method(pair.fixed, pair.moving)
        milliseconds = 1000 * (time.perf_counter() - begin)
        about = ar.metrics.evaluate(
            transform,
            pair.fixed.grid,
            fixed_points=pair.fixed_points,
            moving_points=pair.moving_points,
            fixed_labels=pair.fixed_labels,
            moving_labels=pair.moving_labels,
        )
        numbers: dict[str, Any] = {}
        if "dice" in about:
            numbers["dice"] = about["dice"]["mean"]
            numbers["jaccard"] = about["jaccard"]["mean"]
            numbers["dice_per_label"] = {label: value for label, value in about["dice"].items() if label != "mean"}
        if "tre" in about:
            numbers["tre"] = about["tre"]["mean"]
        numbers["similarity"] = ar.metrics.similarity(pair.fixed, pair.moving, transform)
        numbers["folding"] = about["folding"]
        numbers["milliseconds"] = milliseconds
        transforms[name], measured[name] = transform, numbers
    return transforms, measured


def _means(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the pairs that know a number."""
    import numpy as np

    def mean(values: Sequence[float | None]) -> float:
        known = [value for value in values if value is not None and math.isfinite(value)]
        return float(np.mean(known)) if known else math.nan

    names = dict.fromkeys(name for one in measured for name in one if name != "dice_per_label")
    means: dict[str, Any] = {name: mean([one.get(name) for one in measured]) for name in names}
    labels = dict.fromkeys(label for one in measured for label in one.get("dice_per_label", {}))
    if labels:
        means["dice_per_label"] = {k: mean([one.get("dice_per_label", {}).get(k) for one in measured]) for k in labels}
    return means


def _compared(found: Sequence[Mapping[str, Any]], other: str) -> tuple[dict[str, Any], str]:
    """Whether the network is better than another method, by the first number that all pairs know."""
    import numpy as np

    name, sign = next(
        (name, sign)
        for name, sign in _DECIDING
        if name == "similarity" or all(math.isfinite(one[m].get(name, math.nan)) for one in found for m in (NETWORK, other))
    )
    gains = np.array([sign * (one[NETWORK][name] - one[other][name]) for one in found])
    gains = gains[np.isfinite(gains)]
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    p = _p(gains)
    numbers = {"with": other, "by": name, "pairs": len(gains), "better": better, "worse": worse, "p": p}
    beside = {PROGRAM: "the linear program", NONE: "no registration"}[other]
    text = f"By {name} the network is better than {beside} in {better} of {len(gains)} pairs, worse in {worse}"
    if p is None:
        return numbers, f"{text}; a paired test needs {_FEWEST} pairs or more."
    mean = float(gains.mean())
    verdict = ("better" if mean > 0 else "worse") if p < _LEVEL else "not shown to be different"
    return numbers, f"{text}; Wilcoxon's signed-rank test, p = {p:.3g}: {verdict}."


def _p(gains: Any) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test; None for too few pairs."""
    if len(gains) < _FEWEST:
        return None
    if not gains.any():
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(gains, zero_method="zsplit", method="auto").pvalue)


def _header(result: Mapping[str, Any]) -> list[str]:
    labels = result[NETWORK].get("dice_per_label", {})
    names = [name for name in result[NETWORK] if name != "dice_per_label"]
    return ["", *(name + _UNITS.get(name, "") for name in names), *(f"dice {label}" for label in labels)]


def _rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Means of each method as text."""
    rows = []
    for method in (NONE, PROGRAM, NETWORK):
        means = dict(result[method])
        labels = means.pop("dice_per_label", {})
        cells = [f"{100 * value:.2f} %" if name == "folding" else _number(value) for name, value in means.items()]
        rows.append([method, *cells, *map(_number, labels.values())])
    return rows


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"


def _text(result: Mapping[str, Any], verdicts: Sequence[str]) -> str:
    rows = [_header(result), *_rows(result)]
    wide = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(wide[0]), *map(str.rjust, row[1:], wide[1:])]) for row in rows]
    return "\n".join([f"means over {len(result['pairs'])} pairs", *lines, *verdicts])
