"""The page of an appearance model: `augreg sam show`."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from augreg.report import figures
from augreg.report.page import figure, page, section
from augreg.sam import AppearanceModel

_MODES = 3


def mode_panels(model: AppearanceModel) -> str:
    """The mean and the first modes of shape and appearance at -2, 0 and +2 standard deviations."""
    draws = []
    for part in ("shape", "appearance"):
        count = len(getattr(model, part).variance)
        for mode in range(min(_MODES, count)):
            for deviation in (-2.0, 0.0, 2.0):
                coefficients = {name: np.zeros(len(getattr(model, name).variance)) for name in ("shape", "appearance")}
                coefficients[part][mode] = deviation
                image = model.instance(coefficients["shape"], coefficients["appearance"])
                draws.append((f"{part} {mode + 1}, {deviation:+.0f} SD" if deviation else "mean", figures.picture(image)))
    return figures.panels(draws, columns=6)


def sample_panels(model: AppearanceModel, count: int = 6, seed: int = 0) -> str:
    """Images drawn from the model."""
    rng = np.random.default_rng(seed)
    samples = [model.instance(*_drawn(model, rng)) for _ in range(count)]
    return figures.panels([(f"sample {i + 1}", figures.picture(image)) for i, image in enumerate(samples)], columns=count)


def _drawn(model: AppearanceModel, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=len(model.shape.variance)), rng.normal(size=len(model.appearance.variance))


def _compactness(model: AppearanceModel) -> str:
    def draw(ax: Axes) -> None:
        for part in ("shape", "appearance"):
            variance = getattr(model, part).variance
            ax.plot(np.arange(1, len(variance) + 1), np.cumsum(variance) / variance.sum(), label=part)
        ax.set_xlabel("number of modes")
        ax.set_ylabel("share of the modes' variance")
        ax.legend()

    return figures.plot(draw)


def model_page(model: AppearanceModel) -> str:
    """Mean, modes of variation, compactness, samples."""
    sections = [
        section(
            "Modes of variation",
            "Each row of three: one mode at -2, 0 and +2 standard deviations; 0 is the mean. Shape modes move anatomy, "
            "appearance modes change intensities.",
            figure(mode_panels(model), "modes of variation"),
        ),
        section("Compactness", "How many modes it takes to explain the variance.", figure(_compactness(model), "compactness")),
        section("Samples", "Images with all modes drawn at random.", figure(sample_panels(model), "samples")),
    ]
    lead = (
        f"{len(model.landmarks)} landmarks, {len(model.shape.variance)} shape modes, {len(model.appearance.variance)} appearance "
        f"modes, {' x '.join(map(str, model.template.shape))} voxels."
    )
    return page("Appearance model", lead, sections)
