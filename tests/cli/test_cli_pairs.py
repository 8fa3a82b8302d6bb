"""Real pairs on the command line: a table is trained on, tested, exported."""

import contextlib
import importlib.util
import json

import numpy as np
import pytest
import torch
from support import subjects

import augreg as ar
from augreg import cli, training
from augreg.networks import FlowRegistration, read_network
from augreg.sam import write_model
from augreg.tensors import image_to_tensor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four people, a blob with two structures each, and tables of their pairs."""
    folder = tmp_path_factory.mktemp("people")
    grid = ar.Grid((32, 36))
    for number in range(4):
        away = np.linalg.norm((grid.points() - (15 + number, 18 - number)) / (1, 1 + 0.1 * number), axis=-1)
        noise = np.random.default_rng(number).normal(size=grid.shape)
        ar.write_image(ar.Image((100 * np.exp(-((away / 9) ** 2)) + noise).astype(np.float32), grid), folder / f"i{number}.mha")
        values = np.where(away < 5, 2, np.where(away < 10, 1, 0)).astype(np.uint8)
        ar.write_image(ar.Labels(values, grid), folder / f"l{number}.mha")
    order = [(a, b) for a in range(4) for b in range(4) if a != b][:7]
    rows = [f"i{a}.mha,i{b}.mha,l{a}.mha,l{b}.mha" for a, b in order]
    (folder / "pairs.csv").write_text("\n".join(["fixed,moving,fixed_labels,moving_labels", *rows]), encoding="utf-8")
    write_model(subjects.model(), folder / "small.npz")
    (folder / "plain.csv").write_text("fixed,moving\ni0.mha,i1.mha\n", encoding="utf-8")
    (folder / "half.csv").write_text(
        "\n".join(["fixed,moving,fixed_labels,moving_labels", *rows[:1], "i0.mha,i1.mha,,"]), encoding="utf-8"
    )
    return folder


def run(folder, line):
    """The command as typed in a folder."""
    with contextlib.chdir(folder):
        return cli.main(line.split())


SMALL = "--batch 2 --width 0.25 --trunk unet --device cpu --threads 1"


def stopping_at(step):
    """A bar that is interrupted there."""

    @contextlib.contextmanager
    def bar(*_, **__):
        def update(done, note=""):
            if done == step:
                raise KeyboardInterrupt

        yield update

    return bar


def weights(folder, name):
    return (folder / name / "weights.safetensors").read_bytes()


def test_a_network_of_descriptors_is_trained_says_what_it_sees_and_bears_a_negative(folder):
    line = f"train pairs.csv {SMALL} --descriptor edges --map velocity --marks one --objective labels --steps 2"
    assert run(folder, f"{line} -o edges") == 0
    flow = FlowRegistration.from_file(folder / "edges" / "weights.safetensors")
    assert flow.network.description["architecture"] == "Described"
    fixed, moving = (ar.read_image(folder / f"i{number}.mha") for number in (2, 3))
    negative = moving.with_values(100 - moving.values.astype(float))
    points = fixed.grid.points()[5:-5, 5:-5]
    found, known = flow(fixed, negative)(points), flow(fixed, moving)(points)
    np.testing.assert_allclose(found, known, atol=1e-3)


def test_a_table_is_learned_from_and_a_run_that_goes_on_is_the_same_run(folder, capsys, monkeypatch):
    line = f"train pairs.csv {SMALL} --map velocity --scales 2 1"
    assert run(folder, f"{line} -o whole --steps 4 --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["epe"] is None
    assert np.isfinite(told["loss"])
    settings = json.loads((folder / "whole" / "settings.json").read_text(encoding="utf-8"))["settings"]
    assert settings["objective"] == "likeness+labels"
    assert settings["smoothness"] == 0.5
    # stopped in the third step, when the checkpoint is that of the first
    with monkeypatch.context() as patch:
        patch.setattr("augreg.cli.followed.bar", stopping_at(3))
        assert run(folder, f"{line} -o again --steps 4") == 130
    assert not (folder / "again" / "weights.safetensors").exists()
    assert run(folder, "train pairs.csv --device cpu --threads 1 -o again --steps 4 --resume") == 0
    assert weights(folder, "again") == weights(folder, "whole")
    assert run(folder, "train pairs.csv --spacing 2 --device cpu -o again --steps 8 --resume") == 2
    assert "data: the run has table " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("pairs.csv --trunk flownet", "expected images of 64 voxels or more along each axis for the strides of FlowNetS"),
        ("plain.csv --objective labels", "--objective: expected label maps of all pairs for labels"),
        ("half.csv --objective labels", "--objective: expected label maps of all pairs for labels"),
        ("pairs.csv --objective truth", "--objective: expected words without truth"),
        ("pairs.csv --objective beauty", "objective: expected one or more of truth, velocity, likeness"),
        ("pairs.csv --patience 3", "--patience: expected a model or a folder of pairs, some of which are held out, got a table"),
        ("pairs.csv --curriculum 0.5", "--curriculum: expected a model to draw from, got a table of pairs"),
        (
            "pairs.csv --prior critic",
            "prior: expected critic=elastic or critic=model, which a critic learns from",
        ),
        ("pairs.csv --prior plausible", "prior: expected an appearance model for plausible, got none; give --shapes MODEL.npz"),
        ("pairs.csv --prior critic=model", "prior: expected an appearance model for critic=model, got none"),
        ("plain.csv --prior critic=elastic", "prior: expected label maps for critic=elastic, which are its tissues, got none"),
        ("pairs.csv --shapes gone.npz", "--shapes: expected --prior plausible or critic=model beside it, got none"),
        ("pairs.csv --prior plausible --shapes small.npz", "prior: expected a model of images as the pairs', (32, 36) voxels"),
        ("pairs.csv --prior plausible --map affine", "prior: expected a map that bends, affine ones cost nothing"),
        ("plain.csv --contrasts labels", "--contrasts: expected label maps of what is learned from for labels, got none"),
        ("plain.csv --targets shapes", "targets: expected label maps of all pairs, whose outlines are matched"),
        ("small.npz --targets shapes --map velocity", "--targets: expected PAIRS.csv with label maps, got another source"),
        ("pairs.csv --objective velocity --map velocity", "--objective: expected words without velocity, which real pairs"),
        ("pairs.csv --targets shapes --objective velocity", "objective: expected the map velocity at one scale for velocity"),
        ("pairs.csv --tile 16 --map affine", "tile: expected a map that looks nearby, got affine"),
        ("pairs.csv --tile 16 --prior critic=elastic", "tile: expected no prior, which knows whole maps, got critic=elastic"),
        (
            "pairs.csv --tile 4",
            "network: expected images of 8 voxels or more along each axis for the strides of UNet, got (4, 4)",
        ),
        ("pairs.csv --turn shared", "--turn: expected a model to draw from, got a table of pairs"),
        ("pairs.csv --window 9", "window: expected none with UNet"),
        ("none.csv", "expected a table of pairs, got nothing"),
        ("pairs.csv --spacing 1 1 1", "spacing: expected one number or 2, got 3"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_there_is_a_folder(folder, capsys, line, said):
    trunk = "" if "--trunk" in line else "--trunk unet"
    assert run(folder, f"train {line} {trunk} -o wrong --steps 1 --device cpu") == 2
    [told] = capsys.readouterr().err.splitlines()
    assert said in told
    assert not (folder / "wrong").exists()


def test_outlines_are_targets_of_velocities_and_patches_are_learned_from(folder, capsys):
    lines = {
        "velocity": "pairs.csv --targets shapes --map velocity --objective velocity --jitter 5 2",
        "patches": "pairs.csv --targets shapes --trunk patchnet --tile 16 --symmetric",
        "of a model": "small.npz --tile 24 --trunk regnet",
    }
    for name, line in lines.items():
        trunk = "" if "--trunk" in line else "--trunk unet"
        asked = f"train {line} {trunk} -o {name[:2]} --batch 2 --width 0.25 --steps 2 --device cpu --threads 1 --json"
        assert run(folder, asked) == 0
        told = json.loads(capsys.readouterr().out)
        # there is a truth
        assert np.isfinite(told["epe"])
        assert told["epe_without"] > 0
    settings = json.loads((folder / "pa" / "settings.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["objective"], settings["tile"], settings["targets"]) == ("truth", 16, "shapes")
    assert run(folder, "register i0.mha i1.mha -o phi.h5 --model pa/weights.safetensors --tile 16:16") == 0


def test_minutes_become_steps_that_a_run_keeps_when_it_goes_on(folder, capsys, monkeypatch):
    line = f"train pairs.csv {SMALL} --width 0.125"
    # the steps that fit are settled by the clock: two of 3 seconds
    monkeypatch.setattr(training.Pace, "steps", lambda _, minutes: round(20 * minutes))
    with monkeypatch.context() as patch:
        patch.setattr("augreg.cli.followed.bar", stopping_at(2))
        assert run(folder, f"{line} --minutes 0.2 -o timed") == 130
    assert "4 steps take about " in capsys.readouterr().err
    monkeypatch.setattr(training.Pace, "steps", lambda *_: 99)
    assert run(folder, f"{line} --minutes 0.3 -o timed --resume") == 2
    assert capsys.readouterr().err.strip().endswith("minutes: the run has 0.2, asked for 0.3")
    assert run(folder, "train pairs.csv --device cpu --threads 1 --minutes 0.2 -o timed --resume --json") == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 4
    assert run(folder, f"{line} -o counted --steps 4") == 0
    assert weights(folder, "timed") == weights(folder, "counted")


def test_maps_are_held_to_a_model_and_a_critic_and_the_run_goes_on(folder, capsys, monkeypatch):
    people = [" ".join(f"{kind}{number}.mha" for number in range(4)) for kind in "il"]
    assert run(folder, f"sam fit {people[0]} --labels {people[1]} -o shapes.npz --levels 2") == 0
    words = "--prior plausible:0.5+critic=model:0.2 --contrasts maps"
    capsys.readouterr()
    assert run(folder, f"train pairs.csv {words} --explain") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["prior"], told["contrasts"]) == ("plausible:0.5+critic=model:0.2", "maps")
    line = f"train pairs.csv {SMALL} --width 0.125 --shapes shapes.npz --steps 4"
    assert run(folder, f"{line} {words} -o held") == 0
    with monkeypatch.context() as patch:
        patch.setattr("augreg.cli.followed.bar", stopping_at(3))
        assert run(folder, f"{line} {words} -o cut") == 130
    assert run(folder, f"{line} -o cut --resume") == 0
    assert weights(folder, "cut") == weights(folder, "held")
    # other words, another network
    assert run(folder, f"{line} --prior plausible:0.5 --contrasts maps -o alone") == 0
    states = [read_network(folder / name / "weights.safetensors").network.state_dict() for name in ("held", "alone")]
    assert any(not torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert run(folder, f"{line} --prior plausible:0.4 -o cut --resume") == 2
    assert "prior: the run has plausible:0.5+critic=model:0.2, asked for plausible:0.4" in capsys.readouterr().err
    # a model has shapes, tissues and labels of its own
    line = "train shapes.npz --trunk unet --width 0.125 --batch 2 --device cpu --threads 1 --steps 1 -o drawn"
    assert run(folder, f"{line} --prior plausible+critic=elastic --contrasts labels") == 0


def test_pairs_without_labels_are_learned_by_likeness(folder, capsys):
    assert run(folder, "train plain.csv --explain") == 0
    assert json.loads(capsys.readouterr().out)["objective"] == "likeness"
    assert run(folder, "train pairs.csv --explain") == 0
    assert json.loads(capsys.readouterr().out)["objective"] == "likeness+labels"
    assert run(folder, f"train plain.csv {SMALL} --map affine --objective mind --spacing 2 -o plain --steps 1") == 0
    assert run(folder, "register i0.mha i1.mha --model plain/weights.safetensors -o plain.tfm") == 0
    assert isinstance(ar.read_transform(folder / "plain.tfm"), ar.Affine)


@pytest.fixture(scope="module")
def network(folder):
    """A run of one step, on pairs with labels."""
    assert run(folder, f"train pairs.csv {SMALL} -o tiny --steps 1") == 0
    return folder / "tiny"


def test_a_network_is_tested_beside_the_program_and_nothing(folder, network, capsys):
    capsys.readouterr()
    assert run(folder, "test tiny pairs.csv --report page.html --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["pairs"]) == 7
    for name in ("none", "program", "network"):
        assert {"dice", "jaccard", "similarity", "folding", "milliseconds"} <= set(told[name])
        assert told[name]["dice"] == pytest.approx(np.mean([pair[name]["dice"] for pair in told["pairs"]]))
        assert set(told[name]["dice_per_label"]) == {"1", "2"}
    # a network of one step does next to nothing, the program a lot
    assert told["network"]["dice"] == pytest.approx(told["none"]["dice"], abs=0.02)
    assert told["program"]["dice"] > told["none"]["dice"] + 0.05
    assert told["program"]["similarity"] > told["none"]["similarity"]
    first, fixed, moving = told["pairs"][0], *(ar.read_labels(folder / f"l{number}.mha") for number in (0, 1))
    assert first["none"]["dice_per_label"]["2"] == pytest.approx(ar.metrics.dice(fixed, moving)[2])
    beside = {numbers["with"]: numbers for numbers in told["compared"]}
    assert beside["program"]["by"] == "dice"
    assert beside["program"]["worse"] == 7
    # all seven signs alike: 2 / 2^7
    assert beside["program"]["p"] == pytest.approx(2 / 2**7)
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert page.count("<img") == 6
    assert "the network is better than the linear program in 0 of 7 pairs" in page
    assert run(folder, "test tiny/weights.safetensors pairs.csv --tile 16:16") == 0
    out = capsys.readouterr().out
    assert "the network is better than the linear program in 0 of 7 pairs" in out
    assert "p = 0.0156: worse" in out


def test_few_pairs_are_no_proof(folder, network, capsys):
    assert run(folder, "test tiny plain.csv") == 0
    out = capsys.readouterr().out
    assert "By similarity the network is" in out
    assert "a paired test needs 6 pairs or more" in out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("test gone pairs.csv", "expected a file or the name of a network"),
        ("test . pairs.csv", "expected the folder of a run that has ended"),
        ("test tiny none.csv", "expected a table of pairs, got nothing"),
        ("test tiny pairs.csv --device abacus", "device: expected cpu, cuda, mps or auto"),
        ("test tiny pairs.csv --tile 15", "multiples of the coarsest cells"),
        ("test tiny pairs.csv --tile 16:32", "margin: expected at most the tile"),
        ("register i0.mha i1.mha -o t.tfm --model tiny/weights.safetensors --device abacus", "device: expected cpu, cuda, mps"),
        ("register i0.mha i1.mha -o t.tfm --device cpu", "--device: expected --model"),
    ],
)
def test_what_cannot_be_tested_is_refused_in_a_line(folder, network, capsys, line, said):
    capsys.readouterr()
    assert run(folder, line) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert said in told


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_network_is_exported_and_says_the_same(folder, network, capsys):
    capsys.readouterr()
    assert run(folder, "export tiny -o net.pt --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["shape"] == [32, 36]
    assert told["miss"] <= 1e-4
    images = [ar.read_image(folder / f"i{number}.mha") for number in (2, 3)]
    flow = torch.jit.load(folder / "net.pt")(*map(image_to_tensor, images))
    phi = FlowRegistration.from_file(network / "weights.safetensors")(*images)
    np.testing.assert_allclose(flow[0].movedim(0, -1).detach(), phi.displacement(images[0].grid), atol=1e-3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("export tiny -o net.txt", "ending in .onnx .pt"),
        ("export tiny -o net.pt --shape 8 8 8", "shape: expected 2 numbers"),
        ("export tiny/weights.safetensors -o net.pt", "--shape: expected the voxels of the images"),
        ("export . -o net.pt", "expected the folder of a run that has ended"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_line(folder, network, capsys, line, said):
    capsys.readouterr()
    assert run(folder, line) == 2
    [told] = capsys.readouterr().err.splitlines()
    assert said in told


def test_onnx_without_its_packages_says_what_to_install(folder, network, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    capsys.readouterr()
    assert run(folder, "export tiny -o net.onnx") == 2
    assert "onnxruntime for ONNX, not installed; pip install augreg[onnx], or write .pt" in capsys.readouterr().err


def test_recipes_with_marks_learn_labels_and_need_none_afterwards(folder, capsys):
    for recipe, structures in (("hearts", 2), ("multimodal", 2)):
        assert run(folder, f"train pairs.csv --recipe {recipe} --batch 2 --device cpu --threads 1 --steps 2 -o {recipe}") == 0
        flow = FlowRegistration.from_file(folder / recipe / "weights.safetensors")
        assert [marker.marks for marker in flow.network.markers] == [structures] * (1 if recipe == "hearts" else 2)
        assert flow.centred == (recipe == "multimodal")
        capsys.readouterr()
        assert run(folder, f"test {recipe} pairs.csv --json") == 0
        assert np.isfinite(json.loads(capsys.readouterr().out)["network"]["dice"])
        # a run that goes on is the same run
        assert run(folder, f"train pairs.csv --device cpu --threads 1 --steps 3 -o {recipe} --resume") == 0
        capsys.readouterr()


def test_networks_that_were_taught_centred_pairs_find_images_anywhere(folder, capsys):
    if not (folder / "multimodal").is_dir():
        assert run(folder, "train pairs.csv --recipe multimodal --batch 2 --device cpu --threads 1 --steps 2 -o multimodal") == 0
    flow = FlowRegistration.from_file(folder / "multimodal" / "weights.safetensors")
    fixed, moving = (ar.read_image(folder / f"i{number}.mha") for number in range(2))
    away = ar.Image(moving.values, ar.Grid(moving.grid.shape, moving.grid.spacing, (25.0, -20.0)))
    points = fixed.grid.points()[::5, ::5]
    np.testing.assert_allclose(flow(fixed, away)(points), flow(fixed, moving)(points) + np.array([25.0, -20.0]), atol=1e-3)
    # who says how they lie is believed
    given = ar.Affine(np.eye(2), np.array([4.0, 0.0]))
    assert not np.allclose(flow(fixed, moving, initial=given)(points), flow(fixed, moving)(points), atol=0.5)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train plain.csv --recipe multimodal -o bad", "--objective: expected label maps of all pairs for labels"),
        ("train pairs.csv --marks one --trunk unet --objective likeness -o bad", "marks: expected labels in the objective"),
        ("train pairs.csv --map moments -o bad", "map: expected --marks one or two for moments"),
        ("train pairs.csv --antisymmetric -o bad", "antisymmetric: expected the map velocity"),
    ],
)
def test_marks_that_cannot_be_learned_are_refused_before_any_training(folder, line, said, capsys):
    assert run(folder, line) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not (folder / "bad").exists()
