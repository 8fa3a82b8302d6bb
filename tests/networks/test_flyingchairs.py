"""Published flow: what the reader reads, and what a network learns from it; `benchmarks run flyingchairs` does it in full."""

from dataclasses import replace

import numpy as np
import pytest
import skimage.io
import torch
from support import realdata

from augreg import DisplacementField, Grid, Image, warp
from augreg.io import read_flo
from augreg.networks import FlowNetC, FlowNetS
from augreg.synthesis import PairBatch
from augreg.training import Machine, TrainingOptions, pairs_error, seeded_network, train

NAMES = ("0000001", "0000002", "0000006")


def grey(path):
    values = skimage.io.imread(path).astype(np.float32).mean(axis=-1).T.copy()
    return Image(values, Grid(values.shape))


def chair(name):
    folder = realdata.path("flyingchairs")
    images = [grey(folder / f"{name}-img{i}.ppm") for i in range(2)]
    return *images, read_flo(folder / f"{name}-gt.flo")


def left(fixed, moving, phi):
    """Mean difference of the fixed and the warped image, where there is one."""
    moved = warp(moving, phi, fixed.grid, fill=np.nan).values
    return np.nanmean(np.abs(moved - fixed.values))


@pytest.mark.parametrize("name", NAMES)
def test_the_flow_warps_the_second_image_onto_the_first(name):
    fixed, moving, phi = chair(name)
    before = np.abs(moving.values - fixed.values).mean()
    # a third to two thirds of it is what chairs cover and uncover
    assert left(fixed, moving, phi) < 0.65 * before
    turned = DisplacementField(phi.values[..., ::-1].copy(), phi.grid)
    for wrong in (
        left(moving, fixed, phi),
        left(fixed, moving, DisplacementField(-phi.values, phi.grid)),
        left(fixed, moving, turned),
    ):
        assert wrong > 0.9 * before


def batch(factor):
    """The pairs, smaller by a factor, as a batch."""
    parts = []
    for name in NAMES:
        fixed, moving, phi = chair(name)
        tensors = [torch.from_numpy(image.values)[None, None] for image in (fixed, moving)]
        flow = torch.from_numpy(np.moveaxis(phi.values, -1, 0).astype(np.float32))[None] / factor
        parts.append([torch.nn.functional.avg_pool2d(part, factor) for part in (*tensors, flow)])
    fixed, moving, flow = (torch.cat(part) for part in zip(*parts, strict=True))
    return replace(PairBatch.without_truth(fixed, moving), flow=flow)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "factor", "steps"), [(FlowNetS, 2, 100), (FlowNetC, 4, 60)])
def test_a_network_fits_the_pairs_below_a_pixel_and_none_that_are_wrong(tmp_path, kind, factor, steps):
    pairs = batch(factor)
    network = seeded_network(0, 2, 0.125, architecture=kind)
    options = TrainingOptions(steps, learning_rate=2e-3, checkpoint_seconds=1e9, machine=Machine("cpu", threads=1))
    for _ in train(network, lambda _: pairs, (1.0, 1.0), tmp_path, options):
        pass
    without = pairs_error(None, pairs)
    limit = min(1.0, 0.6 * without)
    assert pairs_error(network, pairs) < limit
    assert pairs_error(network, replace(pairs, fixed=pairs.moving, moving=pairs.fixed)) > limit
    assert pairs_error(network, replace(pairs, flow=-pairs.flow)) > 1.2 * without


@pytest.fixture
def flo(tmp_path):
    """A flow of 3 x 2 pixels, written byte by byte."""
    values = np.arange(12, dtype="<f4").reshape(2, 3, 2)
    path = tmp_path / "small.flo"
    path.write_bytes(np.float32(202021.25).tobytes() + np.array([3, 2], "<i4").tobytes() + values.tobytes())
    return path


def test_rows_of_the_file_are_the_second_axis(flo):
    phi = read_flo(flo)
    assert phi.grid == Grid((3, 2))
    # the second pixel of the first row, and the first of the second
    np.testing.assert_array_equal(phi([1, 0]), [1 + 2, 0 + 3])
    np.testing.assert_array_equal(phi([0, 1]), [0 + 6, 1 + 7])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content[:-3], "expected 60 bytes for 3 x 2 pixels, got 57; is it truncated"),
        (lambda content: content[:9], "expected optical flow"),
        (lambda content: b"PNG" + content[3:], "expected optical flow"),
        (lambda content: content[:4] + b"\0" * 4 + content[8:], "0 x 2 pixels"),
        (lambda content: content[:-4] + np.float32(1e10).tobytes(), "some without"),
        (lambda content: content[:-4] + np.float32(np.nan).tobytes(), "some without"),
    ],
)
def test_other_files_are_refused(flo, spoil, said):
    flo.write_bytes(spoil(flo.read_bytes()))
    with pytest.raises(ValueError, match=f"small.flo: .*{said}") as caught:
        read_flo(flo)
    assert "\n" not in str(caught.value)
