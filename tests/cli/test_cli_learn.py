"""Commands that learn: from four real hearts to a network that registers them."""

import contextlib
import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

import augreg as ar
from augreg import cli, datasets, recipes
from augreg.networks import FlowNetS, read_network, write_network
from augreg.training import read_pairs, seeded_network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hearts of 64 x 64 voxels with label maps, and a model of them."""
    folder = tmp_path_factory.mktemp("learn")
    hearts = datasets.hearts()
    for number, (image, labels) in enumerate(zip(hearts.images[:8:2], hearts.labels[:8:2], strict=True)):
        grid = image.grid.with_shape((64, 64))
        ar.write_image(ar.resample(image.with_values(image.values.astype(np.float32)), grid), folder / f"i{number}.mha")
        ar.write_image(ar.resample(labels, grid), folder / f"l{number}.mha")
    assert run(folder, "sam fit", *names("i", 4), "--labels", *names("l", 4), "-o", "model.npz") == 0
    return folder


def names(kind, count):
    return [f"{kind}{number}.mha" for number in range(count)]


def run(folder, command, *arguments):
    """The command on the files of a folder."""
    given = [argument for part in arguments for argument in part.split()]
    return cli.main([*command.split(), *(str(folder / part) if part[0].isalpha() else part for part in given)])


def run_in(folder, line):
    """The command as typed in a folder, for lines with words that are no paths."""
    with contextlib.chdir(folder):
        return cli.main(line.split())


def test_fitting_says_what_was_fitted(folder, capsys):
    assert run(folder, "sam fit", *names("i", 4), "--labels", *names("l", 4), "-o again.npz --levels 1 --json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 4
    # without locality there are no more modes than images span
    assert result["shape_modes"] <= 3
    model = ar.read_model(folder / "model.npz")
    assert model.shape.rank > result["shape_modes"]


def test_models_without_labels_come_from_registration(folder, capsys):
    assert run(folder, "sam fit", *names("i", 3), "-o registered.npz --json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["landmarks"] > 100
    assert "registered to a template" in err
    # an error stands alone
    assert run(folder, "sam fit", *names("i", 2), "-o registered.npz") == 2
    err = capsys.readouterr().err
    assert "expected at least 3" in err
    assert len(err.splitlines()) == 1


def test_models_are_evaluated_and_shown(folder, capsys):
    assert run(folder, "sam evaluate", "model.npz", *names("i", 4), "--labels", *names("l", 4), "--samples 5 --json") == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) >= {"generalisation", "specificity", "compactness"}
    assert result["compactness"]["shape"][-1] == pytest.approx(1)
    assert run(folder, "sam show", "model.npz -o model.html") == 0
    alone = (folder / "model.html").read_text("utf-8")
    assert "data:image/webp" in alone
    assert run(folder, "sam show", "model.npz", "--images", *names("i", 2), "--labels", *names("l", 2), "-o model.html") == 0
    title = "Shape: generalisation and specificity"
    assert title in (folder / "model.html").read_text("utf-8")
    assert title not in alone
    capsys.readouterr()


def test_fields_are_shapes_and_pairs_drawn_as_asked_for(folder, capsys):
    given = " ".join(["sam fit", *names("i", 4), "--labels", *names("l", 4)])
    assert run_in(folder, f"{given} --dense velocity --taper wendland --scale 1 --levels 3 -o fields.npz --json") == 0
    assert json.loads(capsys.readouterr().out)["scale"] == 1
    model = ar.read_model(folder / "fields.npz")
    assert model.maps.name == "velocity"
    assert len(model.landmarks) == model.control.size
    options = "--appearance 0.5 --amplitude 0.7 --pose 0 --intensity 0.1 --without reverse labels"
    assert run_in(folder, f"synthesize fields.npz -n 2 -o drawn {options}") == 0
    manifest = json.loads((folder / "drawn" / "dataset.json").read_text(encoding="utf-8"))
    assert manifest["without"] == ["labels", "reverse"]
    about = manifest["generator"]
    assert {name: about[name] for name in ("appearance", "amplitude", "pose", "intensity")} == {
        "appearance": 0.5,
        "amplitude": 0.7,
        "pose": 0.0,
        "intensity": 0.1,
    }
    capsys.readouterr()
    assert run_in(folder, "synthesize fields.npz -n 2 -o other --appearance equal") == 2
    assert "--appearance" in capsys.readouterr().err


def test_resumed_synthesis_counts_what_was_there(folder, capsys):
    model = ar.read_model(folder / "model.npz")
    # five times the size of the shapes: most draws fold
    wild = replace(model, shape=replace(model.shape, variance=25 * model.shape.variance))
    ar.write_model(wild, folder / "wild.npz")
    line = "synthesize", "wild.npz -n 10 --shard-size 3 -o wild --json"
    assert run(folder, *line) == 0
    out, err = capsys.readouterr()
    whole = json.loads(out)
    assert whole["shrunk"] > 4
    assert any(f"{whole['shrunk']} of 20 shapes" in warning for warning in whole["warnings"])
    assert err.splitlines() == [f"augreg: warning: {warning}" for warning in whole["warnings"]]
    assert whole["bytes"] == sum(path.stat().st_size for path in (folder / "wild").glob("*.tar"))
    # one shard is missing, then none
    for lost, kept in (("pairs-000001.tar", 7), (None, 10)):
        if lost:
            (folder / "wild" / lost).unlink()
        assert run(folder, *line) == 0
        again = json.loads(capsys.readouterr().out)
        assert {name: again[name] for name in ("pairs", "shards", "shrunk", "kept")} == {
            "pairs": 10,
            "shards": 4,
            "shrunk": whole["shrunk"],
            "kept": kept,
        }


def test_training_says_what_it_leaves_out_of_damaged_shards(folder, capsys):
    assert run(folder, "synthesize", "model.npz -n 4 --shard-size 2 -o torn") == 0
    torn = folder / "torn" / "pairs-000001.tar"
    torn.write_bytes(torn.read_bytes()[:-40000])
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(folder, "train", "torn -o torn-run --steps 1 --batch 2 --width 0.0625") == 0
    # without tensorboard there is a line on that, too
    [line] = [line for line in capsys.readouterr().err.splitlines() if "TensorBoard" not in line]
    assert line.startswith("augreg: warning:")
    assert "1 of 2 pairs are left out" in line


def test_other_pairs_in_the_same_folder_are_refused(folder, capsys):
    assert run(folder, "synthesize", "model.npz -n 2 --seed 3 -o seeded") == 0
    capsys.readouterr()
    assert run(folder, "synthesize", "model.npz -n 2 --seed 4 -o seeded") == 2
    assert "seed" in capsys.readouterr().err


def test_a_network_is_trained_resumed_and_registers(folder, capsys):
    line = "train"
    assert run(folder, line, "model.npz -o run --steps 6 --batch 2 --width 0.0625 --json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 6
    assert result["epe_without"] > 0
    assert run(folder, line, "model.npz -o run --steps 8 --batch 2 --width 0.0625 --resume") == 0
    assert run(folder, line, "model.npz -o tuned --steps 1 --batch 2 --init", "run/weights.safetensors") == 0
    assert run(folder, "synthesize", "model.npz -n 4 -o pairs") == 0
    assert run(folder, line, "pairs -o shards --steps 2 --batch 2 --width 0.0625") == 0
    capsys.readouterr()
    # images of another size and spacing than the network's
    big = ar.Grid((150, 90), (0.9, 1.7), tuple(ar.read_image(folder / "i0.mha").grid.origin))
    for name in ("i0", "i1"):
        ar.write_image(ar.resample(ar.read_image(folder / f"{name}.mha"), big), folder / f"{name}big.mha")
    arguments = "i0big.mha i1big.mha -o flow.mha --json --model run/weights.safetensors"
    assert run(folder, "register", arguments) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["folding"] <= 1
    field = ar.read_transform(folder / "flow.mha")
    assert field.grid.matches(big)
    assert np.isfinite(field.values).all()


def test_a_run_goes_on_with_its_own_settings_alone_and_is_not_overwritten(folder, capsys):
    line = "train model.npz --batch 2 --device cpu -o kept"
    begin = f"{line} --steps 1 --width 0.0625"
    assert run_in(folder, begin) == 0
    begun = {path.name: path.read_bytes() for path in (folder / "kept").glob("*.*")}
    assert set(begun) == {"checkpoint.safetensors", "settings.json", "weights.safetensors"}
    model = ar.read_model(folder / "model.npz")
    ar.write_model(replace(model, gains=model.gains * [1.01, *[1] * (len(model.gains) - 1)]), folder / "other.npz")
    capsys.readouterr()
    go_on = f"{line} --steps 2 --resume"
    for change, said in {
        "--batch 4": "batch: the run has 2, asked for 4",
        "--seed 7 --learning-rate 1e-5": "seed: the run has 0, asked for 7; learning_rate: the run has 0.001, asked for 1e-05",
        "--width 0.125": "width: the run has 0.0625, asked for 0.125",
        "--window 31": "window: the run has none, asked for 31",
        "--architecture FlowNetC": "architecture: the run has FlowNetS, asked for FlowNetC",
        "--likeness 0": "likeness: the run has 6.0, asked for 0.0",
        "--smoothness 1": "smoothness: the run has 0.0, asked for 1.0",
        "--symmetric": "symmetric: the run has False, asked for True",
        "--curriculum 0.5": "curriculum: the run has 0.0, asked for 0.5",
    }.items():
        assert run_in(folder, f"{go_on} {change}") == 2, change
        [told] = capsys.readouterr().err.splitlines()
        assert told.startswith("augreg: kept: expected the settings of the run")
        assert told.endswith(said)
    assert run_in(folder, go_on.replace("model.npz", "other.npz")) == 2
    assert "data: the run has model " in capsys.readouterr().err
    assert run_in(folder, begin) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert "kept: expected a folder without a run, got one with checkpoint.safetensors; go on with --resume" in told
    assert {path.name: path.read_bytes() for path in (folder / "kept").glob("*.*")} == begun
    # the model itself counts, not where it lies; the network that is not asked for is the run's
    (folder / "moved.npz").write_bytes((folder / "model.npz").read_bytes())
    assert run_in(folder, go_on.replace("model.npz", "moved.npz")) == 0
    capsys.readouterr()
    assert run_in(folder, f"{line} --steps 1 --resume") == 2
    assert "steps: expected at least the 2 that the run has behind it, got 1" in capsys.readouterr().err
    # runs of before say nothing of themselves
    (folder / "kept" / "settings.json").unlink()
    assert run_in(folder, go_on) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert "settings.json: expected what the run was started with, got no file" in told
    (folder / "kept" / "settings.json").write_text("[1]", encoding="utf-8")
    assert run_in(folder, go_on) == 2
    assert "settings.json: expected the settings of a run, got something else" in capsys.readouterr().err
    assert run_in(folder, go_on.replace("kept", "nowhere")) == 2
    assert "expected a checkpoint to go on from, got none" in capsys.readouterr().err


def test_a_run_on_shards_knows_its_pairs(folder, capsys):
    assert run_in(folder, "synthesize model.npz -n 4 -o four") == 0
    assert run_in(folder, "synthesize model.npz -n 4 --seed 9 -o four-others") == 0
    line = "--batch 2 --width 0.0625 --device cpu -o of-shards"
    assert run_in(folder, f"train four {line} --steps 1") == 0
    capsys.readouterr()
    assert run_in(folder, f"train four-others {line} --resume --steps 2") == 2
    assert "data: the run has pairs " in capsys.readouterr().err
    assert run_in(folder, f"train four {line} --resume --steps 2") == 0


def test_training_writes_curves_and_looks_at_pairs_held_out(folder, capsys):
    pytest.importorskip("tensorboard")
    line = (
        "train model.npz -o curves --steps 3 --batch 2 --width 0.0625 --architecture FlowNetC --window 31 --curriculum 0.5 --json"
    )
    assert run_in(folder, line) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert 0 < result["epe_held_out"] < 3 * result["epe_without"]
    assert read_network(folder / "curves" / "weights.safetensors").network.window == 31
    assert run_in(folder, "train model.npz -o curves --steps 1 --batch 2 --window 30") == 2
    assert "expected a window of 3 voxels or more, an odd number, got 30" in capsys.readouterr().err
    assert "TensorBoard" not in err
    assert len(list((folder / "curves" / "logs").iterdir())) == 1


def test_training_with_patience_ends_with_the_best_network_and_says_so(folder, capsys, monkeypatch):
    usual = recipes.training_options
    monkeypatch.setattr(recipes, "training_options", lambda *how: replace(usual(*how), look_every=2))
    errors = iter([3.0, 1.0, 2.0, 2.0, 2.0])
    monkeypatch.setattr("augreg.training.learners.flows.pairs_error", lambda *_: next(errors))
    line = "train model.npz -o patient --steps 12 --batch 2 --width 0.0625 --device cpu --patience 2 --json"
    assert run_in(folder, line) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["steps"], told["best_step"], told["epe_held_out"]) == (8, 4, 2.0)
    settings = json.loads((folder / "patient" / "settings.json").read_text(encoding="utf-8"))["settings"]
    assert settings["patience"] == 2


def test_training_minimises_what_it_is_asked_to(folder, capsys):
    losses = {}
    for wanted in ("", "--likeness 0", "--likeness 0 --smoothness 2", "--symmetric", "--symmetric --batch 3"):
        line = f"train model.npz -o objective{len(losses)} --steps 1 --batch 2 --width 0.0625 --device cpu {wanted} --json"
        code = run_in(folder, line)
        out, err = capsys.readouterr()
        if code:
            assert "--symmetric: expected an even --batch" in err.splitlines()[-1]
        else:
            losses[wanted] = json.loads(out)["loss"]
    assert len(set(losses.values())) == 4
    bare = losses["--likeness 0"]
    assert losses[""] > bare + 0.1
    # the first flow is nearly flat
    assert bare < losses["--likeness 0 --smoothness 2"] < bare + 0.01


def test_a_rest_makes_other_pairs(folder, capsys):
    for name, rest in (("bare", ""), ("rested", "--rest 12:1.5 8:1")):
        assert run_in(folder, f"synthesize model.npz -n 2 -o {name} {rest}") == 0
    told = json.loads((folder / "rested" / "dataset.json").read_text(encoding="utf-8"))
    assert [family["spacing"] for family in told["generator"]["rest"]] == [12.0, 8.0]
    bare, rested = (read_pairs(folder / name).flow for name in ("bare", "rested"))
    assert 0.3 < (rested - bare).square().sum(dim=1).mean().sqrt() < 6
    for wrong in ("12", "0:1", "12:-1", "a:b"):
        assert run_in(folder, f"synthesize model.npz -n 2 -o wrong --rest {wrong}") == 2
        assert f"expected SPACING:RMS, a positive number and one of at least 0, in mm, got {wrong}" in capsys.readouterr().err


def test_training_without_tensorboard_says_so(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert run(folder, "train", "model.npz -o silent --steps 1 --batch 2 --width 0.0625") == 0
    assert "TensorBoard is not installed" in capsys.readouterr().err
    assert not (folder / "silent" / "logs").exists()


@pytest.mark.slow
def test_processes_of_torchrun_train_one_network_and_report_once(folder):
    line = "model.npz -o team --steps 2 --batch 4 --width 0.0625 --device cpu --json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "augreg", "train"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, *line.split()], cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=180
    )
    assert done.returncode == 0, done.stderr
    (said,) = done.stdout.splitlines()
    assert json.loads(said)["steps"] == 2
    assert (folder / "team" / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--architecture FlowNetC", "expected a network with architecture FlowNetC, got FlowNetS"),
        ("--width 0.5", "expected a network with width 0.5, got 0.03"),
        ("--window 31", "expected a network with window 31, got None"),
    ],
)
def test_weights_of_another_network_are_refused(folder, capsys, options, said):
    write_network(FlowNetS(2, 1, 0.03), (1.0, 1.0), folder / "small.safetensors")
    assert run_in(folder, f"train model.npz -o other --steps 1 --init small.safetensors {options}") == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
    write_network(FlowNetS(3, 1, 0.03), (1.0, 1.0, 1.0), folder / "solid.safetensors")
    assert run(folder, "train", "model.npz -o other --steps 1 --init solid.safetensors") == 2
    assert "expected a network with ndim 2, got 3" in capsys.readouterr().err


def test_fine_tuning_starts_from_the_weights_given(folder, capsys):
    given = FlowNetS(2, 1, 0.03)
    write_network(given, (1.0, 1.0), folder / "given.safetensors")
    assert run(folder, "train", "model.npz -o fine --steps 1 --batch 2 --learning-rate 1e-9 --init given.safetensors") == 0
    capsys.readouterr()
    tuned = read_network(folder / "fine" / "weights.safetensors").network.state_dict()
    for name, tensor in given.state_dict().items():
        np.testing.assert_allclose(tuned[name], tensor, atol=1e-7)


def test_fewer_pairs_than_a_batch_are_refused(folder, capsys):
    assert run(folder, "synthesize", "model.npz -n 3 -o few") == 0
    capsys.readouterr()
    assert run(folder, "train", "few -o other --steps 1 --batch 4") == 2
    assert "expected at least a batch of 4 pairs" in capsys.readouterr().err
    assert run(folder, "train", "few -o other --steps 1 --batch 2 --curriculum 0.5") == 2
    assert "--curriculum: expected a model" in capsys.readouterr().err


def test_a_network_says_which_options_it_does_not_know(folder, capsys):
    write_network(FlowNetS(2, 1, 0.03), (1.0, 1.0), folder / "small.safetensors")
    line = "register i0.mha i1.mha -o flow.mha --json --model small.safetensors"
    assert run_in(folder, f"{line} --rigid-mask l0.mha --criterion mi --fixed-mask l0.mha") == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert "--criterion, --rigid-mask: without effect with --model" in warnings
    assert any("masks" in warning for warning in warnings)
    assert run_in(folder, line) == 0
    assert not any("without effect" in warning for warning in json.loads(capsys.readouterr().out)["warnings"])


def test_a_network_is_used_in_passes_and_what_is_left_is_refined(folder, capsys):
    write_network(seeded_network(0, 2, 0.03), (1.0, 1.0), folder / "small.safetensors")
    line = "register i0.mha i1.mha -o flow.mha --json --model small.safetensors"
    told = {}
    for wanted in ("", "--passes 2", "--refine 4", "--passes 2 --symmetric --refine 4", "--then-program --transform rigid"):
        assert run_in(folder, f"{line} {wanted}") == 0
        told[wanted] = json.loads(capsys.readouterr().out)
        field = ar.read_transform(folder / "flow.mha")
        told[wanted]["values"] = field.displacement(field.grid) if wanted == "--then-program --transform rigid" else field.values
    assert [told[wanted]["levels"] for wanted in list(told)[:3]] == [1, 2, 1]
    assert told["--then-program --transform rigid"]["keypoints"] > 0
    assert not any("without effect" in warning for warning in told["--then-program --transform rigid"]["warnings"])
    # a network that knows nothing moves nothing, its refinement and the program do
    moved = {wanted: np.abs(one["values"]).mean() for wanted, one in told.items()}
    more = min(moved["--refine 4"], moved["--passes 2 --symmetric --refine 4"], moved["--then-program --transform rigid"])
    assert moved[""] < moved["--passes 2"] < more
    assert run_in(folder, "register i0.mha i1.mha -o flow.mha --passes 2 --then-program") == 2
    assert "--passes, --then-program: expected --model" in capsys.readouterr().err
