"""Real images beside invented ones: does the model make what there is, and no more than that?

Distances of shapes: mean Euclidean distance of corresponding points, poses removed, mm. Of every invented shape the nearest real
one is shown, and told are

    invented to the nearest real       what is far from all that is real is implausible (specificity)
    real to the nearest invented       what no invented one comes near is not covered
    real to the nearest other real     the yardstick of both
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image
from augreg.report import figures
from augreg.report.page import figure, section, table
from augreg.sam import AppearanceModel
from augreg.sam.density import SINGLE, Kind, ShapeDensity
from augreg.sam.evaluate import Unseen

_SHOWN = 6
_DRAWN = 200


@dataclass(frozen=True, eq=False)
class Beside:
    """Real shapes and invented ones.

    Parameters
    ----------
    drawn : shape coefficients of the invented ones, (count, K)
    apart : distances of the invented ones to the real ones, (count, n) mm
    among : distances of the real ones to each other, (n, n) mm, infinite to themselves
    """

    drawn: FloatArray
    apart: FloatArray
    among: FloatArray

    @staticmethod
    def of(
        model: AppearanceModel,
        images: Sequence[Image],
        landmarks: Sequence[npt.ArrayLike],
        rng: np.random.Generator,
        shapes: Kind = "gaussian",
        count: int = _DRAWN,
    ) -> Beside:
        """Of real images with landmarks (m, D) mm and `count` shapes of a density of the model."""
        real = Unseen.of(model, images, landmarks)
        b = model.density(shapes).sample(rng, count, model.shape.rank)
        among = real.distances(real.shapes)
        np.fill_diagonal(among, np.inf)
        return Beside(b, real.distances(model.shape.instance(b)), among)

    def told(self) -> list[tuple[str, FloatArray]]:
        """The three distances by name, mm."""
        found = [
            ("invented to the nearest real", self.apart.min(axis=1)),
            ("real to the nearest invented", self.apart.min(axis=0)),
        ]
        # one image has no other
        return found if len(self.among) < 2 else [*found, ("real to the nearest other real", self.among.min(axis=1))]


def beside_sections(
    model: AppearanceModel, images: Sequence[Image], landmarks: Sequence[npt.ArrayLike], rng: np.random.Generator
) -> list[str]:
    """The sections of a page: invented images with the nearest real ones, distances, and densities of shapes.

    Parameters
    ----------
    model : the model
    images : real images, at least one, best ones that the model has not seen
    landmarks : landmarks of each image, (m, D) mm: see `augreg.sam.find_landmarks`
    rng : random generator of what is invented
    """
    beside = Beside.of(model, images, landmarks, rng)
    nearest = beside.apart[:_SHOWN].argmin(axis=1)
    top = [(f"invented {i + 1}", _invented(model, b, rng)) for i, b in enumerate(beside.drawn[:_SHOWN])]
    below = [
        (f"real {k + 1}, {beside.apart[i, k]:.2f} mm off", figures.picture(images[k].luminance())) for i, k in enumerate(nearest)
    ]
    width, height = model.template.sides[:2]
    picture = figures.panels([*top, *below], columns=_SHOWN, aspect=height / width)
    sections = [
        section(
            "Real beside invented",
            f"Above {len(top)} random images of the model, below each the real one of the {len(images)} whose shape is nearest. "
            "Poses and brightness are those that were drawn, or the images' own; distances leave poses out.",
            figure(picture, "invented images, each above its nearest real one") + _table(beside.told()),
        )
    ]
    return sections if model.residuals is None else [*sections, _densities(model, images, landmarks)]


def _invented(model: AppearanceModel, b: FloatArray, rng: np.random.Generator) -> figures.Draw:
    image = model.invented(b, rng)
    low, high = np.percentile(model.textures, (1, 99))
    return figures.picture(image, (float(low), float(high)))


def _densities(model: AppearanceModel, images: Sequence[Image], landmarks: Sequence[npt.ArrayLike]) -> str:
    rows, best = [], model.density("best").kind
    for kind in SINGLE:
        density = model.density(kind)
        told = Beside.of(model, images, landmarks, np.random.default_rng(0), kind).told()
        mark = " (chosen)" if kind == best else ""
        cells = [kind + mark, _parts(density), f"{density.held_out.mean():.2f}", *[f"{np.median(d):.2f}" for _, d in told[:2]]]
        rows.append(cells)
    head = [
        "shapes",
        "parts",
        "mean log density of a shape left out",
        "invented to real, median mm",
        "real to invented, median mm",
    ]
    return section(
        "Where shapes are drawn from",
        "Of the leading shape coefficients of the training images, each left out in turn: the density that expects it most is "
        "best, but the Gaussian unless the gain exceeds its standard error. For --shapes of augreg synthesize, and "
        "shapes= of a --turn of augreg train.",
        table(head, rows),
    )


def _parts(density: ShapeDensity) -> str:
    count = len(density.weights)
    return f"{count}, width {density.deviations[0, 0]:.1f}" if density.kind == "kernel" else str(count)


def _table(told: Sequence[tuple[str, FloatArray]]) -> str:
    rows = [[name, *[f"{q:.2f}" for q in np.quantile(d, (0, 0.5, 1))]] for name, d in told]
    return table(["distance of shapes, mm", "least", "median", "largest"], rows)
