"""Pairs for MONAI and TorchIO, by the real packages and in their conventions."""

import multiprocessing

import monai
import numpy as np
import pytest
import torch
import torchio
from monai.data import MetaTensor
from monai.networks.blocks import Warp
from scipy.ndimage import map_coordinates
from support.subjects import model

from augreg import Grid, Image, Labels, read_image
from augreg.ras import ras_affine, ras_vectors
from augreg.streams.monai import RandPaird, RandWarpPaird
from augreg.streams.torchio import RandomPair
from augreg.synthesis import AppearancePairs, RandomDeformations, make_pairs, training_pairs

KINDS = ["labels", "landmarks3d"]
pytestmark = pytest.mark.filterwarnings("ignore:monai.networks.blocks.Warp:UserWarning")
LPS = np.array([-1.0, -1.0, 1.0])


def generator(kind="labels"):
    return AppearancePairs(model(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_affines_and_vectors_agree_with_the_grid_up_to_the_sign_of_x_and_y(kind):
    grid = model(kind).template
    index = np.random.default_rng(0).uniform(0, 10, (5, grid.ndim))
    homogeneous = np.column_stack([np.pad(index, ((0, 0), (0, 3 - grid.ndim))), np.ones(5)])
    found = (homogeneous @ ras_affine(grid).T)[:, :3] * LPS
    assert np.allclose(found[:, : grid.ndim], grid.points_at(index))
    assert not found[:, grid.ndim :].any()
    u = np.random.default_rng(1).normal(size=(5, grid.ndim))
    ends = grid.points_at(index) + u
    assert np.allclose((found + ras_vectors(u) * LPS)[:, : grid.ndim], ends)


@pytest.mark.parametrize("kind", KINDS)
def test_torchio_images_correspond_in_its_world(kind):
    torch.manual_seed(2)
    subject = RandomPair(generator(kind))(torchio.Subject(other=torchio.ScalarImage(tensor=torch.ones(1, 4, 4, 4))))
    fixed, moving, displacement, mask = (subject[name] for name in ("fixed", "moving", "displacement", "mask"))
    assert fixed.spatial_shape == (*model(kind).template.shape, 1)[:3]
    assert displacement.shape == (3, *fixed.spatial_shape)
    assert isinstance(mask, torchio.LabelMap)
    index = np.stack(np.meshgrid(*map(np.arange, fixed.spatial_shape), indexing="ij"), axis=-1).reshape(-1, 3)
    world = index @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
    target = world + displacement.numpy().reshape(3, -1).T
    back = (target - moving.affine[:3, 3]) @ np.linalg.inv(moving.affine[:3, :3]).T
    planar = kind == "labels"
    volume, back = (moving.numpy()[0, ..., 0], back[:, :2]) if planar else (moving.numpy()[0], back)
    moved = map_coordinates(volume, back.T, order=3, mode="nearest")
    inside = mask.numpy().reshape(-1) > 0
    error = np.abs(moved - fixed.numpy().reshape(-1))[inside].mean()
    assert error < 0.03 * fixed.numpy().std()
    # without the displacement, or with its x and y in LPS, they do not
    assert error < 0.1 * np.abs(moving.numpy() - fixed.numpy()).reshape(-1)[inside].mean()


def test_torchio_writes_them_where_augreg_reads_them(tmp_path):
    grid = model("landmarks3d").template
    subject = RandomPair(generator("landmarks3d"))(torchio.Subject(other=torchio.ScalarImage(tensor=torch.ones(1, 4, 4, 4))))
    subject["fixed"].save(tmp_path / "fixed.nii.gz")
    image = read_image(tmp_path / "fixed.nii.gz")
    assert image.grid.matches(grid)
    assert np.allclose(image.values, subject["fixed"].numpy()[0])


def test_torchio_pairs_follow_torch_s_seed_and_the_history():
    subject, transform = torchio.Subject(other=torchio.ScalarImage(tensor=torch.ones(1, 4, 4, 4))), RandomPair(generator())
    torch.manual_seed(5)
    first, second = transform(subject), transform(subject)
    torch.manual_seed(5)
    assert torch.equal(transform(subject)["fixed"].data, first["fixed"].data)
    assert not torch.equal(second["fixed"].data, first["fixed"].data)
    [again] = second.history
    assert torch.equal(again(subject)["displacement"].data, second["displacement"].data)
    [pair] = training_pairs(make_pairs(generator(), again.seed, [0]), generator().grid)
    assert np.array_equal(second["moving"].numpy()[0, ..., 0], pair.moving.values)
    assert np.array_equal(second["fixed_labels"].numpy()[0, ..., 0], pair.fixed_labels.values)
    assert "fixed" not in subject
    torch.manual_seed(5)
    some = RandomPair(generator(), ("moving", "mask"))(subject)
    assert set(some) == {"other", "moving", "mask"}
    assert torch.equal(some["moving"].data, first["moving"].data)
    assert set(some.history[0](subject)) == set(some)


@pytest.mark.parametrize("kind", KINDS)
def test_monai_s_warp_takes_moving_to_fixed(kind):
    data = RandPaird(generator(kind)).set_random_state(3)({"name": "x"})
    assert data["name"] == "x"
    warped = Warp("bilinear", "border")(data["moving"][None], data["ddf"][None])[0]
    inside = data["mask"]
    error = (warped - data["fixed"])[inside].abs().mean()
    assert error < 0.1 * data["fixed"].std()
    assert error < 0.3 * (data["moving"] - data["fixed"])[inside].abs().mean()
    back = Warp("bilinear", "border")(data["fixed"][None], data["reverse_ddf"][None])[0]
    assert (back - data["moving"])[data["reverse_mask"]].abs().mean() < 0.1 * data["fixed"].std()
    assert isinstance(data["fixed"], MetaTensor)
    assert np.allclose(data["fixed"].affine, ras_affine(model(kind).template))
    again = make_pairs(generator(kind), data["pair_seed"], [0])
    assert torch.equal(data["ddf"].as_tensor(), again.flow[0])
    assert ("fixed_labels" in data) == (kind == "labels")
    some = RandPaird(generator(kind), ("moving", "ddf")).set_random_state(3)({})
    assert some.keys() == {"moving", "ddf", "pair_seed"}
    assert torch.equal(some["ddf"], data["ddf"])
    image = {"image": data["moving"]}
    warped = RandWarpPaird("image", generator(kind), parts=("mask",)).set_random_state(3)(image)
    assert warped.keys() == {"image", "fixed_image", "mask", "pair_seed"}
    with pytest.raises(ValueError, match=r"parts: expected some of ddf, mask, reverse_ddf, reverse_mask, .* got flow"):
        RandWarpPaird("image", generator(kind), parts=("flow",))(image)


def test_monai_s_random_states_decide():
    first, second = (RandPaird(generator()).set_random_state(seed) for seed in (3, 3))
    a, b, c = first({}), second({}), first({})
    assert torch.equal(a["fixed"], b["fixed"])
    assert not torch.equal(a["fixed"], c["fixed"])
    chain = monai.transforms.Compose([RandPaird(generator()), monai.transforms.ScaleIntensityd(["fixed", "moving"])])
    x, y = (chain.set_random_state(8)({}) for _ in range(2))
    assert torch.equal(x["moving"], y["moving"])
    assert x["moving"].max() == 1


def subject_of_monai(kind):
    grid = model(kind).template
    image = torch.from_numpy(model(kind).mean.values.astype(np.float32))[None]
    labels = (image > image.mean()).to(torch.int16)
    affine = torch.from_numpy(ras_affine(grid))
    return {"image": MetaTensor(image, affine=affine), "label": MetaTensor(labels, affine=affine), "age": 50}


@pytest.mark.parametrize("kind", KINDS)
def test_monai_s_images_become_pairs_by_the_generator_s_deformations(kind):
    data = subject_of_monai(kind)
    transform = RandWarpPaird(["image", "label"], generator(kind), ["bilinear", "nearest"]).set_random_state(1)
    done = transform(data)
    assert torch.equal(done["image"], data["image"])
    assert torch.equal(done["ddf"].as_tensor(), make_pairs(generator(kind), done["pair_seed"], [0]).flow[0])
    expected = Warp("bilinear", "border")(data["image"][None].as_tensor(), done["ddf"][None].as_tensor())[0]
    assert torch.allclose(done["fixed_image"].as_tensor(), expected)
    assert done["fixed_label"].dtype == torch.int16
    assert set(done["fixed_label"].unique().tolist()) <= {0, 1}
    # labels move with the image
    apart = (done["fixed_image"] > data["image"].mean()).float() - done["fixed_label"].float()
    assert apart.abs().mean() < 0.3 * (done["fixed_label"].float() - data["label"].float()).abs().mean() + 0.02
    assert torch.equal(done["fixed_image"].affine, data["image"].affine)
    small = {**data, "label": data["label"][:, :5]}
    with pytest.raises(ValueError, match="label: expected the shape"):
        transform(small)


INTEGERS = ["bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def _ends(kind, shape):
    """Values of a type over its whole range, smooth in no direction."""
    rng = np.random.default_rng(0)
    if kind == "bool":
        return rng.random(shape) > 0.5
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)


def _moving_places(data, shape):
    """The continuous index in the moving image of every voxel of the fixed one, (D, *shape), kept inside."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")) + data["ddf"].numpy().astype(np.float64)
    return np.clip(places, 0, np.reshape(shape, (-1, *[1] * len(shape))) - 1.0)


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("dimension", KINDS)
def test_monai_s_labels_of_every_type_keep_their_values(kind, dimension):
    shape = model(dimension).template.shape
    values = _ends(kind, (2, *shape))
    done = RandWarpPaird(["label"], generator(dimension), "nearest").set_random_state(1)({"label": torch.from_numpy(values)})
    found = done["fixed_label"].numpy()
    assert found.dtype == values.dtype
    places = _moving_places(done, shape)
    # halves are rounded either way
    sure = (np.abs(places % 1 - 0.5) > 1e-3).all(axis=0)
    expected = values[(slice(None), *np.rint(places).astype(int))]
    assert np.array_equal(found[:, sure], expected[:, sure])
    assert sure.mean() > 0.98


@pytest.mark.parametrize("kind", ["bool", "uint8", "int16", "uint16", "int32", "uint32", "int64"])
def test_monai_s_integer_images_are_rounded(kind):
    shape = model().template.shape
    values = _ends(kind, (1, *shape))
    if kind == "int64":
        values //= 2**14  # what doubles hold
    flat = np.full((1, *shape), values.max())
    data = {"image": torch.from_numpy(values), "flat": torch.from_numpy(flat)}
    done = RandWarpPaird(["image", "flat"], generator()).set_random_state(1)(data)
    places = _moving_places(done, shape)
    exact = map_coordinates(values[0].astype(np.float64), places, order=1, mode="nearest")
    found = done["fixed_image"].numpy()[0]
    assert found.dtype == values.dtype
    span = float(values.max()) - float(values.min())
    error = found.astype(np.float64) - exact
    # float32 places are known to some 1e-5 voxels
    assert np.abs(error).max() <= 0.5 + 2e-4 * span
    assert abs(error.mean()) < 0.1 + 1e-5 * span
    assert np.array_equal(done["fixed_flat"].numpy(), flat)


def test_monai_s_arrays_of_every_layout_give_the_same():
    shape = model().template.shape
    values = _ends("int16", (1, *shape))
    read_only = values.copy()
    read_only.setflags(write=False)
    layouts = [np.asfortranarray(values), values[:, ::-1].copy()[:, ::-1], values.astype(">i2"), read_only]
    for mode in ("nearest", "bilinear"):
        results = [RandWarpPaird(["i"], generator(), mode).set_random_state(1)({"i": a}) for a in (values, *layouts)]
        for done in results[1:]:
            assert done["fixed_i"].dtype == torch.int16
            assert torch.equal(done["fixed_i"], results[0]["fixed_i"])


def test_monai_s_truth_has_place_and_space_of_the_images():
    data = subject_of_monai("landmarks3d")
    affine = data["image"].affine.clone()
    lps = affine.clone()
    lps[:2] *= -1
    for key in ("image", "label"):
        data[key] = MetaTensor(
            data[key].as_tensor(), meta={"affine": lps.clone(), "space": "LPS", "filename_or_obj": f"{key}.nii"}
        )
    done = RandWarpPaird(["image", "label"], generator("landmarks3d"), ["bilinear", "nearest"]).set_random_state(1)(data)
    for name in ("fixed_image", "fixed_label", "ddf", "mask", "reverse_ddf", "reverse_mask"):
        assert done[name].meta["space"] == "LPS", name
        assert torch.equal(done[name].affine, lps), name
    # what is done to one leaves the others alone
    done["fixed_image"].affine = torch.eye(4, dtype=torch.float64)
    done["mask"].affine = torch.eye(4, dtype=torch.float64)
    assert torch.equal(data["image"].affine, lps)
    assert torch.equal(done["ddf"].affine, lps)
    drawn = RandPaird(generator("landmarks3d")).set_random_state(1)({})
    assert drawn["mask"].meta["space"] == "RAS"
    # the same place in both spaces is one place, another one is told
    mixed = {**data, "label": MetaTensor(data["label"].as_tensor(), affine=affine, meta={"space": "RAS"})}
    transform = RandWarpPaird(["image", "label"], generator("landmarks3d"), ["bilinear", "nearest"])
    transform(mixed)
    elsewhere = affine.clone()
    elsewhere[0, 3] += 5
    mixed["label"] = MetaTensor(data["label"].as_tensor(), affine=elsewhere, meta={"space": "RAS"})
    with pytest.warns(UserWarning, match="label: expected the place in the world of image"):
        transform(mixed)


def test_torchio_keeps_large_ids_and_the_types_of_labels():
    shape = (12, 10, 9)
    ids = np.where(np.add.outer(np.add.outer(np.arange(12), np.arange(10)), np.arange(9)) > 14, 4294967295, 614454279)
    grid = Grid(shape, (1.0, 2.0, 1.5), (5.0, -3.0, 2.0))
    noise = Image(np.random.default_rng(0).random(shape).astype(np.float32), grid)
    pairs = RandomDeformations.of([noise], labels=[Labels(ids.astype(np.uint32), grid)], magnitudes=(0.5,))
    torch.manual_seed(1)
    subject = RandomPair(pairs)(torchio.Subject(other=torchio.ScalarImage(tensor=torch.ones(1, 4, 4, 4))))
    assert set(subject["moving_labels"].data.unique().tolist()) == {614454279, 4294967295}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_both_work_in_spawned_and_in_forked_workers(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{method}: not a way to start processes here")
    dataset = monai.data.Dataset([{"name": str(i)} for i in range(4)], RandPaird(generator()))
    options = {"multiprocessing_context": method, "timeout": 300}
    batches = list(monai.data.DataLoader(dataset, batch_size=2, num_workers=2, **options))
    assert [batch["ddf"].shape[:2] for batch in batches] == [(2, 2), (2, 2)]
    seeds = [int(seed) for batch in batches for seed in batch["pair_seed"]]
    assert len(set(seeds)) == 4
    made = make_pairs(generator(), seeds[2], [0])
    assert torch.allclose(batches[1]["moving"][0].as_tensor(), made.moving[0], atol=1e-3)
    empty = torchio.Subject(other=torchio.ScalarImage(tensor=torch.ones(1, 4, 4, 4)))
    subjects = torchio.SubjectsDataset([empty, empty], RandomPair(generator()))
    assert len(list(torchio.SubjectsLoader(subjects, num_workers=1, **options))) == 2
