"""Synthetic beside real images.

Walls of both, large; quantiles of |u|, det D(id + u) and intensity; the share of the intensities' variance that label maps
explain, which falls where labels and images do not belong together; spectra of texture. What is real comes from the training
people: displacements between them as `LPRegistration` finds them and at the landmarks that the model has, intensities, and

    P(f) = mean over patches and directions of |F(w (I - mean))|^2,      w a Hann window, f in cycles per pixel,

in windows of PATCH pixels with tissue all over. Every interpolation takes from the highest frequencies: the real images
interpolated once by the same cubic splines, at random shifts below a pixel, and twice, show what that alone explains.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

import augreg as ar
from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.resampling import sample
from augreg.report import figures
from augreg.report.page import figure, page, section
from augreg.report.page import table as html_table
from augreg.sam import AppearanceModel
from augreg.synthesis import AppearancePairs, TrainingPair, make_pairs, training_pairs
from benchmarks.harness.page import heading, table
from benchmarks.harness.record import Record, Row, about, write_record
from benchmarks.synthesis.people import PEOPLE, People

PATCH = 32
# frequencies in cycles per pixel between which power is compared, after scaling to equal power below the first
_BANDS = (0.1, 0.2, 0.3, 0.4, 0.5)
# below the first band, but for the patch itself
_LOW = 0.03
_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.9, 0.99)
# pixels darker than this share of the 99th percentile are no tissue
_DARK = 0.1
_SHOWN = 8
Quantiles = dict[str, list[float]]


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    parser.add_argument("--only", nargs="+", default=["brain2d", "brain2d-z20", "cardiac2d"], choices=list(PEOPLE))
    parser.add_argument("--pairs", type=int, default=40, help="synthetic pairs, and at most so many pairs of real people")
    parser.add_argument("--page", type=Path, default=Path("runs/plausibility.html"), metavar="PAGE.html", help="walls of images")


def run(options: argparse.Namespace) -> None:
    """Compare, and draw a page."""
    rows, sections = [], []
    for name in options.only:
        people = PEOPLE[name]()
        model = people.model()
        pairs = synthetic(model, options.pairs)
        row = {"data": name, "people": len(people.images), **compared(people, model, pairs, options.pairs)}
        rows.append(row)
        sections += shown(people, pairs, row)
        print(json.dumps({"data": name, "ratios": row["ratios"]}), file=sys.stderr, flush=True)
    record = {**about(2, ("numpy", "scipy", "torch")), "pairs": options.pairs, "rows": rows}
    write_record(options.output, record)
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page("Synthetic beside real", heading(record), sections), encoding="utf-8")


def synthetic(model: AppearanceModel, count: int) -> list[TrainingPair]:
    """Pairs of independent appearances: as two people differ."""
    generator = AppearancePairs(model, appearance="independent")
    batches = (make_pairs(generator, 3, range(i, min(i + 8, count))) for i in range(0, count, 8))
    return [pair for batch in batches for pair in training_pairs(batch, model.template)]


def compared(people: People, model: AppearanceModel, pairs: Sequence[TrainingPair], count: int) -> Row:
    """Quantiles and spectra."""
    made = [pair.fixed for pair in pairs]
    found = registered(people.images, count)
    rng = np.random.default_rng(0)
    once = [_interpolated(image, rng) for image in people.images]
    twice = [_interpolated(image, rng) for image in once]
    spectra = {
        name: spectrum(images)
        for name, images in (
            ("real", people.images),
            ("real, interpolated once", once),
            ("real, interpolated twice", twice),
            ("training textures", [model._image(t) for t in model.textures]),
            ("synthetic", made),
        )
    }
    return {
        "displacement": {
            "synthetic": _displacements([(pair.fixed, pair.displacement.values) for pair in pairs]),
            "real, registered": _displacements(found),
            "synthetic, landmarks": _of(landmark_distances(model, count)),
            "real, landmarks": _of(real_landmark_distances(people, model)),
        },
        "det": {
            "synthetic": _determinants([(pair.fixed, pair.displacement.values) for pair in pairs]),
            "real, registered": _determinants(found),
        },
        "intensity": {"synthetic": _intensities(made), "real": _intensities(people.images)},
        "explained": {
            "synthetic": explained(made, [pair.fixed_labels for pair in pairs]),
            "real": explained(people.images, people.labels or []),
        },
        "spectra": {name: power.tolist() for name, (_, power) in spectra.items()},
        "frequencies": spectra["real"][0].tolist(),
        # all power below the first band's end, then the bands relative to it
        "low": {
            name: float(one[1][_low(one[0])].sum() / spectra["real"][1][_low(one[0])].sum()) for name, one in spectra.items()
        },
        "ratios": {name: _ratios(spectra["real"], one) for name, one in spectra.items() if name != "real"},
    }


def explained(images: Sequence[ar.Image], labels: Sequence[ar.Labels | None]) -> float:
    """The mean share of the intensities' variance inside tissue that the labels explain; NaN without labels."""
    shares = []
    for image, known in zip(images, labels, strict=False):
        if known is not None:
            here = _tissue(image) | (np.asarray(known.values) > 0)
            values, inside = np.asarray(image.values, dtype=np.float64)[here], np.asarray(known.values)[here]
            number = np.maximum(np.bincount(inside), 1)
            means = (np.bincount(inside, values) / number)[inside]
            shares.append(float(means.var() / values.var()))
    return float(np.mean(shares)) if shares else float("nan")


def registered(images: Sequence[ar.Image], count: int) -> list[tuple[ar.Image, FloatArray]]:
    """Displacements between real people, evenly chosen among the ordered pairs, by the default registration."""
    every = list(itertools.permutations(range(len(images)), 2))
    chosen = [every[i] for i in np.linspace(0, len(every) - 1, min(count, len(every))).astype(int)]
    register = ar.LPRegistration()
    return [(images[i], register(images[i], images[j]).displacement(images[i].grid)) for i, j in chosen]


def landmark_distances(model: AppearanceModel, count: int) -> FloatArray:
    """Distances of corresponding landmarks of two instances, mm."""
    rng = np.random.default_rng(4)
    n = len(model.poses)

    def one() -> FloatArray:
        pose = rng.standard_normal(n) @ model.poses / np.sqrt(n - 1)
        return model.transform(rng.standard_normal(model.shape.rank), pose)(model.landmarks)

    return np.concatenate([np.linalg.norm(one() - one(), axis=-1) for _ in range(count)])


def real_landmark_distances(people: People, model: AppearanceModel) -> FloatArray:
    """The same of all pairs of real people."""
    if people.labels is None or model.contours is None:
        return np.array([np.nan])
    points = model.contours.corresponding(people.labels)
    return np.concatenate(
        [np.linalg.norm(points[i] - points[j], axis=-1) for i, j in itertools.combinations(range(len(points)), 2)]
    )


def spectrum(images: Sequence[ar.Image]) -> tuple[FloatArray, FloatArray]:
    """Frequencies and mean power of the patches of 2-D images, or of a volume's planes."""
    window = np.hanning(PATCH + 2)[1:-1]
    window = np.outer(window, window) / np.sqrt(np.mean(window**2)) ** 2
    total, number = np.zeros((PATCH, PATCH)), 0
    for patch in _patches(images):
        total += np.abs(np.fft.fft2((patch - patch.mean()) * window)) ** 2
        number += 1
    f = np.fft.fftfreq(PATCH)
    radius = np.hypot(*np.meshgrid(f, f, indexing="ij"))
    rings = np.round(radius * PATCH).astype(int)
    power = np.bincount(rings.ravel(), (total / max(number, 1)).ravel()) / np.bincount(rings.ravel())
    keep = PATCH // 2 + 1
    return np.arange(keep) / PATCH, power[:keep] / PATCH**2


def _patches(images: Sequence[ar.Image]) -> Iterator[FloatArray]:
    for image in images:
        values = np.asarray(image.values, dtype=np.float64)
        least = _DARK * np.quantile(values, 0.99)
        planes = [values] if values.ndim == 2 else [values[..., k] for k in range(0, values.shape[2], 4)]
        for plane in planes:
            for i, j in itertools.product(*(range(0, n - PATCH + 1, PATCH // 4) for n in plane.shape)):
                patch = plane[i : i + PATCH, j : j + PATCH]
                if np.mean(patch > least) > 0.95:
                    yield patch


def _ratios(real: tuple[FloatArray, FloatArray], other: tuple[FloatArray, FloatArray]) -> list[float]:
    """Power in each band relative to the real images', after scaling to equal power below the first band."""
    f, there = real
    here = other[1]
    bands = [(f > low) & (f <= high) for low, high in itertools.pairwise(_BANDS)]
    gain = there[_low(f)].sum() / here[_low(f)].sum()
    return [float(gain * here[band].sum() / there[band].sum()) for band in bands]


def _low(f: FloatArray) -> FloatArray:
    return (f > _LOW) & (f <= _BANDS[0])


def _interpolated(image: ar.Image, rng: np.random.Generator) -> ar.Image:
    """Sampled once at a shift below a pixel, as texture and image are."""
    shift = rng.uniform(-0.5, 0.5, image.grid.ndim) @ image.grid.index_to_world.T
    values = sample(image, image.grid.points() + shift, interpolation="cubic", fill=0.0)
    return image.with_values(values)


def _tissue(image: ar.Image) -> FloatArray:
    values = np.asarray(image.values)
    return values > _DARK * np.quantile(values, 0.99)


def _displacements(fields: Sequence[tuple[ar.Image, FloatArray]]) -> list[float]:
    return _of(np.concatenate([np.linalg.norm(u, axis=-1)[_tissue(image)] for image, u in fields]))


def _determinants(fields: Sequence[tuple[ar.Image, FloatArray]]) -> list[float]:
    return _of(np.concatenate([_determinant(image.grid, u)[_tissue(image)] for image, u in fields]))


def _determinant(grid: Grid, u: FloatArray) -> FloatArray:
    """det D(id + u), central differences."""
    phi = grid.indices_at(grid.points() + u)
    return np.linalg.det(np.stack([np.gradient(phi, axis=axis) for axis in range(grid.ndim)], axis=-1))


def _intensities(images: Sequence[ar.Image]) -> list[float]:
    return _of(np.concatenate([np.asarray(image.values, dtype=np.float64)[_tissue(image)] for image in images]))


def _of(values: FloatArray) -> list[float]:
    return [float(q) for q in np.quantile(values, _QUANTILES)]


def shown(people: People, pairs: Sequence[TrainingPair], row: Row) -> list[str]:
    """The sections of a data set."""
    name, aspect = people.name, people.images[0].grid.shape[1] / people.images[0].grid.shape[0]
    values = np.stack([np.asarray(image.values, dtype=np.float64) for image in people.images])
    limits = float(np.quantile(values, 0.01)), float(np.quantile(values, 0.995))

    def wall(images: Sequence[ar.Image], kind: str) -> str:
        draws = [(f"{kind} {i + 1}", figures.picture(image, limits)) for i, image in enumerate(images[:_SHOWN])]
        return figure(figures.panels(draws, columns=4, width=16.0, aspect=aspect), f"{kind} images of {name}")

    def spectra(ax: Axes) -> None:
        for label, power in row["spectra"].items():
            ax.semilogy(row["frequencies"][1:], power[1:], label=label, linestyle="-" if label in ("real", "synthetic") else ":")
        ax.set_xlabel("cycles per pixel")
        ax.set_ylabel("power")
        ax.legend(fontsize=8)

    parts = [
        section(f"{name}: real", f"{len(people.images)} people.", wall(people.images, "real")),
        section(f"{name}: synthetic", "The fixed images of the first pairs.", wall([pair.fixed for pair in pairs], "synthetic")),
        section(
            f"{name}: figures",
            "Quantiles over tissue. " + _explained(row),
            html_table(*_quantile_rows(row)),
        ),
        section(f"{name}: texture", "Mean power of patches.", figure(figures.plot(spectra, (9, 4.5)), f"spectra of {name}")),
    ]
    if people.labels is not None and pairs[0].fixed_labels is not None:
        known = [_labels_picture(labels) for labels in people.labels[: _SHOWN // 2]]
        made = [_labels_picture(pair.fixed_labels) for pair in pairs[: _SHOWN // 2] if pair.fixed_labels is not None]
        draws = [("real", draw) for draw in known] + [("synthetic", draw) for draw in made]
        uri = figures.panels(draws, columns=4, width=16.0, aspect=aspect)
        parts.append(section(f"{name}: label maps", "One colour per structure.", figure(uri, f"label maps of {name}")))
    return parts


def _labels_picture(labels: ar.Labels) -> figures.Draw:
    # consecutive labels get distant colours
    values = np.where(labels.values > 0, 1 + (labels.values.astype(np.int64) * 7) % 19, 0)
    return lambda ax: ax.imshow(values.T, cmap="tab20", vmin=0, vmax=19, interpolation="nearest") and None


def _quantile_rows(row: Row) -> tuple[list[str], list[list[str]]]:
    head = ["", *[f"{q:.0%}" for q in _QUANTILES]]
    names = {"displacement": "displacement, mm", "det": "det D(id + u)", "intensity": "intensity"}
    return head, [
        [f"{title}: {kind}", *[f"{value:.3g}" for value in values]]
        for key, title in names.items()
        for kind, values in row[key].items()
    ]


def _explained(row: Row) -> str:
    shares = ", ".join(f"{kind} {share:.2f}" for kind, share in row["explained"].items())
    return f"Share of the intensities' variance that the labels explain: {shares}."


def rendered(record: Record) -> str:
    """Quantiles and power ratios of all data sets."""
    text = heading(record) + "\n"
    bands = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(_BANDS)]
    for row in record["rows"]:
        head, lines = _quantile_rows(row)
        text += f"\n### {row['data']}: quantiles over tissue\n\n" + table(head, lines)
        text += f"\n{_explained(row)}\n"
    text += "\n### Power relative to real images by cycles per pixel: below the first band, then with that made equal\n\n"
    cells = [
        [f"{row['data']}: {kind}", f"{row['low'][kind]:.2f}", *[f"{ratio:.2f}" for ratio in ratios]]
        for row in record["rows"]
        for kind, ratios in row["ratios"].items()
    ]
    return text + table(["", f"below {_BANDS[0]:g}", *bands], cells)
