"""Agents on the command line: trained on pairs of a table, of a model and of shards, resumed, used and refused."""

import contextlib
import json

import numpy as np
import pytest

import augreg as ar
from augreg import cli
from augreg.agents import read_agent

GRID = ar.Grid((32, 28), (2.0, 2.0))
SMALL = "--batch 4 --width 0.1 --device cpu --threads 1 --spacing 6"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A head with a bright and a dark spot, and the same in two other poses."""
    folder = tmp_path_factory.mktemp("heads")
    for number, (degrees, shift) in enumerate([(0, (0, 0)), (20, (8, -4)), (-15, (-6, 3))]):
        angle = np.deg2rad(degrees)
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        pose = ar.Affine(matrix, GRID.center + shift - matrix @ GRID.center)
        x = pose.inverse()(GRID.points()) - GRID.center
        values, labels = np.zeros(GRID.shape, np.float32), np.zeros(GRID.shape, np.uint8)
        for name, (middle, size, height) in enumerate([((0, 0), 18, 50), ((-8, 5), 6, 60), ((7, -6), 5, -40)], start=1):
            inside = np.linalg.norm(x - middle, axis=-1) < size
            values[inside] += height
            labels[inside] = name
        ar.write_image(ar.Image(values, GRID), folder / f"i{number}.mha")
        ar.write_image(ar.Labels(labels, GRID), folder / f"l{number}.mha")
    rows = [f"i0.mha,i{number}.mha,l0.mha,l{number}.mha" for number in (1, 2)]
    (folder / "pairs.csv").write_text("\n".join(["fixed,moving,fixed_labels,moving_labels", *rows]), encoding="utf-8")
    (folder / "plain.csv").write_text("fixed,moving\ni0.mha,i0.mha\n", encoding="utf-8")
    return folder


def run(folder, line):
    with contextlib.chdir(folder):
        return cli.main(line.split())


def test_an_agent_is_trained_resumed_and_used(folder, capsys):
    options = f"{SMALL} --offsets 12 25 --learning-rate 0.003 --jitter 3 1 --gamma 0.1 --json"
    assert run(folder, f"train pairs.csv -o run --agent rigid --steps 40 {options}") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["steps"], told["pairs"]) == (40, 2)
    first = read_agent(folder / "run" / "weights.safetensors").network
    assert first.view.spacing == (6.0, 6.0)
    assert run(folder, "train pairs.csv -o run --agent rigid --steps 41 --spacing 6 --device cpu --threads 1 --resume") == 0
    assert run(folder, "train pairs.csv -o run --agent rigid --steps 42 --offsets 5 5 --spacing 6 --resume") == 2
    assert "offsets: the run has [12.0, 25.0], asked for [5.0, 5.0]" in capsys.readouterr().err
    assert run(folder, "register i0.mha i1.mha -o phi.tfm --model run --report page.html --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["stage"] == "start" or "move" in told["stage"]
    phi = ar.read_transform(folder / "phi.tfm")
    assert np.allclose(phi.matrix @ phi.matrix.T, np.eye(2))
    then = "--then-program --transform rigid"
    assert run(folder, f"register i0.mha i1.mha -o phi.tfm --model run/weights.safetensors {then} --json") == 0
    assert json.loads(capsys.readouterr().out)["stage"].startswith("rigid, level")
    assert np.allclose(ar.read_transform(folder / "phi.tfm").matrix @ ar.read_transform(folder / "phi.tfm").matrix.T, np.eye(2))
    assert run(folder, "test run pairs.csv --json") == 0
    assert np.isfinite(json.loads(capsys.readouterr().out)["network"]["dice"])


def test_pairs_without_labels_lie_as_they_should_and_double_q_is_there(folder, capsys):
    how = "--agent similarity --learn double-q --mirrored sideways --contrasts maps --steps 3"
    assert run(folder, f"train plain.csv -o doubleq {how} {SMALL} --json") == 0
    assert "reward" in json.loads(capsys.readouterr().out)
    assert read_agent(folder / "doubleq" / "weights.safetensors").network.view.kind == "similarity"


def test_pairs_of_a_model_and_of_shards_have_the_pose_of_their_truth(folder, capsys):
    names = [" ".join(f"{kind}{number}.mha" for number in range(3)) for kind in "il"]
    assert run(folder, f"sam fit {names[0]} --labels {names[1]} -o model.npz --levels 1") == 0
    assert run(folder, f"train model.npz -o ofmodel --agent rigid --pool 6 --steps 2 {SMALL}") == 0
    assert run(folder, "synthesize model.npz -n 6 -o shards") == 0
    assert run(folder, f"train shards -o ofshards --agent rigid --steps 2 {SMALL} --json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["pairs"] == 6


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train pairs.csv -o bad --offsets 5 5", "--offsets: expected --agent, which this is about, got none"),
        ("train pairs.csv -o bad --agent rigid --map affine", "--map: expected no --agent, to which it says nothing"),
        ("train pairs.csv -o bad --agent rigid --trunk unet", "--trunk: expected no --agent"),
        ("train pairs.csv -o bad --agent rigid --mirrored all", "--mirrored: expected none or sideways with --agent, got all"),
        ("train pairs.csv -o bad --agent rigid --contrasts labels", "--contrasts: expected none or maps with --agent"),
        ("train pairs.csv -o bad --agent rigid --prior plausible", "--prior: expected no --agent, to which it says nothing"),
        ("train pairs.csv -o bad --agent rigid --turn shared", "--turn: expected a model to draw from, got pairs"),
        ("train pairs.csv -o bad --agent rigid --spacing 1 2 3", "--spacing: expected one number or 2, got 3"),
        ("train pairs.csv -o bad --agent rigid --offsets -5 5", "shift, rotation, scale: expected numbers of at least 0"),
        ("train pairs.csv --agent rigid", "expected what to learn from and a folder for the run, got none"),
        ("train none.csv -o bad --agent rigid", "none.csv: expected a table of pairs, got nothing"),
        ("register i0.mha i1.mha -o bad.tfm --model run --passes 2", "--passes: expected a network of maps, got an agent, run"),
        ("test run pairs.csv --tile 64", "--tile: expected a network of maps, got an agent"),
        ("export run -o bad.pt --shape 8 8", "expected an augreg network file, got one that holds something else"),
    ],
)
def test_what_an_agent_cannot_do_is_refused_in_a_line(folder, capsys, line, said):
    if "run" in line.split() and not (folder / "run").is_dir():
        run(folder, f"train pairs.csv -o run --agent rigid --steps 1 {SMALL}")
    capsys.readouterr()
    assert run(folder, line) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert said in told
    assert not (folder / "bad").exists()
