"""Annotations of which one is faulty: it is named, and nothing is lost unsaid."""

import json
import warnings

import numpy as np
import pytest

from augreg import Grid, Image, Labels, fit_appearance_model, write_image
from augreg.cli import main
from augreg.sam import dropped

GRID = Grid((64, 54), (1.5, 1.2), (10.0, -50.0))
FIT = {"points": 60, "rank": 6}


def subject(rng):
    """Three discs in noise, and their labels."""
    x, y = np.meshgrid(*map(np.arange, GRID.shape), indexing="ij")
    values, labels = rng.normal(20, 2, GRID.shape), np.zeros(GRID.shape, np.int32)
    for label, (a, b, r) in {1: (18, 20, 8), 2: (44, 20, 8), 7: (32, 40, 6)}.items():
        inside = (x - a - rng.normal()) ** 2 + (y - b - rng.normal()) ** 2 < (r + rng.normal(0, 0.5)) ** 2
        values[inside] += 50
        labels[inside] = label
    return Image(values.astype(np.float32), GRID), Labels(labels, GRID)


@pytest.fixture
def people():
    rng = np.random.default_rng(3)
    images, labels = zip(*(subject(rng) for _ in range(6)), strict=True)
    return list(images), list(labels)


def without(labels, label):
    return labels.with_values(np.where(labels.values == label, 0, labels.values))


def told(images, **given):
    """The model, and what is said while it is fitted."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = fit_appearance_model(images, **given, **FIT)
    assert all(warning.category is UserWarning and warning.filename == __file__ for warning in caught)
    return model, [str(warning.message) for warning in caught]


def test_whole_annotations_raise_no_doubt(people):
    images, labels = people
    model, said = told(images, labels=labels)
    assert (model.contours.structures, said) == ((1, 2, 7), [])
    points = model.contours.corresponding(labels)
    assert told(images, landmarks=points)[1] == []
    # structures asked for are no surprise
    assert told(images, labels=[*labels[:5], without(labels[5], 7)], structures=[1, 2])[1] == []


def test_a_structure_that_one_map_lacks_is_named_with_the_map(people):
    images, labels = people
    labels[4] = without(labels[4], 7)
    model, said = told(images, labels=labels)
    assert model.contours.structures == (1, 2)
    assert len(said) == 1
    assert "label 7 is missing in labels[4] (1 of 6 maps)" in said[0]
    assert dropped(labels) == {7: [4]}


def test_a_structure_that_only_some_maps_have_is_named_too(people):
    images, labels = people
    extra = labels[1].values.copy()
    extra[2:5, 2:5] = 40
    labels[1] = labels[1].with_values(extra)
    labels[2] = without(labels[2], 2)
    model, said = told(images, labels=labels)
    assert model.contours.structures == (1, 7)
    assert dropped(labels) == {2: [2], 40: [0, 2, 3, 4, 5]}
    assert [line[:18] for line in said] == ["label 2 is missing", "label 40 is missin"]
    assert "labels[0], labels[2], labels[3], labels[4], ... (5 of 6 maps)" in said[1]


def test_a_map_of_background_alone_is_refused_by_name(people):
    images, labels = people
    labels[3] = Labels(np.zeros_like(labels[3].values), GRID)
    with pytest.raises(ValueError, match=r"missing in labels\[3\]"):
        fit_appearance_model(images, labels=labels, **FIT)


def test_exchanged_structures_and_maps_are_doubted(people):
    images, labels = people
    other = np.choose(labels[2].values % 4, [0, 2, 1, 7])
    assert told(images, labels=[*labels[:2], labels[2].with_values(other), *labels[3:]])[1] == [
        "labels[2]: structure 1 lies where the other images have 2; are labels exchanged?",
        "labels[2]: structure 2 lies where the other images have 1; are labels exchanged?",
    ]
    _, said = told(images, labels=[*labels[:5], labels[0]])
    assert said == ["labels[5]: the same as labels[0], though the images differ; is it the right one?"]


def test_landmarks_in_another_order_or_place_are_doubted(people):
    images, _ = people
    rng = np.random.default_rng(0)
    base = rng.uniform(20, 80, (12, 2)) * [1, -0.5]
    landmarks = [base + rng.normal(0, 0.8, base.shape) + rng.normal(0, 3, 2) for _ in images]
    assert told(images, landmarks=landmarks)[1] == []
    order = np.arange(12)
    order[[2, 9]] = 9, 2
    for wrong in (order, np.arange(12)[::-1]):
        _, [said] = told(images, landmarks=[*landmarks[:3], landmarks[3][wrong], *landmarks[4:]])
        assert said.startswith("landmarks[3]: its points seem to be in another order")
    # some points beyond the border are shapes that reach there, many are told, and most are refused
    beyond = landmarks[0].copy()
    beyond[5:7, 0] += 100
    assert not any("inside" in line for line in told(images, landmarks=[beyond, *landmarks[1:]])[1])
    beyond[7:10, 0] += 100
    assert any(
        s.startswith("landmarks[0]: expected landmarks inside") for s in told(images, landmarks=[beyond, *landmarks[1:]])[1]
    )
    with pytest.raises(ValueError, match=r"landmarks\[1\]: expected landmarks inside the image.*12 of 12 outside.*RAS"):
        fit_appearance_model(images, landmarks=[landmarks[0], -landmarks[1], *landmarks[2:]], **FIT)
    with pytest.raises(ValueError, match=r"landmarks\[2\]: expected shape \(12, 2\), as many points as landmarks\[0\]"):
        fit_appearance_model(images, landmarks=[*landmarks[:2], landmarks[2][:11], *landmarks[3:]], **FIT)


def test_a_template_of_another_kind_is_refused(people):
    images, labels = people
    volume = Image(np.zeros((5, 6, 7)), Grid((5, 6, 7)))
    with pytest.raises(ValueError, match="template: expected a 2-D image"):
        fit_appearance_model(images, labels=labels, template=volume)
    with pytest.raises(ValueError, match="template: expected finite"):
        fit_appearance_model(images, labels=labels, template=images[0].with_values(np.full(GRID.shape, np.nan)))


def test_the_command_names_the_files_and_lists_structures(people, tmp_path, capsys):
    images, labels = people
    labels[4] = without(labels[4], 7)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        write_image(image, tmp_path / f"{i}.mha")
        write_image(label, tmp_path / f"{i}_l.mha")
    paths = [str(tmp_path / f"{i}.mha") for i in range(6)]
    maps = [str(tmp_path / f"{i}_l.mha") for i in range(6)]
    arguments = ["sam", "fit", *paths, "-o", str(tmp_path / "m.npz"), "--json", "--labels"]
    assert main([*arguments, *maps]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["structures"] == [1, 2]
    assert result["dropped"] == {"7": [maps[4]]}
    [line] = err.splitlines()
    assert line.startswith(f"augreg: warning: label 7 is missing in labels[4] ({maps[4]}) (1 of 6 maps)")
    assert result["warnings"] == [line.removeprefix("augreg: warning: ")]
    write_image(Labels(np.zeros_like(labels[0].values), GRID), tmp_path / "2_l.mha")
    assert main([*arguments, *maps]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert maps[2] in line
