"""A dueling network of two images that says what each move is worth (Ma et al., MICCAI 2017; Wang et al., ICML 2016).

    Q(s, a) = V(s) + A(s, a) - mean_b A(s, b)

State s: the fixed image and the moving one as it is seen at the present pose, on a coarse lattice. The size of the step is told
to the last layers, so that one pass of the convolutions serves all steps. Without the separate maximum over moves of Wang et al.,
as Ma et al. have it: the mean is taken. Images may carry marks of structures as further channels, found once in each image by
itself (`augreg.networks.Marker`), before the first move.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, final

import torch
from torch import nn

from augreg.agents.view import View
from augreg.networks import Committee, Marker, normalised
from augreg.networks.architectures.layers import activated, activation, convolution, features

# features of the stages, each of which halves every axis that is long enough; the last number is that of all further ones
_WIDTHS = (16, 32, 64)
# cells that are not halved any more
_LEAST = 4
_HIDDEN = 128


@final
class QNet(nn.Module):
    """What moves are worth.

    Parameters
    ----------
    view : lattice and moves
    channels : number of channels of one image
    width : multiplies all numbers of features
    markers : one for both images, or one of the fixed and one of the moving; their marks are seen beside the images; an
        agent does not teach them
    images : whether images are seen beside their marks; without markers they are

    Raises
    ------
    ValueError : for other numbers, markers that do not fit, and nothing to see.
    """

    def __init__(
        self, view: View, channels: int = 1, width: float = 1.0, markers: Sequence[Marker | Committee] = (), images: bool = True
    ) -> None:
        super().__init__()
        if channels < 1 or not width > 0:
            raise ValueError(f"QNet: expected channels and width above 0, got {channels} and {width}")
        kinds = [(marker.ndim, marker.channels, marker.marks) for marker in markers]
        if len(markers) > 2 or len(set(kinds)) > 1 or any(kind[:2] != (view.ndim, channels) for kind in kinds):
            raise ValueError(
                f"QNet: expected at most two markers, alike, of {view.ndim} dimensions and {channels} channels, got {kinds}"
            )
        if not (images or markers):
            raise ValueError("QNet: expected images or markers, got nothing to see")
        self.view, self.channels, self.width, self.images = view, channels, width, images
        self.markers = nn.ModuleList(markers).requires_grad_(False)
        self.marks = kinds[0][2] if kinds else 0
        stages: list[nn.Module] = []
        cells, inputs = view.shape, 2 * (channels * images + self.marks)
        while not stages or max(cells) > _LEAST:
            outputs = features(_WIDTHS[min(len(stages), len(_WIDTHS) - 1)], width)
            stride = tuple(2 if n > _LEAST else 1 for n in cells)
            stages.append(activated(convolution(view.ndim, inputs, outputs, 3, stride)))
            stages.append(activated(convolution(view.ndim, outputs, outputs, 3)))
            cells, inputs = tuple(-(-n // s) for n, s in zip(cells, stride, strict=True)), outputs
        hidden = features(_HIDDEN, width)
        self.trunk = nn.Sequential(*stages, nn.Flatten(), nn.Linear(inputs * prod(cells), hidden), activation())
        self.told = nn.Sequential(nn.Linear(hidden + 1, hidden), activation())
        self.value, self.advantage = nn.Linear(hidden, 1), nn.Linear(hidden, view.actions)
        for last in (self.value, self.advantage):
            # a new agent expects nothing of any move
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @property
    def ndim(self) -> int:
        """D."""
        return self.view.ndim

    @property
    def description(self) -> dict[str, Any]:
        """What a network like this one is made from, see `augreg.agents.read_agent`."""
        view = {name: getattr(self.view, name) for name in ("radius", "kind")}
        lists = {name: list(getattr(self.view, name)) for name in ("shape", "spacing")}
        parts = [marker.description for marker in self.markers]
        return {
            "channels": self.channels,
            "width": self.width,
            "images": self.images,
            "view": {**lists, **view},
            "markers": parts,
        }

    def prepared(self, images: torch.Tensor, *, moving: bool) -> torch.Tensor:
        """Images (B, C, *any) of one side as the network sees them, (B, C + K, *any): its marks behind them, or alone."""
        images = normalised(images)
        if not len(self.markers):
            return images
        with torch.no_grad():
            marks = self.markers[-1 if moving else 0](images)
        return torch.cat([images, marks], dim=1) if self.images else marks

    def _evened(self, seen: torch.Tensor) -> torch.Tensor:
        """Images with mean 0 and deviation 1 of what is seen: how much lies around an image is nothing to an agent."""
        if not self.images:
            return seen
        C = self.channels
        return torch.cat([normalised(seen[:, :C]), seen[:, C:]], dim=1)

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """Values (B, S, actions) of all moves, in steps.

        Parameters
        ----------
        fixed, moving : prepared images as they are seen at the present poses, (B, C + K, *shape)
        steps : sizes of steps, mm, (S,) for all or (B, S)
        """
        found = self.trunk(torch.cat([self._evened(fixed), self._evened(moving)], dim=1))
        told = torch.log2(steps.to(found.device, torch.float32)).expand(len(found), steps.shape[-1])
        both = torch.cat([found[:, None].expand(-1, told.shape[1], -1), told[..., None]], dim=2)
        hidden = self.told(both)
        advantage = self.advantage(hidden)
        values: torch.Tensor = self.value(hidden) + advantage - advantage.mean(dim=2, keepdim=True)
        return values
