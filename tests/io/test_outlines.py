"""GeoJSON of QuPath: points and outlines in, through a map, and out again."""

import json

import numpy as np
import pytest

import augreg as ar

NAME = {"name": "gland", "classification": {"name": "Tumor", "color": [200, 0, 0]}}


def feature(kind, coordinates, **more):
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": NAME, **more}


RING = [[10.5, 20.5], [30.5, 20.5], [30.5, 44.0], [10.5, 20.5]]
HOLE = [[12.0, 22.0], [13.0, 22.0], [13.0, 23.0], [12.0, 22.0]]
FEATURES = [
    feature("Point", [5.5, 7.0]),
    feature("MultiPoint", [[1.5, 2.5], [3.5, 4.5]]),
    feature("Polygon", [RING, HOLE], nucleusGeometry={"type": "LineString", "coordinates": [[8.5, 9.5], [9.5, 9.5]]}),
    feature("MultiPolygon", [[RING], [HOLE]]),
    {"type": "Feature", "geometry": None, "properties": {}},
]


@pytest.mark.parametrize("content", [{"type": "FeatureCollection", "features": FEATURES}, FEATURES], ids=["collection", "list"])
def test_positions_are_mapped_and_all_else_stays(content, tmp_path):
    path, out = tmp_path / "a.geojson", tmp_path / "b.geojson"
    path.write_text(json.dumps(content), encoding="utf-8")
    outlines = ar.io.read_outlines(path)
    # half a pixel: its corners are counted there, its centres here
    np.testing.assert_array_equal(outlines.points[:3], [[5.0, 6.5], [1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(ar.read_points(path), outlines.points)
    phi = ar.Affine(np.array([[0.0, -2.0], [1.0, 0.0]]), np.array([100.0, 7.0]))
    ar.io.write_outlines(outlines.mapped(phi), out)
    np.testing.assert_allclose(ar.read_points(out), phi(outlines.points), atol=1e-12)
    moved = json.loads(out.read_text(encoding="utf-8"))
    first = (moved if isinstance(moved, list) else moved["features"])[0]
    assert first["properties"] == NAME
    np.testing.assert_allclose(first["geometry"]["coordinates"], phi([[5.0, 6.5]])[0] + 0.5)
    # the map back restores the file
    ar.io.write_outlines(ar.io.read_outlines(out).mapped(phi.inverse()), path)
    back = json.loads(path.read_text(encoding="utf-8"))
    assert (back if isinstance(back, list) else back["features"])[2]["nucleusGeometry"] == FEATURES[2]["nucleusGeometry"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "GeoJSON"),
        ("[]", "none"),
        ('{"a": 1}', "features"),
        (json.dumps({"type": "FeatureCollection", "features": 3}), "a list"),
        (json.dumps(feature("Circle", [1, 2])), "Circle"),
        (json.dumps(feature("Point", [1])), "position of a Point"),
        (json.dumps(feature("Point", [1, True])), "position of a Point"),
        (json.dumps(feature("Polygon", [[1, 2]])), "Polygon"),
        (json.dumps(feature("Point", [1, float("nan")])), "finite"),
    ],
)
def test_other_files_are_refused_in_one_line(text, told, tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=told) as caught:
        ar.io.read_outlines(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_maps_outlines(tmp_path, capsys):
    from augreg.cli import main

    source, phi = tmp_path / "a.geojson", ar.Affine(np.eye(2), np.array([3.0, -1.0]))
    source.write_text(json.dumps(FEATURES), encoding="utf-8")
    ar.write_transform(phi, tmp_path / "phi.tfm")
    for name in ("b.geojson", "b.csv"):
        assert main(["points", str(source), "-t", str(tmp_path / "phi.tfm"), "-o", str(tmp_path / name)]) == 0
        np.testing.assert_allclose(ar.read_points(tmp_path / name), phi(ar.read_points(source)))
    ar.write_points([[1.0, 2.0]], tmp_path / "c.csv")
    assert main(["points", str(tmp_path / "c.csv"), "-t", str(tmp_path / "phi.tfm"), "-o", str(tmp_path / "c.geojson")]) == 2
