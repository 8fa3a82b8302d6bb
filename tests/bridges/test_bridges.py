"""Registrations inside MONAI's and TorchIO's pipelines, by the real packages: what they give is augreg's own warp."""

import monai
import numpy as np
import pytest
import torch
import torchio
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from support import spaces
from support.phantoms import bent, blobs

from augreg import Affine, Composition, Grid, Image, LPRegistration, warp
from augreg.bridges.monai import Registerd
from augreg.bridges.torchio import Register
from augreg.ras import grid_of_ras, ras_affine

SIGNS = np.array([-1.0, -1.0, 1.0])


def known(ndim):
    """A transform that turns, shears and bends, and the grids on both sides of it."""
    fixed, moving = spaces.grid(ndim, "oblique"), spaces.grid(ndim, "swap", shape=(19, 25, 14)[:ndim])
    A = np.eye(ndim) + 0.1 * np.random.default_rng(0).normal(size=(ndim, ndim))
    return Composition((Affine.about(A, moving.center, moving.center - fixed.center), bent(fixed, 8.0, seed=1))), fixed, moving


def placed(values, grid, space="RAS"):
    affine = ras_affine(grid)
    if space == "LPS":
        affine[:2] *= -1
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(values)), meta={"affine": torch.from_numpy(affine), "space": space})


def subject(ndim, space="RAS"):
    phi, fixed, moving = known(ndim)
    image, rng = blobs(moving, seed=3), np.random.default_rng(1)
    labels = rng.integers(0, 2**40, (1, *moving.shape))
    colour = rng.random((3, *moving.shape)).astype(np.float32)
    data = {
        "fixed": placed(np.zeros((1, *fixed.shape), np.float32), fixed),
        "image": placed(image.values[None].astype(np.float32), moving, space),
        "label": placed(labels, moving, space),
        "colour": placed(colour, moving, space),
    }
    return data, phi, fixed, moving


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
def test_affines_of_ras_and_grids_are_each_other_s_inverse(ndim, name):
    grid = spaces.grid(ndim, name)
    affine = ras_affine(grid)
    assert grid_of_ras("x", grid.shape, affine).matches(grid, 1e-9)
    turned = affine.copy()
    turned[:2] *= -1
    assert grid_of_ras("x", grid.shape, turned, lps=True).matches(grid, 1e-9)
    # a plane's affine without its third axis
    if ndim == 2:
        small = np.delete(np.delete(affine, 2, 0), 2, 1)
        assert grid_of_ras("x", grid.shape, small).matches(grid, 1e-9)


def test_affines_that_no_grid_has_are_one_line():
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    with pytest.raises(ValueError, match="image: expected perpendicular axes, got an affine with a shear"):
        grid_of_ras("image", (4, 5, 6), sheared)
    coronal = np.eye(4)[[0, 2, 1, 3]]
    with pytest.raises(ValueError, match="image: expected an axial slice"):
        grid_of_ras("image", (4, 5), coronal)
    with pytest.raises(ValueError, match="image: expected a finite affine of 4 x 4"):
        grid_of_ras("image", (4, 5, 6), np.eye(3))
    with pytest.raises(ValueError, match="voxels of some size"):
        grid_of_ras("image", (4, 5, 6), np.diag([1, 0, 1, 1]))


@pytest.mark.parametrize("space", ["RAS", "LPS"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_monai_s_images_move_as_augreg_s_do(ndim, space):
    data, phi, fixed, moving = subject(ndim, space)
    seen = []

    def registration(a, b):
        seen.extend([a, b])
        return phi

    step = Registerd(["image", "label", "colour"], "fixed", registration, ["bilinear", "nearest", "bicubic"], transform_key="phi")
    done = step(data)
    # the registration sees both images where they are
    assert seen[0].grid.matches(fixed, 1e-6)
    assert seen[1].grid.matches(moving, 1e-6)
    assert done["phi"] is phi
    for key, way in (("image", "linear"), ("label", "nearest"), ("colour", "cubic")):
        source = np.moveaxis(data[key].numpy(), 0, -1)
        expected = warp(Image(source, moving), phi, fixed, interpolation=way).values
        found = np.moveaxis(done[key].numpy(), 0, -1)
        assert found.dtype == source.dtype
        # grids that went through an affine are the same up to rounding, and ties of nearest neighbours break either way
        assert np.mean(np.abs(found.astype(float) - expected) > 1e-4) < (1e-3 if way == "nearest" else 1e-9)
        assert torch.equal(done[key].affine, data["fixed"].affine)
        assert done[key].meta["space"] == "RAS"
        assert data[key].applied_operations == []
    assert (done["label"] != 0).float().mean() > 0.2


def test_monai_s_labels_come_back_through_the_inverse():
    data, phi, fixed, moving = subject(3)
    step = Registerd(["image", "label"], "fixed", lambda a, b: phi, ["bilinear", "nearest"])
    chain = monai.transforms.Compose([step])
    done = chain(data)
    # what a network says of the image on the fixed grid, in the moving image's own space
    middle = (np.linalg.norm(fixed.points() - fixed.center, axis=-1) < 6).astype(np.uint8)
    done["pred"] = MetaTensor(torch.from_numpy(middle[None]), meta=dict(done["image"].meta))
    back = monai.transforms.Invertd("pred", chain, "image", nearest_interp=True, to_tensor=True)(done)["pred"]
    assert back.shape[1:] == moving.shape
    assert np.allclose(back.affine, data["image"].affine)
    inside = np.linalg.norm(phi.solve(moving.points()) - fixed.center, axis=-1) < 6
    assert set(np.unique(back.numpy())) <= {0, 1}
    # voxels of the fixed grid are up to 1.7 mm: only the rim may differ
    assert np.mean(inside != (back.numpy()[0] > 0)) < 0.3 * inside.mean()
    far = np.abs(np.linalg.norm(phi.solve(moving.points()) - fixed.center, axis=-1) - 6) > 1.2
    assert np.array_equal(inside[far], back.numpy()[0][far] > 0)
    again = step.inverse({"image": done["image"], "label": done["label"]})
    assert again["label"].shape == data["label"].shape
    assert again["label"].applied_operations == []
    kept = again["label"].numpy() == data["label"].numpy()
    deep = fixed.contains(phi.solve(moving.points()), margin=-2)[None]
    assert deep.sum() > 300
    # nearest of nearest: a label is found again, or one next to it
    assert kept[deep].mean() > 0.4


def test_monai_s_loaders_take_the_history_with_them():
    data, phi, _, moving = subject(2)
    step = Registerd(["image"], "fixed", lambda a, b: phi)
    [batch] = DataLoader(Dataset([dict(data), dict(data)], step), batch_size=2)
    one = decollate_batch(batch)[1]
    back = step.inverse(one)["image"]
    assert back.shape[1:] == moving.shape


def test_monai_s_step_registers_by_the_images_and_says_what_it_cannot_use():
    grid = Grid((64, 56), (1.0, 1.5))
    moving = blobs(grid, seed=5)
    truth = Affine(np.eye(2), [4.0, -3.0])
    fixed = warp(moving, truth, grid)
    data = {
        "t2": placed(moving.values[None].astype(np.float32), grid),
        "t1": placed(fixed.values[None].astype(np.float32), grid),
        "mask": placed(np.ones((1, *grid.shape), bool), grid),
    }
    step = Registerd("t2", "t1", LPRegistration(transform="rigid"), known={"fixed_mask": "mask"}, transform_key="phi")
    points = grid.lattice((4, 4))
    assert np.linalg.norm(step(data)["phi"](points) - truth(points), axis=-1).max() < 0.5
    # a tensor without a place has the identity, as MONAI gives it
    plain = {name: torch.as_tensor(part).as_tensor() for name, part in data.items()}
    assert np.allclose(step(plain)["t2"].affine, np.eye(4))
    with pytest.raises(ValueError, match="t1: expected this key in the dictionary, got t2"):
        step({"t2": data["t2"]})
    assert set(Registerd("t2", "t1", LPRegistration(), allow_missing_keys=True)({"t1": data["t1"]})) == {"t1"}
    with pytest.raises(ValueError, match="keys: expected the moving images alone"):
        Registerd(["t1", "t2"], "t1", LPRegistration())
    with pytest.raises(ValueError, match="mode: expected nearest, bilinear, bicubic, got cubic"):
        Registerd("t2", "t1", LPRegistration(), "cubic")
    with pytest.raises(ValueError, match="known: expected keywords among"):
        Registerd("t2", "t1", LPRegistration(), known={"points": "p"})
    with pytest.raises(TypeError, match="registration: expected a callable"):
        Registerd("t2", "t1", "lp")
    with pytest.raises(ValueError, match="t2: expected an image"):
        step({**data, "t2": "a.nii.gz"})
    halves = {**data, "mask": placed(np.full((1, *grid.shape), 0.5, np.float32), grid)}
    with pytest.raises(ValueError, match="mask: expected whole numbers as labels"):
        step(halves)


def of_torchio(ndim):
    phi, fixed, moving = known(ndim)
    volume = {2: (*moving.shape, 1)[:3], 3: moving.shape}[ndim]
    image = blobs(moving, seed=3).values.astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 30000, moving.shape).astype(np.int32)
    held = torchio.Subject(
        t1=torchio.ScalarImage(tensor=torch.ones(1, *(*fixed.shape, 1)[:3]), affine=ras_affine(fixed)),
        t2=torchio.ScalarImage(tensor=torch.from_numpy(image.reshape(1, *volume)), affine=ras_affine(moving)),
        seg=torchio.LabelMap(tensor=torch.from_numpy(labels.reshape(1, *volume)), affine=ras_affine(moving)),
    )
    return held, phi, fixed, moving, image, labels


@pytest.mark.parametrize("ndim", [2, 3])
def test_torchio_s_images_move_as_augreg_s_do_and_come_back(ndim):
    held, phi, fixed, moving, image, labels = of_torchio(ndim)
    done = Register("t1", "t2", lambda a, b: phi, along=["seg"])(held)
    for name, values, way in (("t2", image, "linear"), ("seg", labels, "nearest")):
        expected = warp(Image(values, moving), phi, fixed, interpolation=way).values
        found = done[name].numpy().reshape(fixed.shape)
        assert found.dtype == values.dtype
        assert np.mean(np.abs(found - expected) > 1e-4) < (1e-3 if way == "nearest" else 1e-9)
        assert np.allclose(done[name].affine, ras_affine(fixed))
    assert held["t2"].spatial_shape[:ndim] == moving.shape
    # the history replays without registering, and goes back
    [step] = done.history
    assert torch.equal(step(held)["seg"].data, done["seg"].data)
    back = done.apply_inverse_transform()
    assert np.allclose(back["seg"].affine, held["seg"].affine)
    expected = warp(Image(done["t2"].numpy().reshape(fixed.shape), fixed), phi.inverse(moving), moving).values
    assert np.abs(back["t2"].numpy().reshape(moving.shape) - expected).max() < 1e-3


def test_torchio_s_names_are_checked():
    held, phi, *_ = of_torchio(2)
    with pytest.raises(ValueError, match="flair: expected an image of this name"):
        Register("flair", "t2", lambda a, b: phi)(held)
    with pytest.raises(ValueError, match="along: expected names of moving images without the fixed one"):
        Register("t1", "t2", lambda a, b: phi, along=["t1"])
