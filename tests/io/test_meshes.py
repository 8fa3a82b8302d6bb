"""Meshes as shapes: what a surface encloses is known, whatever format and grid; holes and unknown coordinates are told."""

import numpy as np
import pytest
from support import spaces
from support.phantoms import blobs

from augreg import Grid, Image, read_model, write_image
from augreg.cli import main
from augreg.io import filled, read_mesh

try:
    import trimesh
except ModuleNotFoundError:
    trimesh = None
pytestmark = pytest.mark.skipif(trimesh is None, reason="trimesh is not installed")
RAS = np.array([-1.0, -1.0, 1.0])


def ellipsoid(center, radii, subdivisions=4):
    ball = trimesh.creation.icosphere(subdivisions=subdivisions)
    return trimesh.Trimesh(ball.vertices * radii + center, ball.faces, process=False)


@pytest.mark.parametrize("name", spaces.directions(3))
def test_a_label_map_is_what_a_surface_encloses(name, tmp_path):
    grid = spaces.grid(3, name, shape=(33, 17, 22))
    radii, center = np.array([6.0, 9.0, 7.0]), grid.center + 0.3
    ellipsoid(center, radii).export(tmp_path / "a.ply")
    labels = filled(read_mesh(tmp_path / "a.ply", space="lps"), grid)
    r = np.linalg.norm((grid.points() - center) / radii, axis=-1)
    # the triangles lie within a hundredth of the surface
    sure = np.abs(r - 0.995) > 0.006
    assert np.array_equal(labels.values[sure] == 1, r[sure] < 0.995)
    assert 100 < labels.values.sum() < labels.values.size / 2


@pytest.mark.parametrize("suffix", [".ply", ".stl", ".obj", ".off"])
def test_all_formats_hold_the_same_surface(suffix, tmp_path):
    mesh = ellipsoid([3.0, -20.0, 40.0], [6.0, 9.0, 7.0], 2)
    mesh.export(tmp_path / f"a{suffix}")
    found = read_mesh(tmp_path / f"a{suffix}", space="ras")
    assert found.open_edges == 0
    # all vertices of the triangles, in RAS
    np.testing.assert_allclose(found.points[found.triangles] * RAS, mesh.vertices[mesh.faces], atol=1e-5)
    if suffix != ".stl":  # which has no shared vertices
        np.testing.assert_allclose(found.points * RAS, mesh.vertices, atol=1e-5)


def test_a_file_that_says_its_coordinates_is_believed_and_others_are_asked_for(tmp_path):
    mesh = ellipsoid([3.0, -20.0, 40.0], [6.0, 9.0, 7.0], 1)
    text = mesh.export(file_type="ply", encoding="ascii").decode()
    for said, sign in (("LPS", 1.0), ("RAS", RAS)):
        told = text.replace("format ascii 1.0\n", f"format ascii 1.0\ncomment 3D Slicer output. SPACE={said}\n")
        (tmp_path / "a.ply").write_text(told, encoding="utf-8")
        np.testing.assert_allclose(read_mesh(tmp_path / "a.ply").points, mesh.vertices * sign, atol=1e-5)
    (tmp_path / "b.ply").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"b\.ply: expected a mesh that says in which coordinates it is") as caught:
        read_mesh(tmp_path / "b.ply")
    assert "--mesh-space lps or ras" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_meshes_that_cannot_be_used_are_one_line(tmp_path):
    grid = Grid((20, 22, 24), (1.0, 1.5, 1.0))
    mesh = ellipsoid(grid.center, [6.0, 9.0, 7.0], 2)
    mesh.update_faces(np.arange(len(mesh.faces)) != 17)
    mesh.export(tmp_path / "a.ply")
    with pytest.raises(ValueError, match=r"liver: expected a closed surface, got a mesh with holes \(3 open edges\)"):
        filled(read_mesh(tmp_path / "a.ply", space="lps"), grid, "liver")
    ellipsoid([900.0, 0.0, 0.0], [6.0, 9.0, 7.0], 2).export(tmp_path / "far.ply")
    with pytest.raises(ValueError, match="expected a mesh around some voxels of its image, got none"):
        filled(read_mesh(tmp_path / "far.ply", space="lps"), grid)
    (tmp_path / "cut.ply").write_bytes((tmp_path / "a.ply").read_bytes()[:400])
    for name, content in (("text.ply", b"hello"), ("text.vtk", b"# augreg"), ("empty.stl", b"solid a\nendsolid a\n")):
        (tmp_path / name).write_bytes(content)
    for name in ("cut.ply", "text.ply", "text.vtk", "empty.stl"):
        with pytest.raises(ValueError, match=name) as caught:
            read_mesh(tmp_path / name, space="lps")
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="expected an image of three axes"):
        filled(read_mesh(tmp_path / "far.ply", space="lps"), Grid((5, 6)))
    with pytest.raises(ValueError, match="space: expected lps or ras, got 'LPS'"):
        read_mesh(tmp_path / "far.ply", space="LPS")


@pytest.mark.parametrize("suffix", [".vtk", ".vtp"])
def test_surfaces_of_vtk_are_read_by_vtk(suffix, tmp_path):
    pytest.importorskip("vtkmodules", reason="vtk is not installed")
    from vtkmodules.vtkCommonDataModel import vtkPolyData
    from vtkmodules.vtkFiltersSources import vtkSphereSource
    from vtkmodules.vtkIOLegacy import vtkPolyDataWriter
    from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

    ball = vtkSphereSource()
    ball.SetRadius(7.0)
    ball.SetCenter(10.0, 12.0, 9.0)
    ball.SetThetaResolution(40)
    ball.SetPhiResolution(40)
    ball.Update()
    assert isinstance(ball.GetOutput(), vtkPolyData)
    writer = vtkPolyDataWriter() if suffix == ".vtk" else vtkXMLPolyDataWriter()
    writer.SetInputConnection(ball.GetOutputPort())
    if suffix == ".vtk":
        writer.SetHeader("3D Slicer output. SPACE=RAS")
    writer.SetFileName(str(tmp_path / f"a{suffix}"))
    writer.Write()
    mesh = read_mesh(tmp_path / f"a{suffix}", space=None if suffix == ".vtk" else "ras")
    assert mesh.open_edges == 0
    np.testing.assert_allclose(np.linalg.norm(mesh.points - [-10.0, -12.0, 9.0], axis=1), 7.0, atol=1e-4)


def test_models_are_fitted_to_meshes_as_label_maps_and_as_landmarks(tmp_path, capsys):
    grid = Grid((26, 28, 24), (1.0, 1.2, 1.4), (-5.0, 3.0, 10.0))
    rng, images, meshes = np.random.default_rng(0), [], []
    for k in range(4):
        radii = np.array([7.0, 9.0, 8.0]) * rng.uniform(0.8, 1.1, 3)
        center = grid.center + rng.uniform(-1, 1, 3)
        r = np.linalg.norm((grid.points() - center) / radii, axis=-1)
        image = Image((100 * (r < 1) + 10 * blobs(grid, seed=k).values).astype(np.float32), grid)
        write_image(image, tmp_path / f"{k}.nii.gz")
        ellipsoid(center, radii, 2).export(tmp_path / f"{k}.ply")
        images.append(str(tmp_path / f"{k}.nii.gz"))
        meshes.append(str(tmp_path / f"{k}.ply"))
    out = str(tmp_path / "m.npz")
    common = ["sam", "fit", *images, "-o", out, "--levels", "1"]
    assert main([*common, "--landmarks", *meshes, "--mesh-space", "lps"]) == 0
    assert len(read_model(out).landmarks) == 162
    assert main([*common, "--labels", *meshes, "--mesh-space", "lps"]) == 0
    carried = read_model(out)
    assert len(carried.landmarks) > 50
    capsys.readouterr()
    assert main([*common, "--labels", *meshes]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "--mesh-space lps or ras" in line
