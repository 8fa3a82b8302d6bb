"""From features to flows: transposed convolutions with skip connections, and a flow at five scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from augreg.networks.architectures.layers import activated, convolution, cropped, features, in_full, transposed

_DECODED = (512, 256, 128, 64)


class FlowDecoder(nn.Module):
    """Flows at 1/4, 1/8, ... 1/64 of the resolution from features at 1/2, 1/4, ... 1/64.

    Parameters
    ----------
    ndim : D
    widths : numbers of the features, from fine to coarse
    width : multiplies the numbers of decoded features
    """

    def __init__(self, ndim: int, widths: Sequence[int], width: float) -> None:
        super().__init__()
        decoded = [features(n, width) for n in _DECODED]
        # what a scale sees: the features of the encoder, those from below, and the flow from below
        seen = [widths[5]] + [widths[4 - i] + decoded[i] + ndim for i in range(4)]
        self.heads = nn.ModuleList(convolution(ndim, n, ndim, 3, bias=False) for n in seen)
        self.up_features = nn.ModuleList(activated(transposed(ndim, n, m)) for n, m in zip(seen, decoded, strict=False))
        self.up_flows = nn.ModuleList(transposed(ndim, ndim, ndim) for _ in decoded)
        # the first prediction is hardly any displacement: training does not begin by unlearning a random one
        for head in self.heads:
            nn.init.normal_(head.weight, std=1e-3)  # type: ignore[arg-type]  # a convolution

    def forward(self, found: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Flows (B, D, ...) from fine to coarse."""
        x = found[5]
        flow = in_full(self.heads[0], x)
        flows = [flow]
        for level, (up_features, up_flow, head) in enumerate(zip(self.up_features, self.up_flows, self.heads[1:], strict=True)):
            skip = found[4 - level]
            below = [cropped(part, skip.shape[2:]).to(skip.dtype) for part in (up_features(x), up_flow(flow))]
            x = torch.cat([skip, *below], dim=1)
            flow = in_full(head, x)
            flows.append(flow)
        return flows[::-1]
