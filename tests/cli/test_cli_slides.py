"""`register`, `warp` and what follows them, on slides: millimetres of the header, levels that fit, pyramids written."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import augreg as ar
from augreg import cli
from augreg.datasets import hearts
from augreg.io.slides import shrunk

PIXEL = 0.002


def slide(path, pixels, noted=True):
    """A pyramid of two levels, grey."""
    notes = {f"PhysicalSize{axis}": PIXEL * 1e3 for axis in "XY"} if noted else {}
    with tifffile.TiffWriter(path, ome=True) as writer:
        more = {"tile": (256, 256), "photometric": "minisblack", "compression": "zlib"}
        writer.write(pixels, subifds=1, metadata={"axes": "YX", **notes}, **more)
        writer.write(shrunk(pixels[..., None], 2)[..., 0], subfiletype=1, **more)
    return str(path)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A heart enlarged to 2560 pixels, and the same moved by 150 and 100 of them."""
    folder = tmp_path_factory.mktemp("slides")
    heart = Pillow.fromarray(hearts().images[0].values.T).resize((2560, 2560), Pillow.Resampling.BICUBIC)
    fixed = np.asarray(heart)
    moving = np.roll(fixed, (100, 150), axis=(0, 1))
    return slide(folder / "f.ome.tif", fixed), slide(folder / "m.ome.tif", moving), folder


def run(capsys, *words):
    status = cli.main([str(word) for word in words])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_slides_are_registered_in_the_millimetres_of_their_headers(pair, capsys):
    fixed, moving, folder = pair
    words = (
        "register",
        fixed,
        moving,
        "-o",
        folder / "t.tfm",
        "--transform",
        "rigid",
        "--warped",
        folder / "w.ome.tif",
        "--json",
    )
    status, out, _ = run(capsys, *words)
    assert status == 0
    result = json.loads(out)
    assert result["units"].startswith("mm; a pixel of fixed 0.002, registered at 0.004")
    phi = ar.read_transform(folder / "t.tfm")
    middle = np.array([2.56, 2.56])
    np.testing.assert_allclose(phi(middle) - middle, [0.3, 0.2], atol=0.001)
    # the moved slide has all pixels of the fixed one
    moved, still = ar.read_slide(folder / "w.ome.tif"), ar.read_slide(fixed)
    assert moved.grid == still.grid
    inner = (slice(200, 2200), slice(200, 2200))
    difference = moved.level(0).values.astype(float) - still.level(0).values
    assert np.abs(difference[inner]).mean() < 1.0
    status, _, err = run(capsys, "warp", moving, "-t", folder / "t.tfm", "-r", fixed, "-o", folder / "again.ome.tif")
    assert (status, "2560 x 2560" in err) == (0, True)
    np.testing.assert_array_equal(ar.read_slide(folder / "again.ome.tif").level(0).values, moved.level(0).values)
    # a picture is as large as what was registered
    assert run(capsys, "warp", moving, "-t", folder / "t.tfm", "-r", fixed, "-o", folder / "w.png")[0] == 0
    assert ar.read_image(folder / "w.png").grid.shape == (1280, 1280)
    points = np.array([[1.0, 2.0], [3.0, 1.5], [2.2, 4.0]])
    ar.write_points(points, folder / "f.csv")
    ar.write_points(points + np.array([0.3, 0.2]), folder / "m.csv")
    words = ("--fixed-points", folder / "f.csv", "--moving-points", folder / "m.csv", "--json")
    status, out, _ = run(capsys, "evaluate", fixed, "-t", folder / "t.tfm", *words)
    assert json.loads(out)["tre"]["max"] < 0.001


def test_outlines_of_qupath_are_mapped_from_pixels_to_pixels(pair, capsys, tmp_path):
    fixed, moving, _ = pair
    ar.write_transform(ar.Affine(np.eye(2), [0.3, 0.2]), tmp_path / "t.tfm")
    point = {"type": "Point", "coordinates": [1000.5, 700.5]}
    feature = {"type": "Feature", "geometry": point, "properties": {"name": "a"}}
    (tmp_path / "f.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}), encoding="utf-8")
    words = ("points", tmp_path / "f.geojson", "-t", tmp_path / "t.tfm", "-r", fixed, "-o")
    assert run(capsys, *words, tmp_path / "m.geojson", "--moving", moving)[0] == 0
    found = json.loads((tmp_path / "m.geojson").read_text(encoding="utf-8"))["features"][0]
    np.testing.assert_allclose(found["geometry"]["coordinates"], [1150.5, 800.5], atol=1e-3)
    assert run(capsys, *words, tmp_path / "m.csv")[0] == 0
    np.testing.assert_allclose(ar.read_points(tmp_path / "m.csv"), [[2.3, 1.6]], atol=1e-6)
    status, _, err = run(capsys, *words, tmp_path / "m.geojson")
    assert (status, err.count("\n"), "--moving" in err) == (2, 1, True)


def test_millimetres_beside_pixels_are_refused_until_said(pair, capsys, tmp_path):
    fixed, moving, _ = pair
    bare = slide(tmp_path / "bare.ome.tif", np.asarray(ar.read_image(moving).values.T), noted=False)
    status, _, err = run(capsys, "register", fixed, bare, "-o", tmp_path / "t.tfm", "--transform", "rigid")
    assert status == 2
    assert err.count("\n") == 1
    assert "FIXED: notes a pixel of 0.002 mm, MOVING none" in err
    assert "MOVING?pixel=MM" in err
    status, _, err = run(capsys, "register", bare, fixed, "-o", tmp_path / "t.tfm", "--transform", "rigid")
    assert status == 2
    assert "MOVING: notes a pixel of 0.002 mm, FIXED none" in err
    assert "FIXED?pixel=MM" in err
    words = ("-o", tmp_path / "t.tfm", "--transform", "rigid", "--json")
    status, out, _ = run(capsys, "register", fixed, f"{bare}?pixel={PIXEL}", *words)
    assert (status, json.loads(out)["units"].split(";")[0]) == (0, "mm")
    status, out, _ = run(capsys, "register", f"{fixed}?pixel=1", f"{bare}?pixel=1", *words)
    assert status == 0
    assert abs(ar.read_transform(tmp_path / "t.tfm")([1280, 1280]) - [1430, 1380]).max() < 0.5


def test_what_does_not_fit_is_told_in_a_line(pair, capsys, tmp_path):
    fixed, moving, _ = pair
    ar.write_transform(ar.Affine.identity(2), tmp_path / "t.tfm")
    for words in (
        ("warp", moving, "-t", tmp_path / "t.tfm", "-r", fixed, "-o", tmp_path / "w.png", "--compression", "jpeg"),
        ("warp", moving, "-t", tmp_path / "t.tfm", "-r", fixed, "-o", tmp_path / "w.tif", "--fill", "300"),
        ("warp", moving, "-t", tmp_path / "t.tfm", "-r", fixed, "-o", tmp_path / "w.tif", "--channel", "3"),
        ("register", fixed, f"{moving}?level=5", "-o", tmp_path / "t.tfm"),
    ):
        status, _, err = run(capsys, *words)
        assert (status, err.count("\n")) == (2, 1)
        assert "expected" in err
    assert not (tmp_path / "w.tif").exists()


@pytest.mark.parametrize("kind", ["slide", "picture"])
def test_outside_a_white_slide_it_is_white(kind, capsys, tmp_path):
    """Its border's colour, unless a fill is given; a label map has 0 there."""
    white, side = (243, 240, 246), 1100
    values = np.empty((side, side, 3), np.uint8)
    values[:] = white
    values[300:800, 200:900] = (150, 60, 120)
    path = tmp_path / ("m.ome.tif" if kind == "slide" else "m.png")
    if kind == "slide":
        notes = {f"PhysicalSize{axis}": 1e3 for axis in "XY"}
        tifffile.imwrite(path, values, ome=True, tile=(256, 256), photometric="rgb", metadata={"axes": "YXS", **notes})
    else:
        Pillow.fromarray(values).save(path)
    ar.write_transform(ar.Affine(np.eye(2), [100.0, 0.0]), tmp_path / "t.tfm")
    out = tmp_path / ("w.ome.tif" if kind == "slide" else "w.png")
    words = ("warp", path, "-t", tmp_path / "t.tfm", "-r", path, "-o", out)
    for more, expected in (((), white), (("--fill", "7"), (7, 7, 7)), (("--interpolation", "nearest"), white)):
        assert run(capsys, *words, *more)[0] == 0
        moved = ar.read_image(out).values
        np.testing.assert_array_equal(moved[-100:], np.broadcast_to(expected, (100, side, 3)))
        np.testing.assert_array_equal(moved[:1000], values.swapaxes(0, 1)[100:])
    Pillow.fromarray(np.where(values[..., 0] > 200, 9, 2).astype(np.uint8)).save(tmp_path / "l.png")
    words = ("warp", tmp_path / "l.png", "-t", tmp_path / "t.tfm", "-r", path, "-o", out, "--labels")
    assert run(capsys, *words)[0] == 0
    assert (ar.read_labels(out).values[-100:] == 0).all()


def outlines(path, pixels):
    """Points of QuPath."""
    features = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": list(pixel)}, "properties": {}} for pixel in pixels
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def test_landmarks_of_qupath_measure_and_bind_in_pixels_of_their_slides(pair, capsys, tmp_path):
    fixed, moving, _ = pair
    ar.write_transform(ar.Affine(np.eye(2), [0.3, 0.2]), tmp_path / "t.tfm")
    pixels = np.array([[500.0, 700.0], [1500.0, 800.0], [1100.0, 2000.0]])
    words = ("--fixed-points", outlines(tmp_path / "f.geojson", pixels))
    there, off = pixels + np.array([150.0, 100.0]), pixels + np.array([151.0, 100.0])
    words += ("--moving-points", outlines(tmp_path / "m.geojson", there))
    ask = ("evaluate", fixed, "-t", tmp_path / "t.tfm", *words, "--json")
    status, out, err = run(capsys, *ask, "--moving", moving)
    assert (status, err) == (0, "")
    assert json.loads(out)["tre"]["max"] < 1e-6
    status, out, err = run(capsys, *ask)
    assert (status, out, err.count("\n"), "--moving" in err) == (2, "", 1, True)
    # three points a pixel off decide where the images may not differ from them
    options = ("--transform", "rigid", "--tolerance", "1e-6", "--json")
    words = (*words[:3], outlines(tmp_path / "bound.geojson", off))
    assert run(capsys, "register", fixed, moving, "-o", tmp_path / "b.tfm", *words, *options)[0] == 0
    phi = ar.read_transform(tmp_path / "b.tfm")
    np.testing.assert_allclose(phi(pixels * PIXEL), off * PIXEL, atol=1e-4)


def test_slides_of_which_one_is_many_times_as_large_are_refused(pair, capsys, tmp_path):
    fixed, moving, _ = pair
    ar.write_transform(ar.Affine.identity(2), tmp_path / "t.tfm")
    points = outlines(tmp_path / "f.geojson", [[1000.0, 700.0]])
    # 0.25 mm: four of these pixels are one of 2 mm, two of 0.5 one of 1, which is not the 1 of what is not noted
    for size in (0.25, 0.5, 2.0):
        wrong = f"{moving}?pixel={size}"
        status, _, err = run(capsys, "register", fixed, wrong, "-o", tmp_path / "r.tfm")
        assert (status, err.count("\n")) == (2, 1)
        assert f"of pixels of {PIXEL:g} and {size:g} mm" in err
    # who says where one lies in the other means a part of it
    start = ("--initial", tmp_path / "t.tfm", "--transform", "rigid")
    assert "expected sizes" not in run(capsys, "register", fixed, wrong, "-o", tmp_path / "r.tfm", *start)[2]
    there = (points, "-t", tmp_path / "t.tfm", "-r", fixed, "--moving", wrong, "-o", tmp_path / "m.geojson")
    assert run(capsys, "points", *there)[0] == 0
    assert run(capsys, "points", points, "-t", tmp_path / "t.tfm", "-o", tmp_path / "m.csv")[0] == 0
