"""The picture of the start page: `python docs/pictures/make.py` writes `docs/pictures/augreg.png`.

The heart is the last patient of the sample data, whom the network that comes with augreg was not trained on; the section is
that of the tutorial.
"""

import runpy
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from PIL import Image

import augreg as ar
from augreg.report.figures import deformed_grid, overlay
from augreg.training import FlowRegistration

HERE = Path(__file__).resolve().parent


def rows():
    """A title, a pair and its map per row."""
    hearts = ar.datasets.hearts(side=128)
    flow = FlowRegistration.from_file("sunnybrook-sax")
    fixed, moving = hearts.images[-2:]
    yield "learned from few images", fixed, moving, ar.Chained(flow, flow)(fixed, moving)
    section = runpy.run_path(str(HERE.parent / "tutorials" / "2_sections.py"))
    fixed, moving = section["fixed"], section["moving"]
    yield "by linear programming", fixed, moving, ar.LPRegistration()(fixed, moving)


def main():
    """Write the picture."""
    mpl.use("Agg")
    parts = list(rows())
    figure, axes = plt.subplots(len(parts), 3, figsize=(9, 6.2), layout="constrained")
    for line, (title, fixed, moving, phi) in zip(axes, parts, strict=True):
        draws = {
            "before": overlay(fixed, moving),
            f"after ({title})": overlay(fixed, ar.warp(moving, phi, fixed.grid)),
            "the map": deformed_grid(fixed, phi),
        }
        for ax, (name, draw) in zip(line, draws.items(), strict=True):
            draw(ax)
            ax.set_title(name, fontsize=10)
            ax.set_axis_off()
    figure.savefig(HERE / "augreg.png", dpi=80)
    # 64 colours: a third of the bytes
    Image.open(HERE / "augreg.png").convert("RGB").quantize(64).save(HERE / "augreg.png", optimize=True)


if __name__ == "__main__":
    main()
