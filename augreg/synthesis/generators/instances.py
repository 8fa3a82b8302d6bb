"""Instances of an appearance model on a device: what is drawn of them, and how they are rendered."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch

from augreg.geometry.grid import FloatArray
from augreg.sam.model import AppearanceModel
from augreg.synthesis.pairs import Draw, PairBatch
from augreg.synthesis.render.frame import Tensor
from augreg.synthesis.render.held import held, held_labels, rendering
from augreg.synthesis.render.renderer import Looks, Renderer, Shapes, renderer_on


@dataclass(frozen=True, eq=False)
class AppearanceDraw(Draw):
    """Random numbers of B pairs. The second axis is the image: fixed, moving.

    Parameters
    ----------
    shape : coefficients of the shape modes in standard deviations, (B, 2, Ks)
    mosaic : weights of the fields that choose among the n training textures, times their sharpness, (B, 2, n, q) float32
    modes : coefficients of the appearance's modes in standard deviations, (B, 2, Ka)
    gain : factors from the model's intensities to an image's, (B, 2)
    pose : parameters of the poses, (B, 2, P)
    light : coefficients of the logarithm of a smooth gain, (B, 2, INTENSITY_NODES^D)
    rest : spline coefficients added to those of the shapes, (B, 2, *control shape, D) mm; or (B, 2, 0)
    """

    shape: FloatArray
    mosaic: npt.NDArray[np.float32]
    modes: FloatArray
    gain: FloatArray
    pose: FloatArray
    light: FloatArray
    rest: FloatArray


@dataclass(frozen=True, eq=False)
class HeldModel:
    """The arrays of a model that rendering needs, on a device.

    Parameters
    ----------
    splines : B-spline coefficients of one standard deviation of every shape mode, (Ks, numbers) float64, voxels
    mean : mean appearance, (N,)
    basis : one standard deviation of every appearance mode, (Ka, N)
    textures : training textures, (n, N)
    mixing : factors of the mosaics' fields, one matrix per axis
    labels : label map of the mean shape, (1, *shape), if the model has labels
    label_maps : label maps of the training images, (n, N), likewise
    """

    splines: Tensor
    mean: Tensor
    basis: Tensor
    textures: Tensor
    mixing: list[Tensor]
    labels: Tensor | None
    label_maps: Tensor | None

    @staticmethod
    def of(model: AppearanceModel, device: torch.device) -> HeldModel:
        """Copies of a model's arrays on a device."""
        splines = (model.mode_splines @ model.template.world_to_index.T).reshape(model.shape.rank, -1)
        return HeldModel(
            splines=held(splines, device, torch.float64),
            mean=held(model.appearance.mean, device),
            basis=held((model.appearance.basis * np.sqrt(model.appearance.variance)).T, device),
            textures=held(model.textures, device),
            mixing=[held(axis, device) for axis in model.mixing.axes],
            labels=None if model.labels is None else held_labels(model.labels[None], device),
            label_maps=None if model.label_maps is None else held_labels(model.label_maps, device),
        )


# copies of a model's arrays take time and memory of the device: generators of one model share them, such as those of a
# curriculum, which are new at every step; they go when the model goes
_KEPT: WeakKeyDictionary[AppearanceModel, dict[torch.device, HeldModel]] = WeakKeyDictionary()


def model_on(model: AppearanceModel, device: torch.device) -> HeldModel:
    """A model on a device."""
    kept = _KEPT.setdefault(model, {})
    if device not in kept:
        kept[device] = HeldModel.of(model, device)
    return kept[device]


@dataclass(frozen=True, eq=False)
class InstanceRenderer:
    """Renders pairs of instances.

    Parameters
    ----------
    model : the appearance model
    arrays : arrays of the model on a device
    renderer : renderer of the template's grid, on the same device
    """

    model: AppearanceModel
    arrays: HeldModel
    renderer: Renderer

    @staticmethod
    def on(model: AppearanceModel, device: torch.device) -> InstanceRenderer:
        """The renderer of a model on a device."""
        return InstanceRenderer(model, model_on(model, device), renderer_on(model.template, device))

    def pairs(self, draw: AppearanceDraw) -> PairBatch:
        """The pairs of a draw on the template's grid."""
        with rendering(self.renderer.device):
            return self.renderer.pairs(self.shapes(draw), self._looks(draw))

    def shapes(self, draw: AppearanceDraw) -> Shapes:
        """The maps that a draw says."""
        B, template, renderer = len(draw), self.model.template, self.renderer
        shapes = held(draw.shape.reshape(2 * B, -1), renderer.device, torch.float64)
        coefficients = (shapes @ self.arrays.splines).reshape(2 * B, *renderer.frame.shape, template.ndim)
        if draw.rest.size:
            rest = draw.rest.reshape(2 * B, *draw.rest.shape[2:]) @ template.world_to_index.T
            coefficients = coefficients + held(rest, renderer.device, torch.float64)
        return Shapes(coefficients, self.model.maps.motion, draw.pose.reshape(2 * B, -1), self.model.center)

    def _looks(self, draw: AppearanceDraw) -> Looks:
        """Appearances on the template's grid: mosaics and modes.

        Their bounds are those of the model's instances times the gain, and of the training images. Where the model has labels,
        so have they: at every place those of the image that weighs most in the mosaic, or where all weigh alike, those of the
        mean shape.
        """
        model, known, device, B = self.model, self.arrays, self.renderer.device, len(draw)
        n, shape, size = len(model.textures), model.template.shape, model.template.size
        labels = known.labels
        # which image weighs most, where that says the labels
        most: Tensor | None = None
        if draw.mosaic.any():
            weights = held(draw.mosaic, device)
            # the commonest draw has one appearance in both images: it is made once
            shared = bool((weights[:, 0] == weights[:, 1]).all()) and bool((draw.gain[:, 0] == draw.gain[:, 1]).all())
            weights = weights[:, :1] if shared else weights
            fields = weights.reshape(-1, n, *[axis.shape[1] for axis in known.mixing])
            textures, chosen = self.renderer.arithmetic.mosaic(fields, known.mixing, known.textures)
            most = None if known.label_maps is None else chosen
        else:
            textures = known.mean.expand(2 * B, -1)
        if draw.modes.any():
            both = textures.reshape(B, -1, size).expand(-1, 2, -1)
            textures = (both + held(draw.modes, device) @ known.basis).flatten(0, 1)
        gain = held(draw.gain[:, : len(textures) // B].reshape(-1, 1), device)
        low, high = ((bound * gain).clamp(*model.range) for bound in model.intensities)
        # in place, since each step would take as long as the memory it asks for
        textures = textures.clamp(*model.intensities).mul_(gain).clamp_(low, high)

        def label_maps() -> Tensor:
            if most is None or known.label_maps is None:
                assert labels is not None
                return labels
            return known.label_maps.gather(0, most.long()).reshape(-1, *shape)

        told = None if labels is None and most is None else label_maps
        return Looks(textures.reshape(-1, *shape), draw.light.reshape(2 * B, -1), (low[:, 0], high[:, 0]), told)
