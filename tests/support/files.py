"""Arrays for files, and what a refusal must look like."""

import numpy as np
import pytest

from augreg import read_image

RNG = np.random.default_rng


def numbers(*shape, dtype=np.uint8, seed=0):
    top = 250 if np.dtype(dtype).itemsize == 1 else 60000
    return (RNG(seed).random(shape) * top - (top / 2 if np.dtype(dtype).kind in "if" else 0)).astype(dtype)


def pixels(image):
    """An image's values as rows."""
    return np.moveaxis(image.values, (0, 1), (1, 0))


def refused(path, *words):
    with pytest.raises(ValueError, match=r".") as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    for word in words:
        assert word in message


RGB = numbers(120, 90, 3)


class Bomb:
    """Makes a file wherever it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))
