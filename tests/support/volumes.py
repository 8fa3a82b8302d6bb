"""Volumes in files, and where their voxels lie."""

import gzip
import struct

import nibabel
import numpy as np

from augreg import Grid, Image, write_image

RNG = np.random.default_rng
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (7, 8, 9)


def numbers(dtype="i2", shape=SHAPE):
    return (RNG(0).random(shape) * 100 - (50 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)


def turn(angle):
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def affine(angle=0.1, sizes=(2, 2.5, 3), origin=(-90, -100, -50)):
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = turn(angle) * np.array(sizes), origin
    return out


def nifti(path, values=None, sform=None, scode=1, qform=None, qcode=1, **fields):
    values = numbers() if values is None else values
    file = nibabel.Nifti1Image(values, affine(), dtype=values.dtype)
    file.set_sform(affine() if sform is None else sform, scode)
    file.set_qform(affine() if qform is None else qform, qcode, strip_shears=True)
    for key, value in fields.items():
        file.header[key] = value
    nibabel.save(file, path)
    return path


def patched(path, at, form, *what):
    """A file with numbers of its header replaced."""
    packed = path.suffix == ".gz"
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    struct.pack_into(form, content, at, *what)
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    return path


def corners(grid):
    return np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape], indexing="ij")).reshape(grid.ndim, -1).T


def off(grid, matrix):
    """How far the corners lie from where a RAS matrix has them, mm."""
    at = corners(grid)
    return np.abs(grid.points_at(at) - (np.c_[at, np.ones(len(at))] @ (LPS @ matrix).T)[:, :3]).max()


def packed(kind, tmp_path):
    grid = Grid(SHAPE)
    path = tmp_path / f"whole{kind}"
    write_image(Image(numbers("f4"), grid), path)
    return path
