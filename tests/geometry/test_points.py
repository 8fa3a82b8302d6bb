"""Landmarks of other programs are LPS mm; a row that was cut is named by its line."""

import json

import numpy as np
import pytest

from augreg import read_points

POINTS = np.array([[10.5, -100.0, 80.25], [40.0, -80.0, 100.0], [-60.5, 60.0, 150.0]])
RAS = POINTS * [-1, -1, 1]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def rows(points, mark=",", decimal="."):
    return "".join(mark.join(f"{v:g}".replace(".", decimal) for v in row) + "\n" for row in points)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_commas_semicolons_and_tabs(mark, decimal, tmp_path):
    if mark == decimal:
        decimal = "."
    text = mark.join("xyz") + "\n" + rows(POINTS, mark, decimal)
    np.testing.assert_array_equal(read_points(write(tmp_path / "p.csv", text)), POINTS)
    text = mark.join(["label", "X", "Y", "t"]) + "\r\n" + "".join(f"a{mark}{x:g}{mark}{y:g}{mark}0\r\n" for x, y, _ in POINTS)
    np.testing.assert_array_equal(read_points(write(tmp_path / "p.csv", "\n" + text)), POINTS[:, :2])


@pytest.mark.parametrize(("system", "points"), [("LPS", POINTS), ("RAS", RAS), ("0", RAS), ("1", POINTS)])
def test_fiducials_of_slicer_become_lps_as_they_say(system, points, tmp_path):
    body = "".join(f"vtkMRML_{i},{a:g},{b:g},{c:g},0,0,0,1,1,1,0,F-{i},,\n" for i, (a, b, c) in enumerate(points))
    head = f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n# columns = id,x,y,z,ow,ox,oy,oz\n"
    np.testing.assert_array_equal(read_points(write(tmp_path / "p.fcsv", head + body)), POINTS)
    for bad, word in ((body, "LPS or RAS"), (head + body[: body.rindex("150")], "3 numbers in line 6"), (head, "none")):
        with pytest.raises(ValueError, match=word):
            read_points(write(tmp_path / "p.fcsv", bad))


@pytest.mark.parametrize(("system", "points"), [("LPS", POINTS), ("RAS", RAS)])
def test_markups_of_slicer_become_lps_as_they_say(system, points, tmp_path):
    control = [{"id": str(k), "position": list(p), "positionStatus": "defined"} for k, p in enumerate(points)]
    control.append({"id": "9", "position": [0, 0, 0], "positionStatus": "undefined"})
    whole = {"markups": [{"type": "Fiducial", "coordinateSystem": system, "controlPoints": control}]}
    text = json.dumps(whole)
    np.testing.assert_array_equal(read_points(write(tmp_path / "p.mrk.json", text)), POINTS)
    bad = {
        text[:-20]: "not JSON",
        "[" * 100000: "not JSON",
        "[1]": "other JSON",
        text.replace(system, "XYZ"): "LPS or RAS",
        text.replace("80.25", "NaN", 1): "NaN",
        text.replace("80.25", '"a"'): "control point 1",
    }
    for content, word in bad.items():
        with pytest.raises(ValueError, match=word) as caught:
            read_points(write(tmp_path / "p.mrk.json", content))
        assert "\n" not in str(caught.value)


def test_indices_of_napari_are_refused_with_the_remedy(tmp_path):
    text = "index,axis-0,axis-1,axis-2\n0,1,2,3\n"
    with pytest.raises(ValueError, match=r"z, y, x.*points_at"):
        read_points(write(tmp_path / "p.csv", text))


def test_rows_that_are_not_whole_are_named_by_their_line(tmp_path):
    for text, word in (
        ("x,y\n1,2\n3\n5,6\n", "line 3"),
        ("x,y,z\n1,2,3\n\n4,5,six\n", "line 4"),
        ("x,y\n1,2\n3,nan\n", "line 3"),
        ("x,y\n1,2\n3,inf\n", "line 3"),
        ("x,y\n1,2,3\n", "line 2"),
        ("x,y,x\n1,2,3\n", "once"),
        ("x;y\n1,5;2\n3\n", "line 3"),
        ('x,y\n"1,2\n', "CSV"),
        ("x,y\n1,2\0\n", "text"),
    ):
        with pytest.raises(ValueError, match=word) as caught:
            read_points(write(tmp_path / "p.csv", text))
        assert "p.csv" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_points_and_commas_as_decimal_marks_are_not_mixed(tmp_path):
    # 1.234 is 1234 where 2,5 is a number
    with pytest.raises(ValueError, match="got both"):
        read_points(write(tmp_path / "p.csv", "x;y\n1.234;2,5\n"))
    with pytest.raises(ValueError, match="line 2, got '1_000, 2'"):
        read_points(write(tmp_path / "p.csv", "x,y\n1_000,2\n"))
    # words beside the coordinates may hold both
    text = "label;x;y\na.b,c;1,5;2\n"
    np.testing.assert_array_equal(read_points(write(tmp_path / "p.csv", text)), [[1.5, 2]])


@pytest.mark.parametrize(
    ("unit", "word"), [("mm", None), (["mm", "UCUM", "mm", "millimeter"], None), ("m", "'m'"), ("um", "'um'")]
)
def test_markups_in_other_units_are_refused(unit, word, tmp_path):
    markups = {"coordinateSystem": "LPS", "coordinateUnits": unit, "controlPoints": [{"position": [1, 2, 3]}]}
    path = write(tmp_path / "p.mrk.json", json.dumps({"markups": [markups]}))
    if word is None:
        np.testing.assert_array_equal(read_points(path), [[1, 2, 3]])
    else:
        with pytest.raises(ValueError, match=f"mm, got coordinateUnits {word}"):
            read_points(path)
