"""A registration as a MONAI transform of dictionaries.

    data[key](x) becomes data[key](phi(x)) on the grid of data[fixed_key],      phi = registration(fixed, moving)

Affines and spaces (RAS, LPS) of MetaTensors are honoured; tensors and arrays without an affine have MONAI's own, the identity.
`inverse` takes what lies on the fixed grid, as the output of a network does, back to where it was, through phi^-1.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import Interpolation, warp
from augreg.geometry.transforms import Transform
from augreg.missing import missing
from augreg.ras import grid_of_ras
from augreg.registration.method import Registration, as_method

try:
    import torch
    from monai.config import KeysCollection
    from monai.data import MetaTensor
    from monai.transforms import InvertibleTransform, MapTransform
    from monai.utils import ensure_tuple_rep
    from monai.utils.enums import SpaceKeys, TraceKeys
except ModuleNotFoundError as error:
    raise missing("monai", error, "monai") from error

_WAYS: dict[str, Interpolation] = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}
_LABELS = ("fixed_labels", "moving_labels", "fixed_mask", "moving_mask", "rigid_mask")


class Registerd(MapTransform, InvertibleTransform):
    """Aligns images of a dictionary with one of them.

    The first of `keys` is registered to `fixed_key`; it and the other keys, which lie in its space, are resampled on the fixed
    grid and have its affine afterwards. Types stay: integers are rounded, with "nearest" values are only moved.

    Parameters
    ----------
    keys : keys of the moving image and of what moves with it, (C, *shape); each has its own grid
    fixed_key : key of the fixed image, which stays as it is
    registration : any callable (fixed, moving, **known) -> Transform, such as `LPRegistration()`
    mode : "bilinear", "nearest" or "bicubic", for all keys or for each; label maps need "nearest"
    known : what the registration is told, keyword to key, such as {"fixed_labels": "label_fixed", "moving_labels": "label"};
        label maps and masks (1, *shape)
    fill : value outside the moving image
    transform_key : key that gets the transform phi, as an object of augreg; none by default, as batches cannot hold it
    allow_missing_keys : whether keys may be absent from a dictionary

    Raises
    ------
    TypeError, ValueError : for options of another kind; when called, for images that have no place and as the registration does.
    """

    def __init__(
        self,
        keys: KeysCollection,
        fixed_key: Hashable,
        registration: Registration,
        mode: str | Sequence[str] = "bilinear",
        known: Mapping[str, Hashable] | None = None,
        fill: float = 0.0,
        transform_key: Hashable | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if fixed_key in self.keys:
            raise ValueError(f"keys: expected the moving images alone, got the fixed one, {fixed_key!r}, among them")
        self.modes = ensure_tuple_rep(mode, len(self.keys))
        if wrong := sorted({str(one) for one in self.modes} - set(_WAYS)):
            raise ValueError(f"mode: expected {', '.join(_WAYS)}, got {', '.join(wrong)}")
        self.known = dict(known or {})
        if unknown := sorted(set(self.known) - set(_LABELS)):
            raise ValueError(f"known: expected keywords among {', '.join(_LABELS)}, got {', '.join(unknown)}")
        self.fixed_key, self.fill, self.transform_key = fixed_key, fill, transform_key
        self.registration = as_method("registration", registration)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The dictionary with the moving images on the fixed grid."""
        done, present = dict(data), [key for key in self.keys if key in data]
        if missing := [key for key in (self.fixed_key, *self.keys[:1], *self.known.values()) if key not in data]:
            if self.allow_missing_keys:
                return done
            raise ValueError(f"{missing[0]}: expected this key in the dictionary, got {', '.join(map(str, data))}")
        fixed = _Placed.of(self.fixed_key, data[self.fixed_key])
        given: dict[str, Any] = {word: _Placed.of(key, data[key]).labels(key) for word, key in self.known.items()}
        phi = self.registration(fixed.image(), _Placed.of(present[0], data[present[0]]).image(), **given)
        for key, mode in self.key_iterator(data, self.modes):
            moving = _Placed.of(key, data[key])
            found = moving.warped(phi, fixed, mode, self.fill)
            # what the inverse needs; its "mode" is what Invertd changes for label maps
            told = {"transform": phi, "grid": moving.grid, "meta": dict(moving.place), "mode": mode}
            self.push_transform(found, orig_size=moving.grid.shape, extra_info=told)
            done[key] = found
        if self.transform_key is not None:
            done[self.transform_key] = phi
        return done

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """What lies on the fixed grid, on the grid where its key was before."""
        done = dict(data)
        for key in self.key_iterator(data):
            # a copy: its history is shortened
            image = data[key].clone() if isinstance(data[key], MetaTensor) else data[key]
            told = self.pop_transform(image)[TraceKeys.EXTRA_INFO]
            here, phi, back = _Placed.of(key, image), told["transform"], told["grid"]
            there = _Placed(torch.empty(0), back, told["meta"])
            done[key] = here.warped(phi.inverse(back), there, told["mode"], self.fill)
        return done


@dataclass(frozen=True, eq=False)
class _Placed:
    """Values (C, *shape) with their grid and the part of their meta data that says where they lie."""

    values: torch.Tensor
    grid: Grid
    place: Mapping[str, Any]

    @staticmethod
    def of(key: Hashable, data: Any) -> _Placed:
        if not isinstance(data, torch.Tensor | np.ndarray) or data.ndim not in (3, 4):
            told = f"shape {tuple(data.shape)}" if hasattr(data, "shape") else type(data).__name__
            raise ValueError(f"{key}: expected an image (C, *shape) of 2 or 3 axes behind the channels, got {told}")
        shape = tuple(int(n) for n in data.shape[1:])
        if not isinstance(data, MetaTensor):
            values = torch.as_tensor(np.ascontiguousarray(data)) if isinstance(data, np.ndarray) else data
            return _Placed(values, grid_of_ras(str(key), shape, np.eye(4)), {})
        lps = data.meta.get("space") == SpaceKeys.LPS
        place = {name: data.meta[name] for name in ("affine", "space") if name in data.meta}
        return _Placed(data, grid_of_ras(str(key), shape, data.affine.cpu().numpy(), lps=lps), place)

    def array(self) -> np.ndarray:
        """(*shape) or, of several channels, (*shape, C)."""
        values = self.values.as_tensor() if isinstance(self.values, MetaTensor) else self.values
        values = (values.float() if values.dtype == torch.bfloat16 else values).detach().cpu()
        return values[0].numpy() if len(values) == 1 else values.movedim(0, -1).numpy()

    def image(self) -> Image:
        return Image(self.array(), self.grid)

    def labels(self, key: Hashable) -> Labels:
        values = self.array()
        if values.ndim != self.grid.ndim:
            raise ValueError(f"{key}: expected one channel of labels, got {len(self.values)}; use argmax first")
        whole = np.rint(values) if values.dtype.kind == "f" else values
        if not np.array_equal(whole, values):
            raise ValueError(f"{key}: expected whole numbers as labels, got others; was it interpolated linearly?")
        return Labels(whole.astype(np.int64) if values.dtype.kind == "f" else whole, self.grid)

    def warped(self, phi: Transform, onto: _Placed, mode: str, fill: float) -> MetaTensor:
        moved = warp(self.image(), phi, onto.grid, interpolation=_WAYS[mode], fill=fill).values
        channels = moved[None] if len(self.values) == 1 else np.moveaxis(moved, -1, 0)
        tensor = torch.from_numpy(np.ascontiguousarray(channels)).to(device=self.values.device, dtype=self.values.dtype)
        meta, done = {}, []
        if isinstance(self.values, MetaTensor):
            meta, done = deepcopy(self.values.meta), list(self.values.applied_operations)
            for name in ("affine", "space"):
                meta.pop(name, None)
        meta |= deepcopy(dict(onto.place)) or {"affine": torch.eye(4, dtype=torch.float64), "space": SpaceKeys.RAS}
        return MetaTensor(tensor, meta=meta, applied_operations=done)
