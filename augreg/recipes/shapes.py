"""Networks by what they predict, the trunk that looks at the images, and scales.

displacement    where every voxel goes
velocity        a flow of velocities: no folds, and an exact inverse
affine          one affine map
cascade         an affine map, then a flow of velocities on what it leaves
moments         scales and a shift between the moments of what is marked; for networks that mark structures

With structures each image is marked by itself first (`augreg.networks.Marked`): by one marker for both images, or by two, for
images of two scanners; an affine map then is that of moments. An antisymmetric flow of velocities is the inverse of that of
exchanged images. Described networks see descriptors of images instead (`augreg.networks.Described`), steered ones look at
what matching leaves (`augreg.networks.Steered`).

scales (4, 2, 1)    one such network per scale, from coarse to fine, each on what those before leave
"""

from __future__ import annotations

from math import prod

from augreg.networks import (
    ARCHITECTURES,
    AffineFlow,
    Antisymmetric,
    AtScale,
    Cascade,
    Described,
    LocalNet,
    Marked,
    Marker,
    Moments,
    Network,
    PatchNet,
    RegNet,
    StackedEncoder,
    Steered,
    UNet,
    VelocityFlow,
    described_channels,
    seeded,
    seeded_network,
)

MAPS = ("displacement", "velocity", "affine", "cascade", "moments")
MARKERS = ("none", "one", "two")
# those whose strides leave thin axes alone
_STAGED: dict[str, type[UNet | LocalNet]] = {"UNet": UNet, "LocalNet": LocalNet}
# those that see what is near alone
_PATCHED: dict[str, type[RegNet | PatchNet]] = {"RegNet": RegNet, "PatchNet": PatchNet}
TRUNKS = (*ARCHITECTURES, *_STAGED, *_PATCHED)
# voxels along the side of the coarsest cells
_COARSEST = {"FlowNetS": 64, "FlowNetC": 64, "RegNet": 2, "PatchNet": 4}
# voxels that coarse images need; 20 x 24 were measured to be enough, at blocks of 4 (`python -m benchmarks run regnet`)
_COARSE = {"FlowNetS": 16, "FlowNetC": 16}
# of matching: chosen on brains in 2-D and on fields of a chest in 3-D
_STIFFNESS = {2: 1.0, 3: 10.0}
# of an affine map: its encoder has six stages, but sees whole images anyway; and the gain with which it learns beside a U-net
_AFFINE, _GAIN = 16, 0.01
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
    marks: int = 0,
    markers: int = 1,
    antisymmetric: bool = False,
    descriptor: str = "none",
    steered: bool = False,
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
    marks : structures that are marked first, 0 for none
    markers : 1 for both images, 2 for each image its own
    antisymmetric : whether flows of velocities are to be inverted by exchanged images
    descriptor : what networks see, none for images themselves
    steered : whether images are matched first

    Raises
    ------
    ValueError : for a shape thinner than the network's strides, moments of nothing, and other maps than velocities antisymmetric.
    """
    if kind == "moments" and not marks:
        raise ValueError("map: expected --marks one or two for moments, got none; mark structures, or take affine")
    if kind == "moments" and scales != (1,):
        raise ValueError(f"scales: expected 1 alone for moments, which have no blocks, got {scales}; leave --scales out")
    if antisymmetric and kind != "velocity":
        raise ValueError(f"antisymmetric: expected the map velocity, whose inverse is known, got {kind}; leave it out")
    if shape is not None:
        _check_shape("affine" if kind == "moments" else kind, trunk, scales, shape)
    plain = not marks and not steered and descriptor == "none"
    if plain and kind == "displacement" and scales == (1,) and trunk in ARCHITECTURES:
        return seeded_network(seed, ndim, width, architecture=ARCHITECTURES[trunk], window=window)
    seen_channels = 1 if descriptor == "none" else described_channels(descriptor, ndim)
    channels = seen_channels + marks

    def affine() -> Network:
        return Moments(ndim, channels, marks) if marks else AffineFlow(StackedEncoder(ndim, seen_channels, width), _GAIN)

    def at(scale: int) -> Network:
        seen = None if shape is None else tuple(-(-n // scale) for n in shape)
        if kind in ("affine", "moments"):
            found = affine()
        else:
            found = _trunk(trunk, ndim, width, window, seen, channels)
            found = found if kind == "displacement" else VelocityFlow(found)
            found = Antisymmetric(found) if antisymmetric else found
        return found if scale == 1 else AtScale(found, scale)

    def make() -> Network:
        marked = [_marker(ndim, seen_channels, marks, width, shape) for _ in range(markers * bool(marks))]
        first = [affine()] if kind == "cascade" else []
        parts = [*first, *map(at, scales)]
        found = parts[0] if len(parts) == 1 else Cascade(parts)
        found = Steered(found, stiffness=_STIFFNESS[ndim]) if steered else found
        found = Marked(marked, found) if marked else found
        return found if descriptor == "none" else Described(found, descriptor)

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


def _marker(ndim: int, channels: int, marks: int, width: float, shape: tuple[int, ...] | None) -> Marker:
    """With marks at every pixel; of volumes on cells of the first stage, which takes half the time."""
    strides = ((2,) * ndim,) * _STAGES if shape is None else fitting_strides(shape) or ((2,) * ndim,)
    if ndim == 2:
        return Marker(ndim, channels, marks, width, strides, finest=0)
    # of small volumes three stages see all
    strides = strides[:3]
    return Marker(ndim, channels, marks, width, strides, finest=min(1, len(strides) - 1))


def _trunk(trunk: str, ndim: int, width: float, window: int | None, shape: tuple[int, ...] | None, channels: int) -> Network:
    if trunk in _STAGED:
        return _STAGED[trunk](ndim, channels, width, None if shape is None else fitting_strides(shape))
    if trunk in _PATCHED:
        return _PATCHED[trunk](ndim, channels, width)
    return ARCHITECTURES[trunk](ndim, channels, width, window)


def _check_shape(kind: str, trunk: str, scales: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Refuse images that are thinner than a cell of the coarsest features."""
    coarsest = 2 * _LEAST if trunk in _STAGED else _COARSEST[trunk]
    if kind == "affine":
        coarsest = _AFFINE
    wanted = max(min(scales) * coarsest, max(scales) * (coarsest if kind == "affine" else _COARSE.get(trunk, coarsest)))
    # a U-net leaves thin axes alone
    thin = max(shape) < wanted if trunk in _STAGED and kind != "affine" else min(shape) < wanted
    if thin or prod(shape) == 0:
        what = "an affine map" if kind == "affine" else trunk
        remedy = "fewer --scales" if max(scales) > 1 else "--trunk unet, which leaves thin axes alone"
        if trunk in _STAGED or kind == "affine":
            remedy = "fewer --scales" if max(scales) > 1 else "a smaller --spacing"
        scale = f" at scale {max(scales)}" if max(scales) > 1 else ""
        raise ValueError(
            f"network: expected images of {wanted} voxels or more along each axis for the strides of {what}{scale}, got {shape}; "
            f"take {remedy}"
        )
