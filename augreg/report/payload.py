"""What the page of a model carries so that the browser makes the model's images itself: numbers, packed.

All of it is in the index space of one grid, the template's or, where that has too many points for a page, a coarser one over the
same box. There the map of shape coefficients b is psi(x) = x + sum_k b_k sum_j b_j(x) c_kj, with the cubic B-splines of the
model's own control points and c in voxels; an appearance is clip(a + sum_k a_k p_k). `model.js` evaluates the same functions as
`AppearanceModel.instance`, so what it shows differs only by the rounding done here: c to 16 bits, p_k to 8.

Locality. With A_p the values of all modes at a place p, one column per mode in units of its standard deviation, the covariance
of two places is A_p A_q^T, D x D for shape and a number for texture. The correlation that the page shows is

    r(p, q) = tr(A_p A_q^T) / sqrt(tr(A_p A_p^T) tr(A_q A_q^T)),

the scalar product of two unit vectors. They are carried for the nodes of a coarse lattice, turned onto their leading directions
(which keeps scalar products) and rounded to 8 bits. Where a place hardly varies they are shorter, so that colours fade out.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import scipy.ndimage

from augreg.geometry.grid import FloatArray, Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import resample, sample
from augreg.sam import AppearanceModel
from augreg.sam.motion import Velocity

# sliders for each of shape and texture
MODES = 6
# a page stays near 2 MB: points of the shown grid, nodes of the locality lattice per axis, numbers per node
_POINTS = {2: 100_000, 3: 300_000}
_NODES = {2: 48, 3: 14}
_DIRECTIONS = 64
# control cells around the grid that psi's inverse may look at
_AROUND = 2
# places that vary less than this share of the most variable one fade
_FAINT = 0.1


def payload(model: AppearanceModel) -> dict[str, Any]:
    """Numbers, strings and packed arrays of the page, ready for JSON."""
    grid = shown_grid(model.template)
    low, high = np.percentile(model.textures, (1, 99))
    mean = _shown(model, model.appearance.mean, grid)
    modes = model.appearance.basis[:, :MODES] * np.sqrt(model.appearance.variance[:MODES])
    return {
        "shape": grid.shape,
        "spacing": grid.spacing,
        "views": _views(grid),
        "window": (float(low), float(max(high, low + 1e-9))),
        "limits": model.intensities,
        "mean": pack(mean, np.int16),
        "texture": [pack(_shown(model, mode, grid), np.int8) for mode in modes.T],
        "spline": _spline(model, grid),
        "landmarks": [] if model.maps.dense else grid.indices_at(model.landmarks).round(2).ravel().tolist(),
        "labels": _labels(model, grid),
        "locality": {
            "nodes": lattice_shape(grid),
            "shape": _similarity(shape_values(model, grid)),
            "texture": _similarity(texture_values(model, grid)),
        },
    }


def shown_grid(template: Grid) -> Grid:
    """The template's grid, or a coarser one over the same box with as many points as a page can carry."""
    coarser = (template.size / _POINTS[template.ndim]) ** (1 / template.ndim)
    if coarser <= 1:
        return template
    voxel = float(np.prod(template.spacing)) ** (1 / template.ndim)
    return template.with_spacing(np.maximum(template.spacing, coarser * voxel))


def lattice_shape(grid: Grid) -> tuple[int, ...]:
    """Nodes of the locality lattice along each axis; the outer ones are the corners of the grid."""
    sides = grid.sides
    return tuple(int(n) for n in np.clip(np.rint(_NODES[grid.ndim] * sides / sides.max()), 2, grid.shape))


def nodes(grid: Grid) -> FloatArray:
    """World positions of the lattice's nodes, (nodes, D) mm, row-major."""
    return grid.lattice(lattice_shape(grid))


def shape_values(model: AppearanceModel, grid: Grid) -> FloatArray:
    """A_p of shape at the lattice, (nodes, D, Ks) mm."""
    points = nodes(grid)
    return np.stack([model.transform(b)(points) - points for b in np.eye(model.shape.rank)], axis=-1)


def texture_values(model: AppearanceModel, grid: Grid) -> FloatArray:
    """A_p of texture at the lattice, (nodes, 1, Ka) in units of intensity."""
    points = nodes(grid)
    modes = (model.appearance.basis * np.sqrt(model.appearance.variance)).reshape(*model.template.shape, -1)
    return sample(Image(modes, model.template), points)[:, None]


def pack(values: FloatArray, kind: type[np.signedinteger]) -> dict[str, Any]:
    """Numbers as `scale` times integers, deflated, in base64."""
    top = float(np.abs(values).max()) or 1.0
    scale = top / np.iinfo(kind).max
    data = np.rint(values / scale).astype(np.dtype(kind).newbyteorder("<")).tobytes()
    return {"scale": scale, "bits": 8 * np.dtype(kind).itemsize, "data": base64.b64encode(zlib.compress(data, 9)).decode()}


def unpack(packed: dict[str, Any]) -> FloatArray:
    """The numbers of `pack`, flat."""
    data = zlib.decompress(base64.b64decode(packed["data"]))
    return packed["scale"] * np.frombuffer(data, dtype=f"<i{packed['bits'] // 8}").astype(np.float64)


def _shown(model: AppearanceModel, texture: FloatArray, grid: Grid) -> FloatArray:
    """Values (N,) of the template on the shown grid, (*shape)."""
    values = texture.reshape(model.template.shape)
    if grid == model.template:
        return values
    # what the coarser grid cannot hold must not come back as a pattern
    blur = [0.4 * np.sqrt(max(g / t, 1) ** 2 - 1) for g, t in zip(grid.spacing, model.template.spacing, strict=True)]
    smooth = Image(scipy.ndimage.gaussian_filter(values, blur), model.template)
    return np.asarray(resample(smooth, grid).values, dtype=np.float64)


def _views(grid: Grid) -> list[dict[str, Any]]:
    """Planes: the index axes that run to the right and down the picture; x and y downwards, in a volume's others the head up."""
    if grid.ndim == 2:
        return [{"axes": (0, 1), "up": False}]
    # world z points to the head (LPS)
    up = bool(grid.axes[2, 2] > 0)
    return [{"axes": (0, 1), "up": False}, {"axes": (0, 2), "up": up}, {"axes": (1, 2), "up": up}]


def _spline(model: AppearanceModel, grid: Grid) -> dict[str, Any]:
    """The leading modes' coefficients around the shown grid, in its voxels; control index = step * index + start."""
    motion, control, end = model.maps.motion, model.control, model.control.last
    step = np.diag(control.world_to_index @ grid.index_to_world)
    start = control.indices_at(grid.origin)
    first = np.maximum(np.floor(start - 1 - _AROUND), 0).astype(int)
    last = np.minimum(np.ceil(start + step * grid.last + 1 + _AROUND), end).astype(int)
    inner = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    modes = model.mode_splines[(slice(MODES), *inner)] @ grid.world_to_index.T
    return {
        "shape": modes.shape[1:-1],
        "step": step.tolist(),
        "start": (start - first).tolist(),
        "steps": motion.steps if isinstance(motion, Velocity) else 0,
        "modes": [pack(mode, np.int16) for mode in modes],
    }


def _labels(model: AppearanceModel, grid: Grid) -> dict[str, Any] | None:
    if model.labels is None:
        return None
    values = resample(Labels(model.labels, model.template), grid).values
    _, number = np.unique(values, return_inverse=True)
    return pack(number.reshape(grid.shape).astype(np.float64), np.int16)


def _similarity(values: FloatArray) -> dict[str, Any]:
    """Vectors whose scalar products are r(p, q), faded; and each place's standard deviation."""
    deviation = np.sqrt(np.sum(values**2, axis=(1, 2)))
    unit = values / np.maximum(deviation, 1e-300)[:, None, None]
    _, _, directions = np.linalg.svd(unit.reshape(-1, values.shape[2]), full_matrices=False)
    vectors = (unit @ directions[:_DIRECTIONS].T).reshape(len(values), -1)
    # the directions left out took their share of the length
    vectors *= (fading(deviation) / np.maximum(np.linalg.norm(vectors, axis=1), 1e-300))[:, None]
    return {"length": vectors.shape[1], "vectors": pack(vectors, np.int8), "deviation": pack(deviation, np.int16)}


def fading(deviation: FloatArray) -> FloatArray:
    """From 0 where nothing varies to 1 where a place varies by _FAINT of the most variable one, or more."""
    return np.minimum(deviation / max(_FAINT * float(deviation.max()), 1e-300), 1)
