"""The only reader and writer of files: images and label maps, landmarks, transforms, arrays."""

from augreg.io.arrays import array_of, read_arrays, write_arrays
from augreg.io.files import FileWarning, atomic, remove_partial
from augreg.io.flo import read_flo
from augreg.io.images import IMAGE_SUFFIXES, read_image, read_labels, read_plane, write_image
from augreg.io.placed import Plane
from augreg.io.points import read_points, write_points
from augreg.io.transforms import FIELD_SUFFIXES, TRANSFORM_SUFFIXES, read_transform, write_transform

__all__ = [
    "FIELD_SUFFIXES",
    "IMAGE_SUFFIXES",
    "TRANSFORM_SUFFIXES",
    "FileWarning",
    "Plane",
    "array_of",
    "atomic",
    "read_arrays",
    "read_flo",
    "read_image",
    "read_labels",
    "read_plane",
    "read_points",
    "read_transform",
    "remove_partial",
    "write_arrays",
    "write_image",
    "write_points",
    "write_transform",
]
