"""Tables of pairs: what is right is read, what is wrong is told with its line."""

from pathlib import Path

import numpy as np
import pytest

import augreg as ar
from augreg.registration.table import read_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images and label maps in a folder below the table's."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "data").mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("a", (9, 7)), ("b", (8, 6)), ("v", (5, 4, 3))):
        ar.write_image(ar.Image(rng.random(shape).astype(np.float32), ar.Grid(shape)), folder / "data" / f"{name}.mha")
    for name, numbers in (("la", (0, 1, 2)), ("lb", (0, 2, 3)), ("other", (0, 7, 8))):
        shape = (8, 6) if name == "lb" else (9, 7)
        ar.write_image(ar.Labels(rng.choice(numbers, shape).astype(np.uint8), ar.Grid(shape)), folder / "data" / f"{name}.mha")
    ar.write_points(np.array([[2.0, 3.0], [4.0, 1.0]]), folder / "data" / "p.csv")
    return folder


def table(folder: Path, text: str) -> Path:
    (folder / "pairs.csv").write_text(text, encoding="utf-8")
    return folder / "pairs.csv"


FULL = "fixed,moving,fixed_labels,moving_labels,fixed_points,moving_points\n"


def test_a_table_is_read_with_what_is_known_of_each_pair(folder):
    text = "\ufeff" + FULL + "data/a.mha, data/b.mha,data/la.mha,data/lb.mha,data/p.csv,data/p.csv\n\ndata/b.mha,data/a.mha,,,,\n"
    first, second = read_table(table(folder, text))
    pair = first.read()
    assert (pair.fixed.grid.shape, pair.moving.grid.shape) == ((9, 7), (8, 6))
    assert pair.fixed_labels is not None
    assert pair.moving_labels.grid.shape == (8, 6)
    assert pair.fixed_points.tolist() == [[2, 3], [4, 1]]
    assert first.labelled
    assert not second.labelled
    assert set(second.read().known()) == set()
    assert second.where.endswith("line 4")
    # columns in any order
    [other] = read_table(table(folder, "moving,fixed\ndata/a.mha,data/b.mha\n"))
    assert other.read().fixed.grid.shape == (8, 6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected the header fixed,moving"),
        ("fixed,moving\n", "expected pairs below the header"),
        ("fixed,other\ndata/a.mha,data/b.mha\n", "got fixed,other"),
        ("fixed,moving,fixed_labels\nx,y,z\n", "expected both columns fixed_labels,moving_labels or none"),
        ("fixed,moving\ndata/a.mha\n", "line 2: expected 2 cells as in the header, got 1"),
        ("fixed,moving\ndata/a.mha,\n", "line 2: expected a file in column moving, got an empty cell"),
        (
            "fixed,moving\ndata/a.mha,data/b.mha\ndata/a.mha,gone.mha\n",
            "line 3: expected a file in column moving, got nothing",
        ),
        (FULL + "data/a.mha,data/b.mha,data/la.mha,,,\n", "expected labels of both images or of none, got none of moving"),
        (FULL + "data/a.mha,data/b.mha,,,,data/p.csv\n", "expected points of both images or of none, got none of fixed"),
    ],
)
def test_a_table_that_is_wrong_is_refused_in_a_line(folder, text, said):
    with pytest.raises(ValueError, match="expected") as caught:
        read_table(table(folder, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fixed,moving\ndata/a.mha,data/v.mha\n", "expected images of one dimension, got 2-D and 3-D"),
        (FULL + "data/a.mha,data/b.mha,data/other.mha,data/lb.mha,,\n", "got 7, 8 (fixed) and 2, 3 (moving)"),
        ("fixed,moving\ndata/a.mha,data/p.csv\n", "p.csv"),
    ],
)
def test_a_pair_that_is_wrong_is_told_with_its_line(folder, text, said):
    [line] = read_table(table(folder, text))
    with pytest.raises(ValueError, match="line 2: ") as caught:
        line.read()
    assert said in str(caught.value)


def test_a_missing_table_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a table of pairs, got nothing"):
        read_table(tmp_path / "none.csv")
