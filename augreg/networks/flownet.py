"""FlowNetS (Dosovitskiy, Fischer et al., ICCV 2015), in 2-D and 3-D, with a width multiplier.

Six convolutions of stride 2 (kernels 7 5 5 3 3 3, widths 64 128 256 512 512 1024 times `width`), one of stride 1 after the third
to the sixth; then transposed convolutions with skip connections and a flow at five scales, the finest at 1/4 of the resolution.
Flows are in voxels of the full resolution divided by `FLOW_SCALE`, at every scale.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

FLOW_SCALE = 20.0
# sides of the input are multiples of the coarsest stride
STRIDE = 64
_WIDTHS = (64, 128, 256, 512, 512, 1024)
_KERNELS = (7, 5, 5, 3, 3, 3)
_DECODED = (512, 256, 128, 64)


class FlowNetS(nn.Module):
    """Predict the flow from two images stacked on their channels.

    Parameters
    ----------
    ndim : D, 2 or 3
    channels : of one image
    width : multiplies all numbers of features
    """

    def __init__(self, ndim: int, channels: int = 1, width: float = 1.0) -> None:
        super().__init__()
        if ndim not in (2, 3) or channels < 1 or not width > 0:
            raise ValueError(f"FlowNetS: expected 2 or 3 dimensions, channels and width above 0, got {ndim}, {channels}, {width}")
        self.ndim, self.channels, self.width = ndim, channels, width
        convolution = nn.Conv2d if ndim == 2 else nn.Conv3d
        transposed = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
        widths = [2 * channels] + [max(1, round(width * n)) for n in _WIDTHS]
        decoded = [max(1, round(width * n)) for n in _DECODED]

        def block(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
            return nn.Sequential(convolution(inputs, outputs, kernel, stride, kernel // 2), nn.LeakyReLU(0.1))

        stages = []
        for level, ((inputs, outputs), kernel) in enumerate(zip(pairwise(widths), _KERNELS, strict=True)):
            more = [block(outputs, outputs, 3, 1)] if level >= 2 else []
            stages.append(nn.Sequential(block(inputs, outputs, kernel, 2), *more))
        self.encoder = nn.ModuleList(stages)
        # what a scale sees: the features of the encoder, those from below, and the flow from below
        seen = [widths[6]] + [widths[5 - i] + decoded[i] + ndim for i in range(4)]
        self.heads = nn.ModuleList(convolution(n, ndim, 3, 1, 1, bias=False) for n in seen)
        self.up_features = nn.ModuleList(
            nn.Sequential(transposed(n, m, 4, 2, 1, bias=False), nn.LeakyReLU(0.1)) for n, m in zip(seen, decoded, strict=False)
        )
        self.up_flows = nn.ModuleList(transposed(ndim, ndim, 4, 2, 1, bias=False) for _ in decoded)
        for module in self.modules():
            if isinstance(module, convolution | transposed):
                nn.init.kaiming_normal_(module.weight, a=0.1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # the first prediction is hardly any displacement: training does not begin by unlearning a random one
        for head in self.heads:
            nn.init.normal_(head.weight, std=1e-3)  # type: ignore[arg-type]  # a convolution

    def forward(self, fixed: torch.Tensor, moving: torch.Tensor) -> list[torch.Tensor]:
        """Flows (B, D, ...) at 1/4, 1/8, ... 1/64 of the resolution, voxels / FLOW_SCALE; images (B, C, *shape) of any size."""
        x = torch.cat([fixed, moving], dim=1)
        features = []
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        flow = self.heads[0](x)
        flows = [flow]
        for level, (up_features, up_flow, head) in enumerate(zip(self.up_features, self.up_flows, self.heads[1:], strict=True)):
            skip = features[4 - level]
            below = [_cropped(part, skip) for part in (up_features(x), up_flow(flow))]
            x = torch.cat([skip, *below], dim=1)
            flow = head(x)
            flows.append(flow)
        return flows[::-1]

    def predict(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        """The flow at full resolution, (B, D, *shape) voxels; shapes need not be multiples of anything."""
        shape = fixed.shape[2:]
        margin = [(-n) % STRIDE for n in shape]
        pads = [side for m in reversed(margin) for side in (0, m)]
        padded = [nn.functional.pad(image, pads, mode="replicate") for image in (fixed, moving)]
        finest = self(*padded)[0] * FLOW_SCALE
        mode = "bilinear" if self.ndim == 2 else "trilinear"
        full = nn.functional.interpolate(finest, size=padded[0].shape[2:], mode=mode, align_corners=False)
        return full[(slice(None), slice(None), *(slice(0, n) for n in shape))]


def _cropped(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Odd sides: transposed convolution gives one more than the encoder had."""
    return x[(slice(None), slice(None), *(slice(0, n) for n in like.shape[2:]))]
