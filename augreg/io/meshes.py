"""Meshes of surfaces as shapes: their vertices are landmarks, and what they enclose is a label map on an image's grid.

    .ply .stl .obj .off     trimesh         .vtk .vtp     vtk           both only where they are installed

Points become LPS, mm. 3D Slicer writes SPACE=LPS or SPACE=RAS into its files; a mesh that does not say is not guessed at.

A voxel is inside where a line from it along the first axis leaves the surface an odd number of times, which needs a surface
without holes: every edge belongs to two triangles.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Labels
from augreg.io.files import existing_file
from augreg.missing import missing

MESH_SUFFIXES = (".ply", ".stl", ".obj", ".off", ".vtk", ".vtp")
_SPACE = re.compile(rb"SPACE=(LPS|RAS)")
_SIGNS = {"lps": np.ones(3), "ras": np.array([-1.0, -1.0, 1.0])}
# of a file, where it says what it is
_HEAD = 4096
# pairs of triangles and lines that are looked at together
_PAIRS = 1 << 20
# lines pass beside the voxels' centres by so much of a voxel, so that none meets an edge
_ASIDE = np.array([1.7e-6, 2.3e-6])


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface of triangles.

    Parameters
    ----------
    points : vertices (N, 3), LPS, mm
    triangles : indices of vertices (M, 3)
    """

    points: FloatArray
    triangles: npt.NDArray[np.int64]

    @property
    def open_edges(self) -> int:
        """Edges that do not belong to two triangles, each; 0 for a surface that encloses something."""
        # formats without shared vertices repeat them
        _, same = np.unique(self.points, axis=0, return_inverse=True)
        corners = same.reshape(-1)[self.triangles]
        corners = corners[np.all(corners != np.roll(corners, 1, axis=1), axis=1)]
        edges = np.sort(np.concatenate([corners[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))]), axis=1)
        _, counts = np.unique(edges, axis=0, return_counts=True)
        return int(np.count_nonzero(counts % 2))


def is_mesh(path: str | os.PathLike[str]) -> bool:
    """Whether a file is named as a mesh."""
    return Path(path).suffix.lower() in MESH_SUFFIXES


def read_mesh(path: str | os.PathLike[str], *, space: str | None = None) -> Mesh:
    """A mesh; its vertices have the order of the file.

    Parameters
    ----------
    space : "lps" or "ras", of files that do not say

    Raises
    ------
    FileNotFoundError, or ValueError for other files, unknown coordinates, no triangles, a reader that is missing.
    """
    found = existing_file(path)
    if space not in (None, *_SIGNS):
        raise ValueError(f"space: expected lps or ras, got {space!r}")
    if not is_mesh(found):
        raise ValueError(f"{found}: expected a mesh, one of {' '.join(MESH_SUFFIXES)}, got {found.suffix!r}")
    with open(found, "rb") as file:
        said = _SPACE.search(file.read(_HEAD))
    stated = said[1].decode().lower() if said else space
    if stated is None:
        raise ValueError(
            f"{found}: expected a mesh that says in which coordinates it is (SPACE=LPS, as 3D Slicer writes it), got none; say "
            "it with --mesh-space lps or ras (read_mesh(..., space=))"
        )
    read: Callable[[Path], tuple[Any, Any]] = _by_vtk if found.suffix.lower() in (".vtk", ".vtp") else _by_trimesh
    points, triangles = read(found)
    points, triangles = np.asarray(points, dtype=np.float64), np.asarray(triangles, dtype=np.int64)
    if points.ndim != 2 or points.shape[1:] != (3,) or triangles.shape[1:] != (3,) or not len(points) or not len(triangles):
        raise ValueError(f"{found}: expected a surface of triangles, got {len(points)} points and {len(triangles)} triangles")
    if not np.isfinite(points).all() or triangles.min() < 0 or triangles.max() >= len(points):
        raise ValueError(f"{found}: expected finite points and triangles of them, got others; copy the file again")
    return Mesh(points * _SIGNS[stated], triangles)


def filled(mesh: Mesh, grid: Grid, name: str = "mesh") -> Labels:
    """The label map of a mesh: 1 at voxels whose centres it encloses.

    Raises
    ------
    ValueError : for a mesh with holes, a grid of two axes, a mesh that encloses no voxel.
    """
    if grid.ndim != 3:
        raise ValueError(f"{name}: expected an image of three axes for a mesh, got two")
    holes = mesh.open_edges
    if holes:
        raise ValueError(
            f"{name}: expected a closed surface, got a mesh with holes ({holes} open edges); close them, or give it as landmarks"
        )
    corners = grid.indices_at(mesh.points)[mesh.triangles]
    flips = np.zeros((grid.shape[0] + 1, *grid.shape[1:]), dtype=np.uint8)
    low = np.maximum(np.ceil(corners[..., 1:].min(axis=1) - _ASIDE), 0).astype(np.int64)
    high = np.minimum(np.floor(corners[..., 1:].max(axis=1) - _ASIDE), grid.last[1:]).astype(np.int64)
    sizes = np.maximum(high - low + 1, 0)
    counts = sizes.prod(axis=1)
    start = 0
    ends = np.cumsum(counts)
    while start < len(counts):
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] - counts[start] + _PAIRS, side="right")))
        _flip(corners[start:stop], low[start:stop], sizes[start:stop], counts[start:stop], flips)
        start = stop
    inside = np.cumsum(flips[:-1], axis=0, dtype=np.int64) % 2
    if not inside.any():
        raise ValueError(f"{name}: expected a mesh around some voxels of its image, got none; are its coordinates the image's?")
    return Labels(inside.astype(np.uint8), grid)


def _flip(corners: FloatArray, low: Any, sizes: Any, counts: Any, flips: npt.NDArray[np.uint8]) -> None:
    """Count where lines along the first axis meet triangles: at the first voxel behind each."""
    of = np.repeat(np.arange(len(corners)), counts)
    rest = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    lines = low[of] + np.stack(np.divmod(rest, sizes[of, 1]), axis=1)
    a, b, c = (corners[of, k] for k in range(3))
    p = lines + _ASIDE - a[:, 1:]
    u, v = b[:, 1:] - a[:, 1:], c[:, 1:] - a[:, 1:]
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    # triangles along the lines are not met by any
    area = np.where(area == 0, np.nan, area)
    s, t = (p[:, 0] * v[:, 1] - p[:, 1] * v[:, 0]) / area, (u[:, 0] * p[:, 1] - u[:, 1] * p[:, 0]) / area
    met = (s >= 0) & (t >= 0) & (s + t <= 1)
    x = (a[:, 0] + s * (b[:, 0] - a[:, 0]) + t * (c[:, 0] - a[:, 0]))[met]
    place = np.clip(np.ceil(x), 0, len(flips) - 1).astype(np.int64)
    np.add.at(flips, (place, lines[met, 0], lines[met, 1]), 1)


def _by_trimesh(path: Path) -> tuple[Any, Any]:
    try:
        import trimesh
    except ModuleNotFoundError as error:
        raise missing(str(path), error, "meshes") from error
    try:
        # as it stands in the file: nothing merged, nothing reordered
        mesh: Any = trimesh.load(path, process=False, force="mesh")
        return mesh.vertices, mesh.faces
    except Exception as error:
        # whatever its readers raise
        raise ValueError(f"{path}: expected a mesh, got a file that cannot be read as one; copy it again") from error


def _by_vtk(path: Path) -> tuple[Any, Any]:
    try:
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkCommonCore import vtkObject
        from vtkmodules.vtkFiltersCore import vtkTriangleFilter
        from vtkmodules.vtkIOLegacy import vtkPolyDataReader
        from vtkmodules.vtkIOXML import vtkXMLPolyDataReader
    except ModuleNotFoundError as error:
        raise missing(str(path), error, instead="or write the mesh as .ply") from error
    legacy = path.suffix.lower() == ".vtk"
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    # VTK itself makes points of any text
    if not (
        head.startswith(b"# vtk DataFile") and b"POLYDATA" in head if legacy else b"<VTKFile" in head and b"PolyData" in head
    ):
        raise ValueError(f"{path}: expected a file of VTK with POLYDATA, got something else")
    shown = vtkObject.GetGlobalWarningDisplay()
    vtkObject.SetGlobalWarningDisplay(0)
    try:
        reader, triangles = vtkPolyDataReader() if legacy else vtkXMLPolyDataReader(), vtkTriangleFilter()
        reader.SetFileName(os.fspath(path))
        triangles.SetInputConnection(reader.GetOutputPort())
        triangles.PassLinesOff()
        triangles.PassVertsOff()
        triangles.Update()
        surface = triangles.GetOutput()
        if reader.GetErrorCode() or surface.GetPoints() is None or not surface.GetNumberOfPolys():
            raise ValueError(f"{path}: expected a surface of VTK, got a file that was cut or holds none; copy it again")
        return vtk_to_numpy(surface.GetPoints().GetData()), vtk_to_numpy(surface.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    finally:
        vtkObject.SetGlobalWarningDisplay(shown)
