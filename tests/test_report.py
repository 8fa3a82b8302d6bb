import base64
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from support import browser, spaces
from support.maps import bspline

from augreg import Affine, Image, Labels
from augreg.report import figures, registration_page
from augreg.report.demo import _curve
from augreg.report.page import page, section, table
from augreg.report.view import view


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


def moves(ndim, count):
    shift = 0.3 * np.arange(count)[:, None] * np.eye(ndim)[0]
    return [(f"step 8 mm, move {k} <", Affine(np.eye(ndim), shift[k])) for k in range(count)]


@pytest.mark.parametrize(("ndim", "count", "shown"), [(2, 5, 5), (3, 45, 40)])
def test_the_states_of_a_way_are_shown_the_last_one_first(ndim, count, shown):
    text = registration_page(image(ndim), image(ndim), bspline(ndim), moves(ndim, count))
    frames = re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="([0-9]+): step 8 mm, move [0-9]+ &lt;"( hidden)?>', text)
    assert len(frames) == shown
    assert len({picture for picture, *_ in frames}) == shown
    assert [int(number) for _, number, _ in frames][:: shown - 1] == [0, count - 1]
    assert [not hidden for *_, hidden in frames] == [False] * (shown - 1) + [True]
    assert f'max="{shown - 1}"' in text
    assert "http" not in text
    # a page of one step has no script
    assert "<script>" not in registration_page(image(ndim), image(ndim), bspline(ndim))


def test_a_slider_leads_along_the_way():
    page_text = registration_page(image(2), image(2), bspline(2), moves(2, 4))
    script = """
      const seen = () => [...document.querySelectorAll(".way img")].map((frame) => !frame.hidden);
      const slider = document.querySelector(".way input"), told = [seen()];
      slider.value = 1;
      slider.dispatchEvent(new Event("input"));
      told.push(seen(), document.querySelector(".way output").textContent);
      slider.value = 3;
      document.querySelector(".way button").click();
      told.push(seen());
      await new Promise((done) => setTimeout(done, 2500));
      told.push(seen(), document.querySelector(".way button").textContent);
      return told;
    """
    first, second, said, begun, ended, button = browser.ask(page_text, script)
    assert first == [False, False, False, True]
    assert second == [False, True, False, False]
    assert said == "1: step 8 mm, move 1 <"
    # play begins anew from the end, and stops there
    assert begun == [True, False, False, False]
    assert ended == first
    assert button == "Play"


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


def test_a_view_is_a_square_of_the_world_around_all_structures():
    grid = spaces.grid(2)
    one, other = np.zeros(grid.shape, dtype=np.uint8), np.zeros(grid.shape, dtype=np.uint8)
    one[4:6, 5:7], other[7:9, 4:6] = 1, 3
    seen = view(grid, [Labels(one, grid), Labels(other, grid)])
    places = np.concatenate([np.argwhere(one), np.argwhere(other)])
    inside = seen.indices_at(grid.points_at(places))
    assert np.all(inside > -0.5)
    assert np.all(inside < np.array(seen.shape) - 0.5)
    # voxels of a picture are about as long across as down, and it is a square up to a voxel of the grid
    assert seen.extent.max() - seen.extent.min() <= max(grid.spacing)
    # it lies within the grid
    corners = grid.indices_at(seen.points_at(np.array([[0, 0], np.array(seen.shape) - 1])))
    assert np.all(corners > -0.5)
    assert np.all(corners < np.array(grid.shape) - 0.5)
    assert max(seen.shape) == 320
    assert seen.direction == grid.direction


def test_a_view_of_a_volume_is_the_slice_amid_its_structures():
    grid = spaces.grid(3)
    values = np.zeros(grid.shape, dtype=np.uint8)
    values[2:5, 3:6, -3:] = 1
    seen = view(grid, [Labels(values, grid)])
    assert seen.shape[2] == 1
    at = grid.indices_at(seen.points_at(np.zeros(3)))
    assert at[2] == pytest.approx(grid.shape[2] - 2)
    # without structures everything, and the middle
    whole = view(grid)
    assert whole.shape == (*grid.shape[:2], 1)
    np.testing.assert_allclose(whole.points_at(np.zeros(3)), grid.points_at(np.array([0, 0, grid.shape[2] // 2])))
    assert view(grid.with_shape((640, 320, 9))).shape == (320, 160, 1)


def test_outlines_lie_on_the_borders_of_structures():
    grid = spaces.grid(2)
    inside = np.zeros(grid.shape, dtype=np.float32)
    inside[2:6, 3:8] = 1
    ax = Figure().subplots()
    figures.outlined(figures.picture(image(2)), ([Image(inside, grid)], "red"))(ax)
    corners = np.concatenate([path.vertices for part in ax.collections for path in part.get_paths()])
    # x to the right: the first axis of the array
    np.testing.assert_allclose(corners.min(axis=0), (1.5, 2.5))
    np.testing.assert_allclose(corners.max(axis=0), (5.5, 7.5))
