import base64
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import spaces
from matplotlib.figure import Figure
from test_transforms import bspline

from augreg import Image
from augreg.report import figures, registration_page
from augreg.report.demo import _curve
from augreg.report.page import page, section, table


def image(ndim):
    grid = spaces.grid(ndim)
    return Image(np.random.default_rng(0).uniform(0, 9, grid.shape), grid)


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_registration_page_is_whole_and_needs_nothing_from_outside(ndim):
    text = registration_page(image(ndim), image(ndim), bspline(ndim))
    assert text.startswith("<!doctype html>")
    assert "http" not in text
    pictures = re.findall(r'src="data:image/webp;base64,([^"]+)"', text)
    assert len(pictures) == 2
    assert all(base64.b64decode(p).startswith(b"RIFF") for p in pictures)


def test_text_is_escaped():
    text = page("a < b", "x & y", [section("<i>", "t", table(["<h>"], [["<c>"]]))])
    for raw in ("<i>", "<h>", "<c>", "a < b"):
        assert raw not in text


def test_x_runs_to_the_right_and_y_downwards():
    shown = []

    class Axes:
        def imshow(self, values, **how):
            shown.append((values, how))

    figures.picture(image(2))(Axes())
    values, how = shown[0]
    grid = spaces.grid(2)
    assert values.shape == grid.shape[::-1]
    # a voxel's height over its width
    assert how["aspect"] == grid.spacing[1] / grid.spacing[0] != 1


def test_the_training_curve_keeps_clear_of_the_frame():
    ax = Figure().subplots()
    curve = [(1, 3.0), (2, 1.0)]
    _curve(ax, curve, 2.0)
    bottom, top = ax.get_ylim()
    assert bottom == 0
    assert top > 3.2


@pytest.mark.parametrize("backend", ["module://no_such.backend", "nonsense", "svg"])
def test_pages_do_not_depend_on_the_environment_s_backend(backend):
    code = (
        "import os\nfrom augreg.report.figures import plot\n"
        "assert plot(lambda ax: ax.plot([1, 2])).startswith('data:image')\n"
        "import matplotlib\nprint(os.environ['MPLBACKEND'], dict.__getitem__(matplotlib.rcParams, 'backend'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "MPLBACKEND": backend}, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    named, used = done.stdout.split(maxsplit=1)
    assert named == backend
    # pyplot finds the one of the environment where there is one
    assert (used.strip() == "svg") == (backend == "svg")
