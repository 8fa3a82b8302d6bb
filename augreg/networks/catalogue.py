"""Networks and their names: the descriptions that files of weights carry.

{"architecture": "FlowNetS", "ndim": 2, "channels": 1, "width": 0.25, "window": None}
{"architecture": "Cascade", "parts": [{"architecture": "AffineFlow", "parts": [...]}, ...]}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import lcm, prod
from typing import Any

from torch import nn

from augreg.networks.architectures.encoder import Encoder, SiameseEncoder, StackedEncoder
from augreg.networks.architectures.flownet import FlowNet, FlowNetC, FlowNetS
from augreg.networks.architectures.localnet import LocalNet
from augreg.networks.architectures.marker import Committee, Marker
from augreg.networks.architectures.patchnet import PatchNet
from augreg.networks.architectures.regnet import RegNet
from augreg.networks.architectures.unet import UNet
from augreg.networks.described import Described
from augreg.networks.heads import AffineFlow, Antisymmetric, Cascade, VelocityFlow
from augreg.networks.marked import Marked, Moments
from augreg.networks.network import Network
from augreg.networks.scales import AtScale
from augreg.networks.steering import Steered

# networks that learn by themselves, for people to choose from
ARCHITECTURES: dict[str, type[FlowNet]] = {"FlowNetS": FlowNetS, "FlowNetC": FlowNetC}
# voxels along the side of FlowNet's coarsest cells
_COARSEST = 64
# networks in networks
_DEEPEST = 8

# of a description and its parts, made already
Make = Callable[[Mapping[str, Any], Sequence[nn.Module]], nn.Module]


def network_of(description: Mapping[str, Any]) -> Network:
    """A network with random weights as described.

    Raises
    ------
    ValueError : for an architecture that is not known, or parts that do not fit. KeyError, TypeError : for a description that
        lacks something.
    """
    return _network(part_of(description))


def part_of(description: Mapping[str, Any]) -> nn.Module:
    """As `network_of`, also of a part that is no network by itself, such as a `Marker`."""
    return _made(description, 0)


def _made(about: Mapping[str, Any], depth: int) -> nn.Module:
    name = about["architecture"]
    if name not in _KNOWN:
        raise ValueError(f"architecture: expected one of {', '.join(_KNOWN)}, got {name!r}")
    if depth > _DEEPEST:
        raise ValueError(f"architecture: expected networks in networks {_DEEPEST} deep at most, got more")
    return _KNOWN[name](about, [_made(part, depth + 1) for part in about.get("parts", [])])


def _network(module: nn.Module) -> Network:
    if not isinstance(module, Network):
        raise ValueError(f"architecture: expected a network, got {type(module).__name__}, a part of one")
    return module


def _flownet(architecture: type[FlowNet]) -> Make:
    # files of before know no window
    return lambda about, _: architecture(about["ndim"], about["channels"], about["width"], about.get("window"))


def _encoder(kind: type[Encoder]) -> Make:
    return lambda about, _: kind(about["ndim"], about["channels"], about["width"])


def _staged(architecture: type[UNet | LocalNet]) -> Make:
    names = ("ndim", "channels", "width", "strides", "finest")
    return lambda about, _: architecture(*(about[name] for name in names))


def _patched(kind: type[RegNet | PatchNet]) -> Make:
    return lambda about, _: kind(about["ndim"], about["channels"], about["width"])


def _velocity(about: Mapping[str, Any], parts: Sequence[nn.Module]) -> nn.Module:
    (network,) = parts
    return VelocityFlow(_network(network), about["steps"])


def _antisymmetric(_: Mapping[str, Any], parts: Sequence[nn.Module]) -> nn.Module:
    (network,) = parts
    return Antisymmetric(_network(network))


def _affine(about: Mapping[str, Any], parts: Sequence[nn.Module]) -> nn.Module:
    (encoder,) = parts
    if not isinstance(encoder, Encoder):
        raise ValueError(f"architecture: expected an encoder, got {type(encoder).__name__}")
    # files of before have no gain
    return AffineFlow(encoder, about.get("gain"))


def _at_scale(about: Mapping[str, Any], parts: Sequence[nn.Module]) -> nn.Module:
    (network,) = parts
    return AtScale(_network(network), tuple(about["scale"]))


def _steered(about: Mapping[str, Any], parts: Sequence[nn.Module]) -> nn.Module:
    (network,) = parts
    return Steered(_network(network), about["looks"], about["stiffness"])


def _described(about: Mapping[str, Any], parts: Sequence[nn.Module]) -> nn.Module:
    (network,) = parts
    return Described(_network(network), about["kind"])


def _marker(about: Mapping[str, Any], _: Sequence[nn.Module]) -> nn.Module:
    return Marker(about["ndim"], about["channels"], about["marks"], about["width"], about["strides"], about["finest"])


def _marked(_: Mapping[str, Any], parts: Sequence[nn.Module]) -> nn.Module:
    *markers, network = parts
    return Marked(_of(markers, (Marker, Committee)), _network(network))


def _of(parts: Sequence[nn.Module], kinds: tuple[type, ...]) -> list[Any]:
    if not all(isinstance(part, kinds) for part in parts):
        names = ", ".join(type(part).__name__ for part in parts)
        raise ValueError(f"architecture: expected parts of kind {' or '.join(kind.__name__ for kind in kinds)}, got {names}")
    return list(parts)


_KNOWN: dict[str, Make] = {
    **{name: _flownet(architecture) for name, architecture in ARCHITECTURES.items()},
    "UNet": _staged(UNet),
    "LocalNet": _staged(LocalNet),
    "RegNet": _patched(RegNet),
    "PatchNet": _patched(PatchNet),
    "StackedEncoder": _encoder(StackedEncoder),
    "SiameseEncoder": _encoder(SiameseEncoder),
    "VelocityFlow": _velocity,
    "Antisymmetric": _antisymmetric,
    "AffineFlow": _affine,
    "AtScale": _at_scale,
    "Steered": _steered,
    "Described": _described,
    "Marker": _marker,
    "Committee": lambda _, parts: Committee(_of(parts, (Marker,))),
    "Marked": _marked,
    "Moments": lambda about, _: Moments(about["ndim"], about["channels"], about["marks"]),
    "Cascade": lambda _, parts: Cascade([_network(part) for part in parts]),
}


def coarsest_cells(description: Mapping[str, Any]) -> int:
    """Voxels along the side of the coarsest cells of a network that looks nearby, by which tiles have to be divisible.

    Raises
    ------
    ValueError : for networks with affine maps, which need the whole image.
    """
    name, parts = description["architecture"], description.get("parts", [])
    if name in ("AffineFlow", "Moments"):
        raise ValueError("tile: expected a network that looks nearby, got one of affine maps, which needs the whole image")
    if name in ("UNet", "LocalNet", "Marker"):
        return max(prod(stage[axis] for stage in description["strides"]) for axis in range(description["ndim"]))
    own = {"RegNet": 2, "PatchNet": 4, "AtScale": max(description.get("scale", [1]))}
    own["Steered"] = lcm(*(cell for cell, *_ in description.get("looks", [[1]])))
    if not parts:
        return own.get(name, _COARSEST)
    return own.get(name, 1) * lcm(*map(coarsest_cells, parts))
