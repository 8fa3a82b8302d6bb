"""Networks by what they predict, the trunk that looks at the images, and scales.

displacement    where every voxel goes
velocity        a flow of velocities: no folds, and an exact inverse
affine          one affine map
cascade         an affine map, then a flow of velocities on what it leaves

scales (4, 2, 1)    one such network per scale, from coarse to fine, each on what those before leave
"""

from __future__ import annotations

from math import prod

from augreg.networks import (
    ARCHITECTURES,
    AffineFlow,
    AtScale,
    Cascade,
    Network,
    RegNet,
    StackedEncoder,
    UNet,
    VelocityFlow,
    seeded,
    seeded_network,
)

MAPS = ("displacement", "velocity", "affine", "cascade")
TRUNKS = (*ARCHITECTURES, "UNet", "RegNet")
# voxels along the side of the coarsest cells
_COARSEST = {"FlowNetS": 64, "FlowNetC": 64, "RegNet": 2}
# of an affine map: its encoder has six stages, but sees whole images anyway
_AFFINE = 16
# of a U-net: stages, and cells that have to be left along an axis that is halved
_STAGES, _LEAST = 4, 4


def network_as(
    kind: str,
    trunk: str,
    scales: tuple[int, ...],
    ndim: int,
    width: float,
    *,
    window: int | None = None,
    seed: int = 0,
    shape: tuple[int, ...] | None = None,
) -> Network:
    """A network with first weights that depend on the seed alone.

    Parameters
    ----------
    kind : one of MAPS
    trunk : one of TRUNKS
    scales : voxels along the side of blocks, from coarse to fine
    ndim, width, window : as of `augreg.networks.FlowNet`
    seed : seed of the weights
    shape : shape of the images, if it is settled

    Raises
    ------
    ValueError : for a shape thinner than the network's strides.
    """
    if shape is not None:
        _check_shape(kind, trunk, scales, shape)
    if kind == "displacement" and scales == (1,) and trunk in ARCHITECTURES:
        return seeded_network(seed, ndim, width, architecture=ARCHITECTURES[trunk], window=window)

    def at(scale: int) -> Network:
        seen = None if shape is None else tuple(-(-n // scale) for n in shape)
        if kind == "affine":
            found: Network = AffineFlow(StackedEncoder(ndim, 1, width))
        else:
            found = _trunk(trunk, ndim, width, window, seen)
            found = found if kind == "displacement" else VelocityFlow(found)
        return found if scale == 1 else AtScale(found, scale)

    def make() -> Network:
        first = [AffineFlow(StackedEncoder(ndim, 1, width))] if kind == "cascade" else []
        parts = [*first, *map(at, scales)]
        return parts[0] if len(parts) == 1 else Cascade(parts)

    return seeded(seed, make)


def fitting_strides(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Strides of a U-net's stages, 2 along every axis that keeps enough cells."""
    stages = []
    cells = shape
    for _ in range(_STAGES):
        stage = tuple(2 if n >= 2 * _LEAST else 1 for n in cells)
        if max(stage) == 1:
            break
        stages.append(stage)
        cells = tuple(-(-n // s) for n, s in zip(cells, stage, strict=True))
    return tuple(stages)


def _trunk(trunk: str, ndim: int, width: float, window: int | None, shape: tuple[int, ...] | None) -> Network:
    if trunk == "UNet":
        return UNet(ndim, 1, width, None if shape is None else fitting_strides(shape))
    return RegNet(ndim, 1, width) if trunk == "RegNet" else ARCHITECTURES[trunk](ndim, 1, width, window)


def _check_shape(kind: str, trunk: str, scales: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Refuse images that are thinner than a cell of the coarsest features."""
    coarsest = 2 * _LEAST if trunk == "UNet" else _COARSEST[trunk]
    if kind == "affine":
        coarsest = _AFFINE
    wanted = max(scales) * coarsest
    # a U-net leaves thin axes alone
    thin = max(shape) < wanted if trunk == "UNet" and kind != "affine" else min(shape) < wanted
    if thin or prod(shape) == 0:
        what = "an affine map" if kind == "affine" else trunk
        remedy = "fewer --scales" if max(scales) > 1 else "--trunk unet, which leaves thin axes alone"
        if trunk == "UNet" or kind == "affine":
            remedy = "fewer --scales" if max(scales) > 1 else "a smaller --spacing"
        scale = f" at scale {max(scales)}" if max(scales) > 1 else ""
        raise ValueError(
            f"network: expected images of {wanted} voxels or more along each axis for the strides of {what}{scale}, got {shape}; "
            f"take {remedy}"
        )
