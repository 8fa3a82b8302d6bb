"""Arrays of numpy as tensors on a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from augreg.synthesis.render.frame import Tensor


def held(array: npt.NDArray[Any], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A copy of an array on a device: products of torch's own, aligned memory are the same to the last bit in every process."""
    return torch.tensor(array, dtype=dtype, device=device)


def held_labels(array: npt.NDArray[np.integer], device: torch.device) -> Tensor:
    """`held` of labels, whatever their type: int32, or int64 where an id needs it.

    Raises
    ------
    ValueError : for ids that torch has no type for, 2^63 and more.
    """
    return torch.from_numpy(narrow_labels("labels", array)).to(device, copy=True)


def narrow_labels(name: str, array: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Labels as int32, or int64 where an id needs it; ValueError for ids of 2^63 and more."""
    values = np.asarray(array)
    least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if most > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected ids below 2^63, got {most}; give the structures other numbers")
    narrow = np.iinfo(np.int32)
    kind: type[np.integer] = np.int32 if narrow.min <= least and most <= narrow.max else np.int64
    return values.astype(kind)


@contextmanager
def rendering(device: torch.device) -> Iterator[None]:
    """On the CPU torch has one thread inside the block: compiled kernels do the work, and its threads would wait for theirs."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if device.type == "cpu":
            torch.set_num_threads(before)
