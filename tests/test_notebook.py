"""What notebooks show of images, maps, states, models and pairs."""

import base64
import io
import re
import xml.dom.minidom

import numpy as np
import PIL.Image
import pytest

import augreg as ar
from augreg import notebook
from augreg.geometry import cards

FLIPPED = ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))


def pixels(shown):
    """The pictures in some HTML, [row, column]."""
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", shown)
    return [np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


def text(shown):
    """All that is written in it; fails for what is not well-formed."""
    document = xml.dom.minidom.parseString(f"<div>{shown}</div>")
    return " ".join(cell.firstChild.data for cell in document.getElementsByTagName("td") if cell.firstChild)


def test_an_image_lies_as_its_first_axis_runs_right_and_its_second_down():
    values = np.zeros((40, 20))
    values[30:, :5] = 1.0
    (picture,) = pixels(ar.Image(values, ar.Grid((40, 20), (1.0, 2.0)))._repr_html_())
    # 40 mm x 40 mm
    assert picture.shape == (notebook.SIDE, notebook.SIDE)
    assert picture[5, -5] == 255
    assert picture[-5, -5] == picture[5, 5] == picture[-5, 5] == 0


def test_planes_of_a_volume_are_the_patients_whatever_the_order_of_its_axes():
    # brightest at the left, the back and the head: LPS
    grid = ar.Grid((20, 22, 24))
    left, back, head = (np.moveaxis(grid.points(), -1, 0) - np.asarray(grid.center)[:, None, None, None]) > 6
    values = 1.0 * left + 2.0 * back + 4.0 * head
    expected = pixels(ar.Image(values, grid)._repr_html_())
    axial, coronal, sagittal = expected
    assert axial[-1, -1] > axial[-1, 0] > axial[0, -1] > axial[0, 0]
    # feet are below
    assert coronal[0, -1] > coronal[0, 0] > coronal[-1, -1] > coronal[-1, 0]
    assert sagittal[0, -1] > sagittal[0, 0] > sagittal[-1, -1] > sagittal[-1, 0]
    turned = ar.Grid((20, 24, 22), (1.0,) * 3, (19.0, 0.0, 0.0), FLIPPED)
    others = pixels(ar.Image(values[::-1].swapaxes(1, 2), turned)._repr_html_())
    for one, other in zip(expected, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("values", [np.full((3, 2), np.nan), np.zeros((1, 1)), np.full((4, 4, 4), np.inf), np.eye(5, dtype=bool)])
def test_every_image_has_a_card(values):
    shown = ar.Image(values, ar.Grid(values.shape))._repr_html_()
    assert "shape" in text(shown)
    assert all(picture.max() <= 255 for picture in pixels(shown))


def test_nan_is_passed_over():
    values = np.arange(64.0).reshape(8, 8)
    values[0, 0] = np.nan
    shown = ar.Image(values, ar.Grid((8, 8)))._repr_html_()
    assert "float64, 1 to 63" in text(shown)
    assert len(np.unique(pixels(shown)[0])) > 30


def test_labels_have_a_colour_each_and_names_are_cut():
    values = np.repeat(np.arange(12), 4).reshape(12, 4)
    shown = ar.Labels(values, ar.Grid((12, 4)))._repr_html_()
    assert "11: 1, 2, 3, 4, 5, 6, 7, 8, ... 11" in text(shown)
    (picture,) = pixels(shown)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 12
    assert not picture[:, 0].any()


def test_a_slide_is_not_copied_for_its_stamp():
    values = np.broadcast_to(np.uint8(7), (30000, 20000))
    (picture,) = pixels(notebook.grey(values, (30000, 20000)))
    assert picture.shape == (round(notebook.SIDE * 2 / 3), notebook.SIDE)


def test_maps_say_how_far_they_move():
    grid = ar.Grid((30, 20), (2.0, 2.0))
    shift = ar.DisplacementField(np.broadcast_to([3.0, -4.0], (30, 20, 2)).copy(), grid)
    assert "5 mm, at most 5 mm" in text(shift._repr_html_())
    assert "5 mm, at most 5 mm" in text((ar.Affine.identity(2) @ shift)._repr_html_())
    assert "DisplacementField, Affine" in text((ar.Affine.identity(2) @ shift)._repr_html_())
    assert "moves" not in text(ar.Affine.identity(3)._repr_html_())
    assert "1.5" in text(ar.Affine(np.diag([1.0, 1.5]))._repr_html_())
    assert "13 x 12" in text(ar.BSpline.zeros(ar.Grid((40, 30)), 10.0)._repr_html_())
    assert "DisplacementField" in text(ar.Exponential(shift)._repr_html_())


def test_a_lattice_is_drawn_where_the_map_takes_it():
    def corners(transform, domain):
        (path,) = re.findall(r' d="([^"]+)"', cards.drawing(transform, domain))
        first = np.array([[float(x) for x in point.split()] for point in path.split("M")[1].split("L")])
        return first[0], first[-1]

    domain = ar.Grid((11, 11))
    # the first line drawn runs down at the left; a quarter turn takes it to the top
    start, end = corners(ar.Affine.identity(2), domain)
    np.testing.assert_allclose([start, end], [[1, 1], [1, notebook.SIDE - 1]])
    start, end = corners(ar.Affine([[0.0, -1.0], [1.0, 0.0]]), domain)
    np.testing.assert_allclose([start, end], [[notebook.SIDE - 1, 1], [1, 1]])


def test_a_state_shows_its_transform_and_every_warning():
    fixed = np.random.default_rng(0).random((40, 40))
    state = ar.registration.State(1, 2, 0.5, np.nan, ar.Affine.identity(2), 0.25, ("too <dark>", "too small"), stage="affine")
    shown = state._repr_html_()
    assert all(word in text(shown) for word in ("affine", "too <dark>", "too small", "translation"))
    last = list(ar.dense.DenseRegistration().steps(fixed, fixed))[-1]
    assert "stage" in text(last._repr_html_())


def test_models_and_pairs_show_themselves():
    from augreg.synthesis import AppearancePairs, make_pairs, training_pairs

    hearts = ar.datasets.hearts(side=64)
    model = ar.fit_appearance_model(hearts.images[:6], labels=hearts.labels[:6])
    assert "6 images" in text(model._repr_html_())
    pair = next(training_pairs(make_pairs(AppearancePairs(model), seed=0, indices=range(1)), model.template))
    shown = pair._repr_html_()
    assert len(pixels(shown)) == 2
    assert "<svg" in shown
    share = float(re.search(r"known of ([0-9.]+)%", text(shown))[1])
    assert share == pytest.approx(100 * (pair.mask.values != 0).mean(), abs=0.06)


def test_a_terminal_shows_type_shape_and_grid_on_one_line():
    grid = ar.Grid((90, 80), (1.0, 2.0), (3.0, 4.0))
    values = np.arange(7200, dtype=np.int16).reshape(90, 80)
    spline, field = ar.BSpline.zeros(grid, 5.0), ar.DisplacementField(np.zeros((90, 80, 2)), grid)
    for thing, told in (
        (ar.Image(values, grid), "Image(int16 (90, 80), "),
        (ar.Labels(values, grid), "Labels(int16 (90, 80), "),
        (spline, f"BSpline(float64 {spline.coefficients.shape}, "),
        (field, "DisplacementField(float64 (90, 80, 2), "),
    ):
        assert repr(thing) == f"{told}{thing.grid!r})"
    assert repr(spline @ field).count("\n") == 0
    assert repr(field) in repr(spline @ field)
