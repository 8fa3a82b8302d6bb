"""The page of a series: `augreg series --report`. How the scene moves, how well frames agree, and the mean before and after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from augreg.geometry.grid import FloatArray
from augreg.geometry.image import Image
from augreg.io.series import Series
from augreg.report import figures
from augreg.report.page import figure, page, section, table
from augreg.series import Aligned, Moved

_AXES = "xyz"


def series_page(series: Series, moved: np.ndarray, aligned: Sequence[Aligned], motion: Sequence[Moved], to: str) -> str:
    """The motion curve and what it is worth.

    Parameters
    ----------
    series : as it was
    moved : values of the frames as they are aligned, as those of the series
    aligned, motion : of every frame
    to : what they were aligned to
    """
    times = np.arange(len(series)) * (series.step or 1.0)
    label = "s" if series.step else "frame"
    lost = [k for k, one in enumerate(aligned) if one.lost]
    translation = {f"along {axis}": [m.translation[d] for m in motion] for d, axis in enumerate(_AXES[: series.grid.ndim])}
    turns = len(motion[0].rotation)
    rotation = {("rotation" if turns == 1 else f"about {_AXES[d]}"): [m.rotation[d] for m in motion] for d in range(turns)}
    steps = {"from the frame before": [m.step for m in motion], "from the fixed space": [m.shift for m in motion]}
    agree = {"as they were": [a.similarity_before for a in aligned], "aligned": [a.similarity for a in aligned]}
    curves = [
        _curve("Translation of the centre", translation, times, label, "mm", lost),
        _curve("Rotation", rotation, times, label, "degrees", lost),
        _curve("Mean distance that points move", steps, times, label, "mm", lost),
        _curve("Correlation with what frames are aligned to", agree, times, label, "", lost),
    ]
    good = [k for k, one in enumerate(aligned) if not one.lost]
    grids = [figures.picture(Image(_mean(values[good]), series.grid)) for values in (series.values, moved)]
    spread = [figures.picture(Image(_spread(values[good]), series.grid)) for values in (series.values, moved)]
    pictures = figures.panels(
        [("mean, before", grids[0]), ("mean, after", grids[1]), ("change in time, before", spread[0]), ("after", spread[1])],
        columns=4,
    )
    lead = f"{len(series)} frames aligned to the {to}, {len(lost)} lost."
    sections = [
        section("Motion", "Frames that were lost keep the transform of the frame before; they are grey.", *curves),
        section(
            "Before and after",
            "Of the frames that were found: their mean is sharp where they are aligned; the change in time, their standard "
            "deviation, is then that of the scene alone.",
            figure(pictures, "mean and standard deviation over time, before and after"),
        ),
    ]
    doubts = [[str(k), "; ".join(one.warnings)] for k, one in enumerate(aligned) if one.warnings]
    if doubts:
        sections.append(section("Doubts", "What was said of single frames.", table(["frame", "warnings"], doubts)))
    return page("Series", lead, sections)


def _curve(title: str, curves: dict[str, list[float]], times: FloatArray, unit: str, size: str, lost: Sequence[int]) -> str:
    def draw(ax: Axes) -> None:
        for k in lost:
            ax.axvline(times[k], color="0.85", linewidth=3, zorder=0)
        for name, values in curves.items():
            ax.plot(times, values, label=name, linewidth=1.2)
        ax.set_xlabel(unit)
        ax.set_ylabel(size)
        ax.set_title(title, fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, ncols=len(curves))

    return figure(figures.plot(draw, (10.0, 2.4)), title)


def _mean(values: np.ndarray) -> np.ndarray:
    return np.nanmean(values.astype(np.float32), axis=0)


def _spread(values: np.ndarray) -> np.ndarray:
    return np.nanstd(values.astype(np.float32), axis=0)
