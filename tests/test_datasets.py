import hashlib
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from support.realdata import path

from augreg import Grid, Image, Labels, datasets, read_image, write_image
from augreg.io import FileWarning

HEARTS = resources.files("augreg") / "data" / "hearts"


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch):
    monkeypatch.delenv("AUGREG_DATA", raising=False)


def test_hearts_are_thirty_patients_in_two_phases():
    data = datasets.hearts()
    assert len(data.images) == len(data.labels) == len(data.names) == len(data.subjects) == len(data.phases) == 60
    assert data.phases == ("ed", "es") * 30
    assert data.subjects[::2] == data.subjects[1::2]
    assert len(set(data.subjects)) == 30
    for name, subject, phase in zip(data.names, data.subjects, data.phases, strict=True):
        assert name == f"{subject}_{phase}"
    for image, labels in zip(data.images, data.labels, strict=True):
        assert image.grid == labels.grid == Grid((256, 256))
        assert image.values.dtype == np.uint8
        assert labels.unique() == (1,)
    # between its phases a heart contracts: the files are not exchanged
    volumes = np.array([np.count_nonzero(labels.values) for labels in data.labels])
    assert np.all(volumes[::2] > volumes[1::2])
    assert "Sunnybrook" in data.source


def test_hearts_are_cut_with_the_ventricle_at_end_diastole_in_the_middle():
    whole, cut = datasets.hearts(), datasets.hearts(side=150)
    assert cut.names == whole.names
    for number, name in enumerate(whole.names):
        image, labels = cut.images[number], cut.labels[number]
        assert image.grid == labels.grid == Grid((150, 150))
        first = number - number % 2
        middle = np.argwhere(whole.labels[first].values).mean(axis=0)
        # a pixel (75, 75) of both phases is the nearest one to the middle at end-diastole
        x, y = np.rint(middle).astype(int)
        assert image.values[75, 75] == whole.images[number].values[x, y], name
        assert np.abs(np.argwhere(cut.labels[first].values).mean(axis=0) - 75).max() <= 0.5 + 1e-9
        assert np.count_nonzero(labels.values) == np.count_nonzero(whole.labels[number].values)
    # some squares reach beyond their image, where air is
    beyond = datasets.hearts(side=300)
    assert all(np.count_nonzero(a.values) == np.count_nonzero(b.values) for a, b in zip(beyond.images, whole.images, strict=True))


def test_blood_is_brighter_than_the_wall_around_it():
    # a label map that is turned, or of another image, would not say so: turned ones do for half of the images
    data = datasets.hearts()
    ratios = []
    for image, labels in zip(data.images, data.labels, strict=True):
        inside = labels.values == 1
        wall = binary_dilation(inside, iterations=4) & ~binary_dilation(inside)
        ratios.append(image.values[inside].mean() / image.values[wall].mean())
    assert np.mean(np.array(ratios) > 1.2) > 0.95


def test_the_files_of_hearts_are_those_that_were_put_there_with_their_source_and_licence():
    sums = dict(line.split()[::-1] for line in (HEARTS / "SHA256SUMS").read_text(encoding="utf-8").splitlines())
    files = {file.name: file.read_bytes() for file in HEARTS.iterdir()}
    assert {name for name in files if name.endswith(".png")} == set(sums)
    for name, known in sums.items():
        assert hashlib.sha256(files[name]).hexdigest() == known, name
    assert sum(map(len, files.values())) <= 2_000_000
    about = files["README.md"].decode()
    for word in ("Radau", "2009", "CC0", "SegNetCMR", "1f41bb8bf653cafa02af7914c12d5e6b248359f9"):
        assert word in about
    assert "1f41bb8bf653cafa02af7914c12d5e6b248359f9" in files["sources.json"].decode()


def test_hearts_are_the_images_of_the_shared_folder():
    folder, data = path("cardiac2d"), datasets.hearts()
    assert sorted(file.name.removesuffix("_lv.png") for file in folder.glob("*_lv.png")) == list(data.names)
    for name, image in zip(data.names, data.images, strict=True):
        np.testing.assert_array_equal(image.values, read_image(folder / f"{name}.png").values)


def test_sample_data_are_hearts_and_nothing_is_asked_of_a_network():
    code = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('a connection')\n"
        "socket.socket.connect = refuse\n"
        "from augreg.datasets import sample_data\n"
        "print(len(sample_data().images))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "60\n"


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
    assert data.phases[:3] == ("ed", "es", "ed")
    assert len(data.labels) == 8


def test_of_several_kinds_the_first_is_taken(tmp_path, monkeypatch):
    _folder(tmp_path, [f"{i}_{part}.png" for i in range(4) for part in ("z08", "z08_labels", "z20", "z20_labels")])
    monkeypatch.setenv("AUGREG_DATA", str(tmp_path))
    data = datasets.sample_data()
    assert data.names == ("0_z08", "1_z08", "2_z08", "3_z08")
    assert len(set(data.subjects)) == 4
    assert data.phases is None
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
