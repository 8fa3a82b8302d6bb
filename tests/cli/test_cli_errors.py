"""Bad input gets status 2 and one line that says what; nothing is written, nothing that was there is touched."""

import json
import os
import pickle

import numpy as np
import pytest
import safetensors.numpy
import SimpleITK as sitk
import skimage.data
from support.files import Bomb

from augreg import Grid, Image, Labels, LPRegistration, cli, datasets, fit_appearance_model, write_image, write_model

CAMERA = skimage.data.camera()[::4, ::4].T


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with all sorts of files, good and bad."""
    folder = tmp_path_factory.mktemp("files")
    grid = Grid(CAMERA.shape)

    def image(name, values, g=grid):
        write_image(Image(values, g), folder / name)

    image("good.png", CAMERA)
    image("other.png", np.roll(CAMERA, 3, axis=0))
    image("zeros.png", np.zeros_like(CAMERA))
    image("constant.png", np.full_like(CAMERA, 7))
    image("nan.mha", np.full(CAMERA.shape, np.nan, dtype=np.float32))
    image("nan.nii.gz", np.full(CAMERA.shape, np.nan, dtype=np.float32))
    image("infinite.mha", np.full(CAMERA.shape, np.inf, dtype=np.float32))
    image("thin.mha", CAMERA[:, :1].copy(), Grid((128, 1)))
    image("volume.mha", np.stack([CAMERA] * 4, axis=-1), Grid((128, 128, 4)))
    image("good.nii.gz", CAMERA.astype(np.float32))
    whole = (folder / "good.nii.gz").read_bytes()
    (folder / "truncated.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "truncated.png").write_bytes((folder / "good.png").read_bytes()[:900])
    (folder / "empty.mha").write_bytes(b"")
    (folder / "noise.bin").write_bytes(bytes(range(256)) * 9)
    (folder / "text.png").write_text("not an image", encoding="utf-8")
    (folder / "two.csv").write_text("x,y\n1,2\n30,40\n", encoding="utf-8")
    (folder / "three.csv").write_text("x,y\n1,2\n3,4\n50,60\n", encoding="utf-8")
    (folder / "words.csv").write_text("x,y\none,two\n", encoding="utf-8")
    (folder / "bad.tfm").write_text("#Insight Transform File V1.0\nnothing", encoding="utf-8")
    sitk.WriteTransform(sitk.AffineTransform(3), str(folder / "three.tfm"))
    sitk.WriteTransform(sitk.AffineTransform(2), str(folder / "unit.tfm"))
    np.savez(folder / "numbers.npz", a=np.arange(3))
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb(folder / "exploded")
    np.savez(folder / "bomb.npz", kind=bomb)
    (folder / "pickle.npz").write_bytes(pickle.dumps(Bomb(folder / "exploded")))
    (folder / "pickle.safetensors").write_bytes(pickle.dumps(Bomb(folder / "exploded")))
    safetensors.numpy.save_file({"a": np.zeros(3)}, folder / "foreign.safetensors")
    subjects = datasets.hearts()
    coarse = Grid(subjects.images[0].values[::4, ::4].shape)
    hearts = [Image(np.float32(one.values[::4, ::4] / 255), coarse) for one in subjects.images[:8:2]]
    ventricles = [Labels(one.values[::4, ::4].copy(), coarse) for one in subjects.labels[:8:2]]
    for i, (heart, ventricle) in enumerate(zip(hearts, ventricles, strict=True)):
        write_image(heart, folder / f"heart{i}.mha")
        write_image(ventricle, folder / f"heart{i}_labels.png")
    write_model(fit_appearance_model(hearts, labels=ventricles), folder / "model.npz")
    content = (folder / "model.npz").read_bytes()
    (folder / "truncated.npz").write_bytes(content[: len(content) // 2])
    return folder


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


SHORT = {
    "GO": "good.png other.png -o {o}/t.tfm",
    "HEARTS": "heart0.mha heart1.mha",
    "LABELS": "heart0_labels.png heart1_labels.png",
    "UNEQUAL": "--fixed-points two.csv --moving-points three.csv",
    "WORDS": "--fixed-points words.csv --moving-points words.csv",
}
# the arguments, and a word that the line must have; {o} is the folder for outputs
BAD = {
    "missing file": ("register none.png good.png -o {o}/t.tfm", "none.png"),
    "folder instead of a file": ("register . good.png -o {o}/t.tfm", "expected"),
    "truncated nifti": ("register truncated.nii.gz good.nii.gz -o {o}/t.tfm", "truncated.nii.gz"),
    "truncated png": ("register truncated.png good.png -o {o}/t.tfm", "truncated.png"),
    "empty file": ("register empty.mha good.png -o {o}/t.tfm", "empty.mha"),
    "unreadable format": ("register noise.bin good.png -o {o}/t.tfm", "noise.bin"),
    "text for an image": ("register text.png good.png -o {o}/t.tfm", "text.png"),
    "only NaN": ("register nan.mha good.png -o {o}/t.tfm", "NaN"),
    "only NaN in NIfTI": ("register nan.nii.gz good.png -o {o}/t.tfm", "NaN"),
    "more threads than there are": ("register GO --threads 9999", "threads"),
    "control points closer than voxels": ("register GO --grid-spacing 0.001", "--grid-spacing"),
    "only infinite": ("register good.png infinite.mha -o {o}/t.tfm --warped {o}/w.mha", "moving"),
    "constant fixed": ("register constant.png good.png -o {o}/t.tfm", "constant"),
    "constant moving": ("register good.png constant.png -o {o}/t.tfm --report {o}/p.html", "constant"),
    "one voxel": ("register thin.mha good.png -o {o}/t.tfm", "2 voxels"),
    "2-D and 3-D": ("register good.png volume.mha -o {o}/t.tfm", "3-D"),
    "unequal landmarks": (
        "register GO UNEQUAL",
        "landmarks",
    ),
    "half the landmarks": ("register GO --fixed-points two.csv", "--moving-points"),
    "words as landmarks": (
        "register GO WORDS",
        "words.csv",
    ),
    "criterion without labels": ("register GO --criterion labels", "fixed_labels"),
    "empty mask": ("register GO --fixed-mask zeros.png", "fixed_mask"),
    "initial of another dimension": ("register GO --initial three.tfm", "3-D"),
    "model is a pickle": ("register GO --model pickle.safetensors", "pickle.safetensors"),
    "model of something else": ("register GO --model foreign.safetensors", "foreign.safetensors"),
    "appearance model as network": ("register GO --model model.npz", "model.npz"),
    "unknown suffix": ("register good.png other.png -o {o}/t.xyz", ".xyz"),
    "output folder missing": ("register good.png other.png -o {o}/no/t.tfm", "folder"),
    "output is an input": ("register GO --warped good.png", "good.png"),
    "unknown transform": ("register GO --transform bend", "bend"),
    "negative budget": ("register GO --budget -1", "positive"),
    "no arguments": ("register", "required"),
    "unknown command": ("regster a b", "regster"),
    "warp by a broken transform": ("warp good.png -t bad.tfm -r good.png -o {o}/w.png", "bad.tfm"),
    "warp by an image": ("warp good.png -t good.nii.gz -r good.png -o {o}/w.png", "good.nii.gz"),
    "warp into another dimension": ("warp good.png -t unit.tfm -r volume.mha -o {o}/w.mha", "3-D"),
    "points of the wrong dimension": ("points two.csv -t three.tfm -o {o}/p.csv", "coordinates"),
    "compose dimensions": ("transform compose unit.tfm three.tfm -o {o}/c.tfm", "one dimension"),
    "field without a grid": ("transform convert unit.tfm -o {o}/c.nii.gz", "grid"),
    "evaluate with unequal landmarks": (
        "evaluate good.png -t unit.tfm UNEQUAL",
        "points",
    ),
    "fit to two images": (
        "sam fit HEARTS --labels LABELS -o {o}/m.npz",
        "at least 3",
    ),
    "fit with too few label maps": (
        "sam fit HEARTS heart2.mha --labels heart0_labels.png -o {o}/m.npz",
        "--labels",
    ),
    "fit to images of unequal size": ("sam fit heart0.mha good.png heart2.mha -o {o}/m.npz", "images[1]"),
    "fit with an image as label map": (
        "sam fit HEARTS heart2.mha --labels heart0.mha heart1.mha heart2.mha -o {o}/m.npz",
        "heart0.mha",
    ),
    "show something else": ("sam show numbers.npz -o {o}/p.html", "numbers.npz"),
    "show a pickle in npz": ("sam show bomb.npz -o {o}/p.html", "bomb.npz"),
    "show a pickle": ("sam show pickle.npz -o {o}/p.html", "pickle.npz"),
    "show a truncated model": ("sam show truncated.npz -o {o}/p.html", "truncated.npz"),
    "show labels without images": ("sam show model.npz --labels heart0_labels.png -o {o}/p.html", "--labels"),
    "evaluate a missing model": ("sam evaluate none.npz heart0.mha", "none.npz"),
    "synthesize from an image": ("synthesize good.png -n 2 -o {o}/pairs", "good.png"),
    "synthesize none": ("synthesize model.npz -n 0 -o {o}/pairs", "positive"),
    "synthesize on a cluster": ("synthesize model.npz -n 1 -o {o}/pairs --scheduler 127.0.0.1:1", "scheduler: expected"),
    "train from a network": ("train foreign.safetensors -o {o}/run --steps 1", "foreign.safetensors"),
    "train from a folder without pairs": ("train . -o {o}/run --steps 1", "dataset.json"),
    "train on no device": ("train model.npz -o {o}/run --steps 1 --device abacus", "abacus"),
    "resume nothing": ("train model.npz -o {o}/run --steps 1 --resume", "expected a checkpoint"),
    "init from something else": ("train model.npz -o {o}/run --steps 1 --init foreign.safetensors", "foreign.safetensors"),
    "demo into a file": (
        "demo -o good.png --images heart0.mha heart1.mha heart2.mha heart0.mha",
        "expected a folder to write to",
    ),
    "demo on one image": ("demo -o {o}/demo --images good.png", "at least 4"),
    "demo on a missing image": ("demo -o {o}/demo --images a.png b.png c.png d.png", "a.png"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_leaves_nothing(case, files, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(files)
    arguments, word = BAD[case]
    for short, long in SHORT.items():
        arguments = arguments.replace(short, long)
    before = contents(files)
    assert cli.main(arguments.format(o=tmp_path).split()) == 2
    out, err = capsys.readouterr()
    # a machine that takes ten seconds to find out says that it is at work
    lines = [line for line in err.splitlines() if " since the start" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("augreg")
    assert word in lines[0]
    assert "Traceback" not in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []
    assert contents(files) == before


def test_an_output_that_was_there_survives_a_failure(files, tmp_path, capsys):
    target = tmp_path / "t.tfm"
    target.write_text("mine", encoding="utf-8")
    assert cli.main(["register", str(files / "constant.png"), str(files / "good.png"), "-o", str(target)]) == 2
    assert target.read_text(encoding="utf-8") == "mine"
    capsys.readouterr()


def test_what_is_unusual_but_usable_is_said_in_warnings(files, tmp_path, capsys):
    colour = np.stack([CAMERA, CAMERA, CAMERA], axis=-1)
    write_image(Image(colour, Grid(CAMERA.shape)), tmp_path / "colour.png")
    write_image(Image(CAMERA, Grid(CAMERA.shape, origin=(900.0, 0.0))), tmp_path / "far.mha")
    holes = CAMERA.astype(np.float32)
    holes[40:50, 40:50] = np.nan
    write_image(Image(holes, Grid(CAMERA.shape)), tmp_path / "holes.mha")
    for name, word in (("colour.png", "luminance"), ("far.mha", "do not overlap"), ("holes.mha", "100 of 16384")):
        arguments = ["register", str(files / "good.png"), str(tmp_path / name), "-o", str(tmp_path / "t.tfm"), "--json"]
        assert cli.main([*arguments, "--transform", "affine"]) == 0
        out, err = capsys.readouterr()
        assert any(word in warning for warning in json.loads(out)["warnings"])
        assert word in err


def test_an_interrupt_is_no_traceback(files, tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(LPRegistration, "steps", interrupted)
    arguments = ["register", str(files / "good.png"), str(files / "other.png"), "-o", str(tmp_path / "t.tfm")]
    assert cli.main(arguments) == 130
    assert capsys.readouterr().err == "augreg: interrupted\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
def test_a_link_that_leads_to_itself_is_one_line(files, tmp_path, capsys):
    (tmp_path / "loop.nii.gz").symlink_to(tmp_path / "loop.nii.gz")
    assert cli.main(["register", str(tmp_path / "loop.nii.gz"), str(files / "good.png"), "-o", str(tmp_path / "t.tfm")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "loop.nii.gz" in line


@pytest.mark.parametrize("option", ["--fixed-mask", "--fixed-labels", "--rigid-mask"])
def test_no_output_takes_the_place_of_an_input(option, files, capsys):
    before = contents(files)
    pair = f"--moving-labels {files}/zeros.png" if option == "--fixed-labels" else ""
    outputs = f"-o {files}/t.tfm --warped {files}/zeros.png"
    line = f"register {files}/good.png {files}/other.png {outputs} {option} {files}/zeros.png {pair}"
    assert cli.main(line.split()) == 2
    assert "which is also --" in capsys.readouterr().err
    assert contents(files) == before
