"""Curves of an appearance model against its number of modes, as data; `plot_diagram` draws them.

Without other images a model can be asked two things. Compactness: the share of the modes' variance in the first k. And how near
what it invents is to what it was made of: the distance (root mean square difference in the mean shape) of appearances drawn from
the first k modes, and of mosaics, to the nearest training texture; the distance of each training texture to the nearest other
one is the yardstick. Generalisation, and specificity of shapes, need images that the model has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image
from augreg.report.figures import Draw
from augreg.sam import AppearanceModel, rank_curve
from augreg.sam.evaluate import compactness
from augreg.sam.model import SHARPNESS

_SAMPLES = 30
_RANKS = 8
# intensities that a distance of appearances is estimated from
_PLACES = 20_000


@dataclass(frozen=True, eq=False)
class Curve:
    """One line of a diagram.

    Parameters
    ----------
    label : name of the curve in the legend
    x, y : coordinates of its points, (points,)
    error : standard error of y, if it is known
    """

    label: str
    x: npt.NDArray[np.integer]
    y: FloatArray
    error: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Diagram:
    """Curves over one abscissa.

    Parameters
    ----------
    title, text : title, and a text on how to read the diagram
    x_label, y_label : names of the axes, with units
    curves : the curves, at least one
    levels : names and values to compare with, drawn as level lines
    """

    title: str
    text: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    levels: Sequence[tuple[str, float]] = ()


def model_diagrams(model: AppearanceModel, rng: np.random.Generator) -> list[Diagram]:
    """What can be said from the model alone: compactness, and samples against training textures."""
    shares = {"shape": compactness(model.shape.variance), "texture": compactness(model.appearance.variance)}
    compact = [Curve(name, np.arange(1, len(share) + 1), share) for name, share in shares.items()]
    return [
        Diagram(
            "Compactness",
            "Share of the modes' variance in the first modes. It rises late where variation is spread over many small modes.",
            "number of modes",
            "share of variance",
            compact,
        ),
        _texture_diagram(model, rng),
    ]


def evaluation_diagrams(
    model: AppearanceModel, images: Sequence[Image], landmarks: Sequence[npt.ArrayLike], rng: np.random.Generator
) -> list[Diagram]:
    """Generalisation to unseen images, and specificity against them, of the model's first modes.

    Parameters
    ----------
    model : the model
    images : images that the model has not seen, at least one
    landmarks : landmarks of each image, (m, D) mm: see `augreg.sam.find_landmarks`
    rng : random generator of the samples
    """
    found = rank_curve(model, images, landmarks, rng, _ranks(max(model.shape.rank, model.appearance.rank)), _SAMPLES)

    def diagram(part: str, name: str, most: int, unit: str) -> Diagram:
        curves = []
        for quality in ("generalisation", "specificity"):
            values = {min(k, most): one for k, one in zip(found.ranks, getattr(found, f"{part}_{quality}"), strict=True)}
            y, error = (np.array([getattr(value, which) for value in values.values()]) for which in ("mean", "error"))
            curves.append(Curve(quality, np.array(list(values)), y, error))
        return Diagram(
            f"{name}: generalisation and specificity",
            f"Against images that the model has not seen ({len(images)}). Generalisation: how far they are from what the model "
            "can show; it falls with more modes. Specificity: how far samples are from the nearest of them; low is plausible.",
            "number of modes",
            unit,
            curves,
        )

    return [
        diagram("shape", "Shape", model.shape.rank, "landmark distance (mm)"),
        diagram("appearance", "Texture", model.appearance.rank, "RMS difference (intensity)"),
    ]


def plot_diagram(diagram: Diagram) -> Draw:
    """The diagram, for `figures.plot`."""

    def draw(ax: Axes) -> None:
        for curve in diagram.curves:
            marker = "." if len(curve.x) <= 2 * _RANKS else None
            (line,) = ax.plot(curve.x, curve.y, marker=marker, label=curve.label)
            if curve.error is not None:
                spread = np.nan_to_num(curve.error)
                ax.fill_between(curve.x, curve.y - spread, curve.y + spread, color=line.get_color(), alpha=0.18, linewidth=0)
        for (name, level), style in zip(diagram.levels, cycle(("--", ":")), strict=False):
            ax.axhline(level, linestyle=style, color="0.4", label=name)
        ax.set_xlabel(diagram.x_label)
        ax.set_ylabel(diagram.y_label)
        ax.set_ylim(0, None)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)

    return draw


def _ranks(most: int) -> list[int]:
    return sorted({int(k) for k in np.rint(np.geomspace(1, most, _RANKS))})


def _texture_diagram(model: AppearanceModel, rng: np.random.Generator) -> Diagram:
    every = slice(None, None, max(1, model.appearance.size // _PLACES))
    real = model.textures[:, every].astype(np.float64)
    mean, modes = model.appearance.mean[every], model.appearance.basis[every] * np.sqrt(model.appearance.variance)
    b = rng.standard_normal((_SAMPLES, model.appearance.rank))
    ranks = _ranks(model.appearance.rank)
    drawn = [np.clip(mean + b[:, :k] @ modes[:, :k].T, *model.intensities) for k in ranks]
    distances = np.array([[_nearest(one, real) for one in some] for some in drawn])
    size = len(real), model.mixing.columns
    mosaics = [_nearest(model.mosaic(SHARPNESS * rng.standard_normal(size))[every], real) for _ in range(_SAMPLES)]
    others = [_nearest(one, np.delete(real, i, axis=0)) for i, one in enumerate(real)]
    return Diagram(
        "Invented and real textures",
        "How far invented textures are from the nearest training texture; samples and training pairs are made of mosaics. To "
        "compare with: how far each real texture is from the nearest other one.",
        "number of texture modes",
        "RMS difference (intensity)",
        [Curve("drawn from modes", np.array(ranks), distances.mean(axis=1), distances.std(axis=1, ddof=1) / np.sqrt(_SAMPLES))],
        levels=[("mosaics", float(np.mean(mosaics))), ("real, nearest other", float(np.mean(others)))],
    )


def _nearest(texture: FloatArray, others: FloatArray) -> float:
    return float(np.sqrt(np.mean((others - texture) ** 2, axis=1)).min())
