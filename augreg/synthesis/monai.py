"""Pairs as MONAI transforms of dictionaries.

MONAI's dense displacement fields (`ddf` of `monai.networks.blocks.Warp`) are in voxels along the index axes, as ours are:
`Warp()(moving, ddf)` is `fixed`. Affines are RAS, as its readers give them; random states are set as in all its transforms.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch

from augreg.grid import Grid
from augreg.synthesis.pairs import PairBatch, PairGenerator, make_pairs
from augreg.synthesis.ras import ras_affine

try:
    from monai.config import KeysCollection
    from monai.data import MetaTensor
    from monai.networks.blocks import Warp
    from monai.transforms import MapTransform, Randomizable, Transform
    from monai.utils import ensure_tuple_rep
except ModuleNotFoundError as error:
    raise ValueError(f"monai: expected the package {error.name}, it is missing; pip install 'augreg[monai]'") from error


class RandPaird(Randomizable, Transform):
    """Puts a pair of a generator into a dictionary.

    Adds `fixed`, `moving` (1, *shape) float32, `ddf` (D, *shape) voxels with moving(x + ddf(x)) = fixed(x) inside `mask`
    (1, *shape) bool, `reverse_ddf`, `reverse_mask`, `fixed_labels` and `moving_labels` where the generator has labels, and
    `pair_seed`: `make_pairs(generator, pair_seed, [0])` makes the pair again.

    Parameters
    ----------
    generator : of the pairs
    """

    def __init__(self, generator: PairGenerator[Any]) -> None:
        self.generator = generator
        self.pair_seed = 0

    def randomize(self, data: Any = None) -> None:
        """Draw the seed of the next pair."""
        self.pair_seed = int(self.R.randint(2**31))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The dictionary with a pair."""
        self.randomize()
        batch, grid = make_pairs(self.generator, self.pair_seed, [0]), self.generator.grid
        parts = {"fixed": batch.fixed, "moving": batch.moving, **_truth(batch)}
        if batch.fixed_labels is not None and batch.moving_labels is not None:
            parts |= {"fixed_labels": batch.fixed_labels, "moving_labels": batch.moving_labels}
        return {**data, **{name: _on_grid(part[0], grid) for name, part in parts.items()}, "pair_seed": self.pair_seed}


class RandWarpPaird(Randomizable, MapTransform):
    """Makes pairs of the images of a dictionary by the deformations of a generator.

    Each image KEY becomes the moving one and stays; `fixed_KEY` is KEY warped by `ddf`, so KEY(x + ddf(x)) = fixed_KEY(x) but for
    interpolation. Adds `ddf`, `mask`, `reverse_ddf`, `reverse_mask` and `pair_seed` as `RandPaird` does.

    Parameters
    ----------
    keys : of images and label maps of one subject (C, *shape), voxel for voxel on a grid of the generator's shape
    generator : of the deformations
    mode : "bilinear" or "nearest" of `monai.networks.blocks.Warp`, for all keys or for each; label maps need "nearest"
    allow_missing_keys : whether keys may be absent
    """

    def __init__(
        self,
        keys: KeysCollection,
        generator: PairGenerator[Any],
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.generator = generator
        with warnings.catch_warnings():
            # it says each time that it uses torch
            warnings.filterwarnings("ignore", message="monai.networks.blocks.Warp", category=UserWarning)
            self.warps = [Warp(one, "border") for one in ensure_tuple_rep(mode, len(self.keys))]
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
        truth = _truth(make_pairs(self.generator, self.pair_seed, [0]))
        done, affine = dict(data), None
        for key, warp in self.key_iterator(data, self.warps):
            image = torch.as_tensor(data[key])
            warped = warp(image[None].float(), truth["ddf"])[0].to(image.dtype)
            affine = image.affine if isinstance(image, MetaTensor) else affine
            done[f"fixed_{key}"] = MetaTensor(warped, meta=image.meta) if isinstance(image, MetaTensor) else warped
        for name, part in truth.items():
            done[name] = _on_grid(part[0], self.generator.grid) if affine is None else MetaTensor(part[0], affine=affine)
        return {**done, "pair_seed": self.pair_seed}


def _truth(batch: PairBatch) -> dict[str, torch.Tensor]:
    return {"ddf": batch.flow, "mask": batch.mask, "reverse_ddf": batch.reverse, "reverse_mask": batch.reverse_mask}


def _on_grid(tensor: torch.Tensor, grid: Grid) -> MetaTensor:
    return MetaTensor(tensor, affine=torch.from_numpy(ras_affine(grid)))
