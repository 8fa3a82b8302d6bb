"""Pairs as MONAI transforms of dictionaries.

MONAI's dense displacement fields (`ddf` of `monai.networks.blocks.Warp`) are in voxels along the index axes, as ours are:
`Warp()(moving, ddf)` is `fixed`. What comes from a generator has an affine in RAS, as its readers give them; what belongs to an
image has the image's affine and space. Random states are set as in all its transforms.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch

from augreg.geometry.grid import Grid
from augreg.missing import missing
from augreg.ras import ras_affine
from augreg.synthesis.pairs import PairBatch, PairGenerator, make_pairs, wanted_of

try:
    from monai.config import KeysCollection
    from monai.data import MetaTensor
    from monai.networks.blocks import Warp
    from monai.transforms import MapTransform, Randomizable, Transform
    from monai.utils import ensure_tuple_rep
    from monai.utils.enums import SpaceKeys
except ModuleNotFoundError as error:
    raise missing("monai", error, "monai") from error


class RandPaird(Randomizable, Transform):
    """Puts a pair of a generator into a dictionary.

    Adds `fixed`, `moving` (1, *shape) float32, `ddf` (D, *shape) voxels with moving(x + ddf(x)) = fixed(x) inside `mask`
    (1, *shape) bool, `reverse_ddf`, `reverse_mask`, `fixed_labels` and `moving_labels` where the generator has labels, and
    `pair_seed`: `make_pairs(generator, pair_seed, [0])` makes the pair again.

    Parameters
    ----------
    generator : generator of the pairs
    parts : names of what is wanted of these, such as ("fixed", "moving", "ddf", "mask"); by default all
    """

    def __init__(self, generator: PairGenerator[Any], parts: Sequence[str] | None = None) -> None:
        self.generator = generator
        self.parts = parts
        self.pair_seed = 0

    def randomize(self, data: Any = None) -> None:
        """Draw the seed of the next pair."""
        self.pair_seed = int(self.R.randint(2**31))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The dictionary with a pair."""
        self.randomize()
        batch, grid = make_pairs(self.generator, self.pair_seed, [0]), self.generator.grid
        parts = _named(batch, ("fixed", "moving", *_TRUTH, "fixed_labels", "moving_labels"), self.parts)
        return {**data, **{name: _on_grid(part[0], grid) for name, part in parts.items()}, "pair_seed": self.pair_seed}


class RandWarpPaird(Randomizable, MapTransform):
    """Makes pairs of the images of a dictionary by the deformations of a generator.

    Each image KEY becomes the moving one and stays; `fixed_KEY` is KEY warped by `ddf`, so KEY(x + ddf(x)) = fixed_KEY(x) but for
    interpolation. Types stay: "nearest" moves values of any type as they are, else integers are rounded, and no value leaves the
    image's range. Adds `ddf`, `mask`, `reverse_ddf`, `reverse_mask` and `pair_seed` as `RandPaird` does, in the images' space.

    Parameters
    ----------
    keys : keys of images and label maps of one subject (C, *shape), voxel for voxel on a grid of the generator's shape
    generator : generator of the deformations
    mode : interpolation of `monai.networks.blocks.Warp`, "bilinear" or "nearest", for all keys or for each; label maps need
        "nearest"
    allow_missing_keys : whether keys may be absent from a dictionary
    parts : names of what is wanted of `ddf`, `mask`, `reverse_ddf` and `reverse_mask`; by default all
    """

    def __init__(
        self,
        keys: KeysCollection,
        generator: PairGenerator[Any],
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
        parts: Sequence[str] | None = None,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.generator = generator
        self.parts = parts
        self.modes = ensure_tuple_rep(mode, len(self.keys))
        with warnings.catch_warnings():
            # it says each time that it uses torch
            warnings.filterwarnings("ignore", message="monai.networks.blocks.Warp", category=UserWarning)
            self.warps = [Warp(one, "border") for one in self.modes]
        self.pair_seed = 0

    def randomize(self, data: Any = None) -> None:
        """Draw the seed of the next pair."""
        self.pair_seed = int(self.R.randint(2**31))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The dictionary with the warped images and their truth.

        Raises
        ------
        ValueError : for an image of another shape than the generator's.
        """
        shape = self.generator.grid.shape
        for key in self.key_iterator(data):
            if tuple(data[key].shape[1:]) != shape:
                raise ValueError(
                    f"{key}: expected the shape {shape} of the generator after the channels, got {tuple(data[key].shape[1:])}; "
                    "resample the image first"
                )
        self.randomize()
        batch = make_pairs(self.generator, self.pair_seed, [0])
        truth = _named(batch, tuple(_TRUTH), self.parts)
        done = dict(data)
        placed: dict[Hashable, MetaTensor] = {}
        for key, mode, warp in self.key_iterator(data, self.modes, self.warps):
            image = data[key]
            warped = (_moved if mode == "nearest" else _interpolated)(_tensor(image), batch.flow, warp)
            if isinstance(image, MetaTensor):
                placed[key] = image
                warped = MetaTensor(warped, meta=deepcopy(image.meta))
            done[f"fixed_{key}"] = warped
        where = _common_place(placed)
        for name, part in truth.items():
            done[name] = _on_grid(part[0], self.generator.grid) if where is None else MetaTensor(part[0], meta=dict(where))
        return {**done, "pair_seed": self.pair_seed}


# MONAI's names of a pair's parts, where they are not ours
_TRUTH = {"ddf": "flow", "mask": "mask", "reverse_ddf": "reverse", "reverse_mask": "reverse_mask"}


def _named(batch: PairBatch, names: Sequence[str], wanted: Sequence[str] | None) -> dict[str, torch.Tensor]:
    """The wanted ones of some parts by MONAI's names, by default all that the pairs have."""
    there = [name for name in names if _TRUTH.get(name, name) in batch.names]
    return {name: getattr(batch, _TRUTH.get(name, name)) for name in wanted_of(there, wanted)}


def _on_grid(tensor: torch.Tensor, grid: Grid) -> MetaTensor:
    return MetaTensor(tensor, meta={"affine": torch.from_numpy(ras_affine(grid)), "space": SpaceKeys.RAS})


def _common_place(images: Mapping[Hashable, MetaTensor]) -> dict[str, Any] | None:
    """Affine and space of images that lie voxel for voxel on each other; None without images."""
    places = {
        key: {"affine": image.affine.clone(), **({"space": image.meta["space"]} if "space" in image.meta else {})}
        for key, image in images.items()
    }
    if not places:
        return None
    first, *others = places
    for other in others:
        a, b = (_in_ras(places[key]) for key in (first, other))
        if a.shape != b.shape or not torch.allclose(a, b, atol=1e-3 * float(a[:-1, :-1].norm(dim=0).max())):
            warnings.warn(
                f"{other}: expected the place in the world of {first}, voxel for voxel, got another affine; "
                f"displacements and masks have that of {first}",
                stacklevel=3,
            )
    return places[first]


def _in_ras(place: Mapping[str, Any]) -> torch.Tensor:
    affine: torch.Tensor = place["affine"].double().clone()
    if place.get("space") == SpaceKeys.LPS:
        affine[:2] *= -1
    return affine


def _tensor(image: Any) -> torch.Tensor:
    """An image of torch or numpy as a plain tensor of its own type."""
    if isinstance(image, MetaTensor):
        return image.as_tensor()
    if isinstance(image, torch.Tensor):
        return image
    array = np.asarray(image)
    # torch takes neither other byte orders nor negative strides, and warns of what is read-only
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _moved(image: torch.Tensor, ddf: torch.Tensor, warp: Warp) -> torch.Tensor:
    """The nearest values of an image (C, *shape) under ddf (1, D, *shape), of whatever type.

    Warp is asked for their places, not for them: float32 may not hold them.
    """
    axes = [torch.arange(n, dtype=torch.float32) for n in image.shape[1:]]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    nearest = warp(places, ddf)[0].round().long()
    # torch cannot index all types; as bytes they are alike
    seen = image.contiguous().view(torch.uint8).reshape(*image.shape, image.element_size())
    return seen[(slice(None), *nearest)].contiguous().view(image.dtype).reshape(image.shape)


def _interpolated(image: torch.Tensor, ddf: torch.Tensor, warp: Warp) -> torch.Tensor:
    """An image (C, *shape) under ddf (1, D, *shape), in its own type and range; integers are rounded."""
    wide = image.dtype == torch.float64 or (not image.is_floating_point() and image.element_size() > 2)
    values = image.to(torch.float64 if wide else torch.float32)
    warped = warp(values[None], ddf.to(values.dtype))[0]
    low, high = (bound.reshape(-1, *[1] * (image.ndim - 1)) for bound in values.flatten(1).aminmax(dim=1))
    # with NaN somewhere the range is not known
    warped = warped.clamp(low.nan_to_num(-torch.inf), high.nan_to_num(torch.inf))
    return warped.to(image.dtype) if image.is_floating_point() else warped.round().to(image.dtype)
