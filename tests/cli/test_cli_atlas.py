"""`augreg atlas`: banks and segmentations from files."""

import json
from threading import Thread

import numpy as np
import pytest
from support.dask import cluster as dask_cluster
from support.labelled import scene

import augreg as ar
from augreg import cli
from augreg.tasks import cluster

SHAPE = (64, 52)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Images with their label maps, a new one, and a bank of three."""
    folder = tmp_path_factory.mktemp("people")
    for i, shift in enumerate([(0, 0), (3, -2), (-2, 2), (2, 3)]):
        image, labels = scene(SHAPE, i, 0.05, shift)
        ar.write_image(image, folder / f"{i}.nii.gz")
        ar.write_image(labels.with_values(labels.values.astype(np.int16)), folder / f"{i}_labels.nii.gz")
    assert cli.main(build(folder, range(3), "--preset", "quick", "--templates", "2")) == 0
    return folder


def build(folder, who, *more, bank="bank"):
    images, labels = ([str(folder / f"{i}{end}.nii.gz") for i in who] for end in ("", "_labels"))
    return ["atlas", "build", *images, "--labels", *labels, "-o", str(folder / bank), *more]


def segment(folder, out, *more, who=(3,), bank="bank"):
    images = [str(folder / f"{i}.nii.gz") for i in who]
    return ["atlas", "segment", *images, "-b", str(folder / bank), "-o", str(folder / out), *more]


@pytest.mark.parametrize(
    "how",
    [
        ["--templates", "1"],
        ["--direct", "--templates", "1"],
        ["--direct", "--fusion", "majority"],
        ["--fusion", "local"],
        ["--overlap"],
        [],
    ],
)
def test_a_new_image_is_segmented_by_those_before(how, people, capsys):
    assert cli.main(segment(people, "found.nii.gz", "--agreement", "--json", *how)) == 0
    [told] = json.loads(capsys.readouterr().out)["images"]
    found, truth = (ar.read_labels(people / name) for name in ("found.nii.gz", "3_labels.nii.gz"))
    assert min(ar.dice(found, truth).values()) > 0.9
    assert told["registrations"] == (1 if "1" in how else 3 if "--direct" in how else 2)
    assert told["maps"] == (told["registrations"] if "--direct" in how else 3 * told["registrations"])
    agreement = ar.read_image(people / "found_agreement.nii.gz")
    assert told["mean_agreement"] == pytest.approx(agreement.values[found.values != 0].mean(), abs=1e-5)


def test_several_images_go_to_a_folder_and_an_atlas_is_added_at_its_own_cost(people, capsys):
    assert cli.main(segment(people, "several", who=(0, 3))) == 0
    assert sorted(path.name for path in (people / "several").iterdir()) == ["0.nii.gz", "3.nii.gz"]
    assert "agreement" in capsys.readouterr().out
    # an atlas that is its own template knows its labels
    assert min(ar.dice(*(ar.read_labels(people / n) for n in ("several/0.nii.gz", "0_labels.nii.gz"))).values()) > 0.9
    assert cli.main(build(people, range(4), "--preset", "quick", "--templates", "2", "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["atlases"], told["templates"], told["registrations"], told["kept"]) == (4, 2, 6, 4)
    assert cli.main(build(people, range(3), "--preset", "quick", "--templates", "2", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 4


def test_templates_are_those_that_stand_for_all_and_a_bank_keeps_its_own(tmp_path, capsys):
    # two of one look come first, one of the others stands for six
    for i, (seed, noise) in enumerate([(1, 3.0), (2, 3.0), (3, 0.05), (4, 0.05), (5, 0.05), (6, 0.05)]):
        image, labels = scene((48, 40), seed, noise, (i % 3, -i % 2))
        ar.write_image(image, tmp_path / f"{i}.nii.gz")
        ar.write_image(labels.with_values(labels.values.astype(np.int16)), tmp_path / f"{i}_labels.nii.gz")
    assert cli.main(build(tmp_path, range(5), "--preset", "quick", "--templates", "1", "--json")) == 0
    first = json.loads(capsys.readouterr().out)
    [chosen] = first["template_images"]
    assert chosen in [str(tmp_path / f"{i}.nii.gz") for i in range(2, 5)]
    assert cli.main(build(tmp_path, range(6), "--preset", "quick", "--templates", "1", "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["template_images"] == first["template_images"]
    assert (told["registrations"], told["kept"]) == (5, 4)


@pytest.mark.slow
def test_two_dask_workers_one_of_which_is_killed_make_the_bank_of_one_process(tmp_path):
    count = 7
    for i in range(count):
        image, labels = scene((48, 40), i, 0.05, np.random.default_rng(i).uniform(-3, 3, 2))
        ar.write_image(image, tmp_path / f"{i}.nii.gz")
        ar.write_image(labels.with_values(labels.values.astype(np.int16)), tmp_path / f"{i}_labels.nii.gz")
    assert cli.main(build(tmp_path, range(count), bank="one")) == 0
    with dask_cluster(tmp_path / "dask", 2) as (address, _, workers):
        done = []
        work = Thread(target=lambda: done.append(cli.main(build(tmp_path, range(count), "--scheduler", address, bank="two"))))
        work.start()
        while work.is_alive() and not list((tmp_path / "two" / "transforms").glob("*.h5")):
            work.join(0.02)
        early = len(list((tmp_path / "two" / "transforms").glob("*.h5")))
        workers[0].kill()
        work.join()
    assert done == [0]
    # it was killed amid its work
    assert 1 <= early < count * (count - 1) - 2

    def contents(name):
        folder = tmp_path / name
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert len(contents("one")) == count + count + count * (count - 1) + 1
    assert contents("two") == contents("one")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (lambda f: [*build(f, (0, 1), bank="new")[:6], "-o", str(f / "new")], "expected a label map for each of the 2 images"),
        (lambda f: [*build(f, range(2), bank="new"), "--templates", "3"], "--templates: expected at most the 2 images, got 3"),
        (lambda f: [*build(f, range(2), bank="new"), "--template-images", str(f / "v.nii.gz")], "v.nii.gz: expected a 2-D image"),
        (lambda f: [*build(f, (0, "small"), bank="new")], "small_labels.nii.gz: labels: expected a map on the grid of its image"),
        (lambda f: build(f, range(2), bank="no/new"), "expected an existing folder to write to"),
        (lambda f: build(f, range(2), "--scheduler", "127.0.0.1:9", bank="new"), "none answered at 127.0.0.1:9"),
        (lambda f: segment(f, "x.nii.gz", bank="several"), "expected a bank with bank.json"),
        (lambda f: segment(f, "x.nii.gz", who=("v",)), "v.nii.gz: expected a 2-D one, as those of the bank, got a 3-D one"),
        (lambda f: segment(f, "x", who=(3, "v")), "v.nii.gz: expected a 2-D one, as those of the bank, got a 3-D one"),
        (lambda f: segment(f, "x", who=(3, "nan")), "nan.nii.gz: expected an image, got only NaN"),
        (lambda f: build(f, (0, "nan"), bank="new"), "nan.nii.gz: expected an image, got only NaN"),
        (
            lambda f: ["template", str(f / "0.nii.gz"), str(f / "nan.nii.gz"), "-o", str(f / "t.nii.gz")],
            "nan.nii.gz: expected an",
        ),
        (lambda f: segment(f, "x", who=(3,)), "expected a file name ending in"),
        (lambda f: segment(f, "x.nii.gz", "--overlap", "--fusion", "local"), "--overlap: expected --fusion joint"),
        (lambda f: segment(f, "3.nii.gz", who=(3, 0)), "expected a folder for 2 images, got a file"),
        (lambda f: segment(f, "all.nii.gz", who=(3, 0)), "expected a folder for 2 images, got the name of an image"),
        (lambda f: segment(f, "3.nii.gz", who=(3,)), "expected a file of its own"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(command, message, people, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "_PATIENCE", 0.3)
    volume = ar.Image(np.random.default_rng(0).random((6, 7, 8)), ar.Grid((6, 7, 8)))
    ar.write_image(volume, people / "v.nii.gz")
    ar.write_image(scene(SHAPE)[0], people / "small.nii.gz")
    ar.write_image(scene(SHAPE)[0].with_values(np.full(SHAPE, np.nan)), people / "nan.nii.gz")
    ar.write_image(scene(SHAPE)[1].with_values(np.ones(SHAPE, np.uint8)), people / "nan_labels.nii.gz")
    ar.write_image(scene((20, 20))[1].with_values(np.ones((20, 20), np.uint8)), people / "small_labels.nii.gz")
    before = sorted(people.rglob("*"))
    assert cli.main(command(people)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert sorted(people.rglob("*")) == before


def test_a_bank_of_another_registration_is_not_used(people, capsys):
    listed = people / "bank" / "bank.json"
    text = listed.read_text(encoding="utf-8")
    listed.write_text(text.replace('"quick"', '"people"'), encoding="utf-8")
    assert cli.main(segment(people, "x.nii.gz")) == 2
    assert "expected the registration that the bank was built with" in capsys.readouterr().err
    listed.write_text(text, encoding="utf-8")
