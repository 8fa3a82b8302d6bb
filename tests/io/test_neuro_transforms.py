"""Linear transforms of FSL and FreeSurfer, by what their documentation says of their coordinates; neither was at hand."""

import nibabel
import numpy as np
import pytest

from augreg import read_transform
from augreg.cli import main
from augreg.io.neuro import read_freesurfer, read_fsl

try:
    import nitransforms
except ModuleNotFoundError:
    nitransforms = None
needed = pytest.mark.skipif(nitransforms is None, reason="nitransforms is not installed")

SIGNS = np.array([-1.0, -1.0, 1.0])
TURN = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])


def image(path, shape, spacing, origin, flip):
    """A NIfTI file, oblique; its first axis runs to the right, or with `flip` to the left."""
    affine = np.eye(4)
    affine[:3, :3] = TURN * spacing * ([-1, 1, 1] if flip else [1, 1, 1])
    affine[:3, 3] = origin
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.float32), affine), path)
    return affine, np.array(shape), np.array(spacing)


def of_fsl(affine, shape, spacing, ras):
    """FSL's coordinates of points (N, 3) in RAS: voxels times spacing, the first axis turned round where it runs to the right."""
    voxel = (np.linalg.inv(affine) @ np.column_stack([ras, np.ones(len(ras))]).T).T[:, :3]
    if np.linalg.det(affine[:3, :3]) > 0:
        voxel[:, 0] = shape[0] - 1 - voxel[:, 0]
    return voxel * spacing


@needed
@pytest.mark.parametrize(("first", "second"), [(False, False), (False, True), (True, False), (True, True)])
def test_matrices_of_fsl_map_between_its_own_coordinates(first, second, tmp_path):
    fixed = image(tmp_path / "f.nii.gz", (20, 24, 18), (1.0, 2.0, 1.5), (-10, 5, 30), first)
    moving = image(tmp_path / "m.nii.gz", (16, 30, 14), (2.0, 1.0, 1.2), (4, -7, 12), second)
    matrix = np.eye(4)
    matrix[:3, :3] += 0.1 * np.random.default_rng(0).normal(size=(3, 3))
    matrix[:3, 3] = [3, -4, 5]
    np.savetxt(tmp_path / "t.mat", matrix, fmt="%.10f")
    phi = read_fsl(tmp_path / "t.mat", tmp_path / "f.nii.gz", tmp_path / "m.nii.gz")
    x = np.random.default_rng(1).uniform(-20, 40, (6, 3))
    # flirt: coordinates of the moving image to those of the fixed one
    there = of_fsl(*moving, phi(x) * SIGNS)
    back = (matrix @ np.column_stack([there, np.ones(6)]).T).T[:, :3]
    np.testing.assert_allclose(back, of_fsl(*fixed, x * SIGNS), atol=1e-5)
    out = str(tmp_path / "phi.tfm")
    files = ["-r", str(tmp_path / "f.nii.gz"), "--moving", str(tmp_path / "m.nii.gz")]
    assert main(["transform", "convert", str(tmp_path / "t.mat"), *files, "-o", out]) == 0
    np.testing.assert_allclose(read_transform(out)(x), phi(x), atol=1e-9)


LTA = """type      = 1 # LINEAR_RAS_TO_RAS
nxforms   = 1
mean      = 0.0000 0.0000 0.0000
sigma     = 1.0000
1 4 4
{rows}
src volume info
valid = 1  # volume info valid
filename = moving.mgz
volume = 256 256 256
voxelsize = 1.0 1.0 1.0
xras   = -1.0 0.0 0.0
yras   = 0.0 0.0 -1.0
zras   = 0.0 1.0 0.0
cras   = 1.0 2.0 3.0
dst volume info
valid = 1  # volume info valid
filename = fixed.mgz
volume = 256 256 256
voxelsize = 1.0 1.0 1.0
xras   = -1.0 0.0 0.0
yras   = 0.0 0.0 -1.0
zras   = 0.0 1.0 0.0
cras   = 0.0 0.0 0.0
"""


@needed
def test_transforms_of_freesurfer_map_their_source_to_their_destination(tmp_path):
    matrix = np.eye(4)
    matrix[:3, :3] += 0.1 * np.random.default_rng(0).normal(size=(3, 3))
    matrix[:3, 3] = [3, -4, 5]
    rows = "\n".join(" ".join(f"{v:.15e}" for v in row) for row in matrix)
    (tmp_path / "t.lta").write_text(LTA.format(rows=rows), encoding="utf-8")
    x = np.random.default_rng(1).uniform(-20, 40, (6, 3))
    for phi in (read_freesurfer(tmp_path / "t.lta"), read_transform(tmp_path / "t.lta")):
        source = phi(x) * SIGNS
        np.testing.assert_allclose((matrix[:3, :3] @ source.T).T + matrix[:3, 3], x * SIGNS, atol=1e-5)


@needed
def test_files_that_cannot_be_used_are_one_line(tmp_path):
    image(tmp_path / "f.nii.gz", (5, 6, 7), (1.0, 1.0, 1.0), (0, 0, 0), False)
    np.savetxt(tmp_path / "zero.mat", np.zeros((4, 4)))
    (tmp_path / "t.lta").write_text("hello\n", encoding="utf-8")
    (tmp_path / "text").write_text("hello\n", encoding="utf-8")
    f = tmp_path / "f.nii.gz"
    for call in (
        lambda: read_fsl(tmp_path / "zero.mat", f, f),
        lambda: read_fsl(tmp_path / "text", f, f),
        lambda: read_fsl(tmp_path / "zero.mat", tmp_path / "text", f),
        lambda: read_freesurfer(tmp_path / "t.lta"),
    ):
        with pytest.raises(ValueError, match=r"expected (a|one)") as caught:
            call()
        assert "\n" not in str(caught.value)
