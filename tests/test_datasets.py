import hashlib
import http.server
import json
import threading

import numpy as np
import pytest

from augreg import Grid, Image, Labels, datasets, write_image
from augreg.io import FileWarning


@pytest.fixture
def server(tmp_path):
    """A local copy of the repository's layout; yields its address and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_):
            pass

        def copyfile(self, source, outputfile):
            content = source.read()
            # a line that breaks in the middle of this file
            outputfile.write(content[: len(content) // 2] if "broken" in self.path else content)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()


@pytest.fixture
def table(monkeypatch, tmp_path, server):
    """A small table of four patients in place of the shipped one, with its files on the server."""
    _, folder = server
    grid = Grid((8, 9))
    files = {}
    for i in range(4):
        entry = {}
        for kind in ("image", "lv"):
            path = folder / "owner/name/abc" / f"{i}-{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(i).integers(0, 255 if kind == "image" else 2, grid.shape).astype(np.uint8)
            write_image(Image(values, grid), path)
            entry[kind] = {"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        files[f"P{i}_ed"] = entry
    package = tmp_path / "package"
    (package / "data").mkdir(parents=True)
    (package / "data" / "sunnybrook.json").write_text(
        json.dumps({"repository": "owner/name", "commit": "abc", "files": files}), encoding="utf-8"
    )
    monkeypatch.setattr(datasets.resources, "files", lambda _: package)
    return folder / "owner/name/abc"


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch):
    monkeypatch.delenv("AUGREG_DATA", raising=False)


def test_the_download_is_checked_and_cached(server, table, tmp_path):
    host, _ = server
    data = datasets.sample_data(host=host, cache=tmp_path / "cache")
    assert data.names == ("P0_ed", "P1_ed", "P2_ed", "P3_ed")
    assert data.labels is not None
    assert data.labels[1].unique() == (1,)
    for path in table.iterdir():
        path.unlink()
    again = datasets.sample_data(host=host, cache=tmp_path / "cache")
    np.testing.assert_array_equal(again.images[2].values, data.images[2].values)


def test_a_wrong_checksum_is_noticed_and_the_simulation_serves(server, table, tmp_path):
    host, _ = server
    (table / "2-image.png").write_bytes(b"something else")
    with pytest.raises(ValueError, match="SHA256 hash"):
        datasets.sunnybrook(host, tmp_path / "cache")
    data = datasets.sample_data(host=host, cache=tmp_path / "other")
    assert "simulated" in data.source
    assert not list((tmp_path / "other").glob("*2-image*"))


def test_a_transfer_that_breaks_off_ends_in_the_simulation(server, table, tmp_path, monkeypatch):
    host, _ = server
    description = json.loads(datasets.resources.files("augreg").joinpath("data/sunnybrook.json").read_text(encoding="utf-8"))
    description["files"]["P1_ed"]["image"]["path"] = "broken.png"
    (table / "1-image.png").rename(table / "broken.png")
    datasets.resources.files("augreg").joinpath("data/sunnybrook.json").write_text(json.dumps(description), encoding="utf-8")
    data = datasets.sample_data(host=host, cache=tmp_path / "cache")
    assert "nothing could be downloaded" in data.source
    assert not [p for p in (tmp_path / "cache").rglob("*") if "broken" in p.name]


def test_no_answer_ends_in_the_simulation(tmp_path):
    data = datasets.sample_data(host="http://127.0.0.1:9", cache=tmp_path / "cache")
    assert "no answer from http://127.0.0.1:9" in data.source
    assert "nothing could be downloaded" in data.source
    assert "\n" not in data.source
    assert len(data.images) == len(data.labels) == len(data.names)


def test_simulated_subjects_differ_and_have_tissues():
    data = datasets.simulated_brains("test")
    a, b = data.images[:2]
    assert np.abs(a.values - b.values).mean() > 10
    assert data.labels[0].unique() == (1, 2, 3)
    again = datasets.simulated_brains("test")
    np.testing.assert_array_equal(again.images[3].values, data.images[3].values)


def _folder(path, names):
    grid = Grid((6, 5))
    for name in names:
        values = np.random.default_rng(0).integers(0, 2, grid.shape).astype(np.uint8)
        write_image(Labels(values, grid) if "_l" in name else Image(values, grid), path / name)


def test_own_images_find_their_labels_and_phases_stay_together(tmp_path, monkeypatch):
    _folder(tmp_path, [f"{i}{part}.png" for i in range(4) for part in ("_ed", "_ed_lv", "_es", "_es_lv")])
    monkeypatch.setenv("AUGREG_DATA", str(tmp_path))
    data = datasets.sample_data()
    assert data.names[:3] == ("0_ed", "0_es", "1_ed")
    assert data.subjects[:3] == ("0", "0", "1")
    assert len(data.labels) == 8


def test_of_several_kinds_the_first_is_taken(tmp_path, monkeypatch):
    _folder(tmp_path, [f"{i}_{part}.png" for i in range(4) for part in ("z08", "z08_labels", "z20", "z20_labels")])
    monkeypatch.setenv("AUGREG_DATA", str(tmp_path))
    data = datasets.sample_data()
    assert data.names == ("0_z08", "1_z08", "2_z08", "3_z08")
    assert len(set(data.subjects)) == 4
    assert "_z08" in data.source


def test_own_images_without_labels_and_too_few(tmp_path):
    _folder(tmp_path, ["a.png", "b.png", "c.png", "d.png", "a_labels.png"])
    with pytest.warns(FileWarning, match=r"3 of 4 images have none, such as b\.png"):
        data = datasets.sample_data([str(p) for p in sorted(tmp_path.glob("?.png"))])
    assert data.labels is None
    with pytest.raises(ValueError, match="at least 4"):
        datasets.sample_data([str(tmp_path / "a.png")])


def test_an_empty_folder_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("AUGREG_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="AUGREG_DATA"):
        datasets.sample_data()
