import base64
import functools
import json
import re

import numpy as np
import pytest
from support.browser import ask
from support.subjects import model, people

from augreg.geometry.resampling import resample, sample
from augreg.report import Curve, Diagram, beside_sections, evaluation_diagrams, model_page
from augreg.report.beside import Beside
from augreg.report.curves import model_diagrams
from augreg.report.model import _curves, _missing
from augreg.report.payload import fading, lattice_shape, nodes, pack, payload, shape_values, shown_grid, texture_values, unpack
from augreg.sam import find_landmarks
from augreg.sam.alignment import align

KINDS = ["labels", "landmarks3d"]


@functools.cache
def page(kind):
    return model_page(model(kind))


def canvas(found):
    values = np.frombuffer(base64.b64decode(found["data"]), dtype=np.uint8)
    return values.reshape(found["height"], found["width"], 4)


def planes(image, carried, slices):
    """The pictures that the page should show: grey levels by window, one per view."""
    low, high = carried["window"]
    grey = np.clip(255 * (image.values.astype(float) - low) / (high - low), 0, 255)
    out = []
    for view in carried["views"]:
        across, down = view["axes"]
        index = tuple(slice(None) if a in (across, down) else slices[a] for a in range(image.ndim))
        picture = grey[index].T
        out.append(picture[::-1] if view["up"] else picture)
    return out


@pytest.mark.parametrize("kind", [*KINDS, "velocity"])
def test_a_moved_slider_shows_the_instance_of_the_model(kind):
    m, carried = model(kind), payload(model(kind))
    slices = [n // 2 for n in m.template.shape]
    script = """
    const shots = [pixels("#instance .plane canvas:first-child")];
    await move("shape-1", 2);
    shots.push(pixels("#instance .plane canvas:first-child"));
    await move("texture-2", -2);
    await move("shape-3", -1.5);
    shots.push(pixels("#instance .plane canvas:first-child"));
    return [shots, location.hash, document.getElementById("shape-3-value").textContent];
    """
    shots, address, label = ask(page(kind), script)
    wanted = [m.instance(), m.instance([2.0]), m.instance([2.0, 0, -1.5], [0, -2.0])]
    previous = None
    for shot, image in zip(shots, wanted, strict=True):
        expected = planes(image, carried, slices)
        found = [canvas(one)[..., 0].astype(float) for one in shot]
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert a.shape == b.shape
            # rounding to whole grey levels alone is 0.25
            assert np.abs(a - b).mean() < 0.4
        # the slider has moved the image by far more than that
        assert previous is None or np.abs(found[0] - previous).mean() > 4
        previous = found[0]
    assert "shape=2,0,-1.5" in address
    assert label == "\u22121.5"


def test_the_address_holds_the_state_and_the_buttons_change_it():
    script = """
    const value = (id) => Number(document.getElementById(id).value);
    const read = () => [value("shape-1"), value("texture-2"), document.querySelector("[data-show=outlines]").checked];
    const states = [read()];
    const lines = () => pixels("#instance .plane canvas:last-child")[0];
    const drawn = lines();
    await press("reset");
    states.push(read());
    await press("random");
    states.push([value("shape-1"), value("shape-2")]);
    await press("random");
    states.push([value("shape-1"), value("shape-2")]);
    document.getElementById("seed").value = 1;
    await press("random");
    states.push([value("shape-1"), value("shape-2")]);
    return [states, drawn];
    """
    states, drawn = ask(page("labels"), script, "#shape=1.5,0&texture=0,-9&show=outlines")
    # beyond the slider: its end
    assert states[:2] == [[1.5, -3, True], [0, 0, True]]
    assert states[2] == states[4] != states[3]
    assert (canvas(drawn)[..., 3] > 0).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_clicked_point_shows_its_correlations(kind):
    m, part = model(kind), "shape"
    grid = m.template
    script = f"""
    const frame = document.querySelector("#locality-{part} .plane"), box = frame.getBoundingClientRect();
    frame.dispatchEvent(new MouseEvent("click", {{ clientX: box.left + 0.3 * box.width, clientY: box.top + 0.6 * box.height }}));
    await next();
    const p = nearest(state.point);
    const all = [];
    for (const part of ["shape", "texture"]) {{
      const {{ length, vectors }} = model.locality[part];
      all.push([...correlations({{ length, vectors: await unpack(vectors) }}, p)]);
    }}
    return [state.point, all, pixels("#locality-{part} .plane canvas:first-child"), ["shape", "texture"].map((name) =>
      document.getElementById(`locality-${{name}}-deviation`).textContent)];
    """
    point, found, shots, deviations = ask(page(kind), script)
    assert np.allclose(point[:2], [0.3 * grid.shape[0], 0.6 * grid.shape[1]], atol=1)
    nodes = lattice_shape(grid)
    node = np.rint(np.asarray(point) * (np.asarray(nodes) - 1) / (np.asarray(grid.shape) - 1)).astype(int)
    p = np.ravel_multi_index(tuple(node), nodes)
    for r, values, shown in zip(found, (shape_values(m, grid), texture_values(m, grid)), deviations, strict=True):
        # of the model itself: cross-covariance at the two places over their variances
        covariance = np.einsum("dk,qdk->q", values[p], values)
        deviation = np.sqrt(np.einsum("qdk,qdk->q", values, values))
        expected = covariance / (deviation[p] * deviation) * fading(deviation) * fading(deviation)[p]
        assert np.abs(np.asarray(r) - expected).max() < 0.03
        assert expected.min() < 0.3 < 0.8 < expected.max()
        assert float(shown) == pytest.approx(deviation[p], abs=0.6)
    # where the correlation is high the picture is red
    picture = canvas(shots[0]).astype(float)
    at = picture[int(point[1]), int(point[0])]
    assert at[0] > at[2] + 60


@pytest.mark.parametrize("kind", KINDS)
def test_values_at_the_lattice_are_those_of_the_model(kind):
    m = model(kind)
    grid = shown_grid(m.template)
    points = nodes(grid)
    b = np.random.default_rng(0).standard_normal(m.shape.rank)
    assert np.allclose(shape_values(m, grid) @ b, m.transform(b)(points) - points)
    a = np.random.default_rng(1).standard_normal(m.appearance.rank)
    texture = m.appearance.instance(a) - m.appearance.mean
    assert np.allclose((texture_values(m, grid) @ a)[:, 0], sample(m._image(texture), points), atol=1e-3)


def test_packing_keeps_numbers_to_half_a_step():
    values = np.random.default_rng(0).normal(size=(7, 5))
    for kind in (np.int8, np.int16):
        again = unpack(pack(values, kind))
        assert np.abs(again - values.ravel()).max() <= 0.51 * np.abs(values).max() / np.iinfo(kind).max
    assert np.array_equal(unpack(pack(np.zeros(3), np.int8)), np.zeros(3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_page_is_small_whole_and_needs_nothing_from_outside(kind):
    text = page(kind)
    assert len(text) < 3e6
    assert not re.search(r"https?:|@import|url\(|\bsrc=\"(?!data:)|\bhref=", text)
    numbers = re.search(r'<script type="application/json" id="model">(.*?)</script>', text, flags=re.DOTALL)[1]
    assert len(json.loads(numbers)["views"]) == {2: 1, 3: 3}[model(kind).ndim]
    # every control has a label
    ids = re.findall(r'<input type="range" id="([^"]+)"', text)
    assert len(ids) == 12 + (3 if model(kind).ndim == 3 else 0)
    assert all(f'for="{name}"' in text for name in ids)


def test_a_page_of_a_large_model_shows_it_on_a_coarser_grid(monkeypatch):
    m = model("labels")
    monkeypatch.setattr("augreg.report.payload._POINTS", {2: 1500})
    grid = shown_grid(m.template)
    assert grid.size < 1600 < m.template.size
    # over the same box of voxels
    assert np.allclose(grid.points_at(np.full(2, -0.5)), m.template.points_at(np.full(2, -0.5)))
    script = 'const one = pixels("#instance canvas")[0]; await move("shape-1", 2.5); return [one, pixels("#instance canvas")[0]];'
    first, second = (canvas(one)[..., 0].astype(float) for one in ask(model_page(m), script))
    carried = payload(m)
    (expected,) = planes(resample(m.instance([2.5]), grid), carried, [])
    # the coarser grid is smoother
    assert np.abs(second - expected).mean() < 0.3 * np.abs(first - expected).mean()


def test_diagrams_follow_the_number_of_modes():
    m = model("labels")
    images, labels, _ = people(2, count=3, seed=5)
    landmarks = find_landmarks(m, images, labels)
    shape, texture = evaluation_diagrams(m, images, landmarks, np.random.default_rng(0))
    for diagram, rank in ((shape, m.shape.rank), (texture, m.appearance.rank)):
        generalisation = diagram.curves[0]
        assert generalisation.x[0] == 1
        assert generalisation.x[-1] == rank
        # subspaces are nested: more modes are never farther from an image
        assert (np.diff(generalisation.y) < 1e-6 + 0.02 * generalisation.y[0]).all()
    _, invented = model_diagrams(m, np.random.default_rng(0))
    real = m.textures.astype(float)
    distances = np.sqrt(((real[:, None] - real) ** 2).mean(axis=-1)) + np.where(np.eye(len(real)), np.inf, 0)
    assert dict(invented.levels)["real, nearest other"] == pytest.approx(distances.min(axis=1).mean(), rel=1e-6)


def test_a_page_says_what_its_curves_were_measured_on():
    text = page("labels")
    assert "Generalisation, and specificity against real shapes, need images" in text
    diagram = Diagram("<t>", "u & v", "x", "y", [Curve("c", np.array([1, 2]), np.array([3.0, 1.0]))])
    assert "need images" not in _missing([diagram])
    assert "<t>" not in _curves([diagram])
    assert "u & v" not in _curves([diagram])


def test_arrow_keys_move_the_chosen_point():
    script = """
    const frame = document.querySelector("#locality-texture .plane"), before = [...state.point];
    const arrow = async (key) => { frame.dispatchEvent(new KeyboardEvent("keydown", { key })); await next(); };
    for (const key of ["ArrowRight", "ArrowRight", "ArrowUp", "Enter"]) await arrow(key);
    return [before, state.point, location.hash];
    """
    before, after, address = ask(page("labels"), script, "#point=20,10")
    assert before == [20, 10]
    assert after == [22, 9]
    assert "point=22,9" in address


@pytest.mark.parametrize("kind", KINDS)
def test_real_images_stand_beside_invented_ones_and_their_nearest(kind):
    m = model(kind)
    images, labels, landmarks = people(m.ndim)
    given = find_landmarks(m, images[:4], labels[:4]) if kind == "labels" else landmarks[:4]
    beside = Beside.of(m, images[:4], given, np.random.default_rng(0), count=30)
    shapes = m.shape.instance(beside.drawn)
    real = np.stack([align(p, m.landmarks, m.alignment)[0] for p in given])
    apart = np.linalg.norm(shapes.reshape(30, 1, -1, m.ndim) - real, axis=-1).mean(axis=-1)
    assert np.allclose(beside.apart, apart)
    told = dict(beside.told())
    assert np.allclose(told["invented to the nearest real"], apart.min(axis=1))
    assert np.allclose(told["real to the nearest invented"], apart.min(axis=0))
    among = np.linalg.norm(real[:, None] - real, axis=-1).mean(axis=-1)
    assert np.allclose(told["real to the nearest other real"], np.sort(among, axis=1)[:, 1])
    # one image has no other
    assert len(Beside.of(m, images[:1], given[:1], np.random.default_rng(0), count=3).told()) == 2
    text = model_page(m, beside=beside_sections(m, images[:4], given, np.random.default_rng(0)))
    median = np.median(told["real to the nearest other real"])
    assert f"<td>{median:.2f}</td>" in text
    assert text.count("(chosen)") == 1
    for name in ("Real beside invented", "Where shapes are drawn from", "gaussian", "kernel", "mixture"):
        assert name in text
