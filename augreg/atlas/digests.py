"""Digests of what a bank is made of: equal inputs have equal ones, in any process."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np

from augreg.atlas.atlas import Atlas
from augreg.geometry.image import Image, Labels

_LENGTH = 16


def of_image(image: Image | Labels) -> str:
    """Of values and grid."""
    return _of(_said(image))


def of_atlas(atlas: Atlas) -> str:
    """Of its image, its labels and where it is seen."""
    return _of(_said((atlas.image, atlas.labels, atlas.seen)))


def of_registration(registration: Any) -> str:
    """Of a registration: of its options, of the weights of its networks; of a function, its name.

    Fields that do not count when dataclasses are compared do not count here.

    Raises
    ------
    TypeError : for parts of which nobody can know whether they are the same in another process.
    """
    return _of(_said(registration))


def _of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def _said(value: Any) -> str:
    """A text that equal values share."""
    torch = sys.modules.get("torch")
    if isinstance(value, float):
        # 0 and -0 are equal
        return repr(value + 0.0)
    if isinstance(value, str | int | bytes | None):
        return repr(value)
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        return f"array {array.dtype.str} {array.shape} {hashlib.sha256(array.data).hexdigest()}"
    if isinstance(value, tuple | list | frozenset | set):
        parts = [_said(part) for part in value]
        return f"[{', '.join(sorted(parts) if isinstance(value, set | frozenset) else parts)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(sorted(f'{_said(key)}: {_said(part)}' for key, part in value.items()))}}}"
    if is_dataclass(value) and not isinstance(value, type):
        told = [field.name for field in fields(value) if field.compare]
        return f"{_name(type(value))}({', '.join(f'{name}={_said(getattr(value, name))}' for name in told)})"
    if torch is not None and isinstance(value, torch.nn.Module):
        weights = {name: part.detach().cpu().float().numpy() for name, part in value.state_dict().items()}
        return f"{value!r} {_said(weights)}"
    if isinstance(value, partial):
        return f"{_said(value.func)}({_said(value.args)}, {_said(value.keywords)})"
    if callable(value) and hasattr(value, "__qualname__") and "<" not in value.__qualname__:
        return _name(value)
    raise TypeError(
        f"registration: expected a frozen dataclass or a function of a module, got {type(value).__name__}, of which nobody can "
        "know whether it is the same in another process; write a dataclass of its options"
    )


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"
