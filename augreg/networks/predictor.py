"""What a registration needs of a network; others wrap one and are one."""

from __future__ import annotations

from typing import Protocol

import torch


class Predictor(Protocol):
    """Anything that predicts a flow from two images: a `FlowNet`, or what wraps one."""

    @property
    def ndim(self) -> int:
        """D."""

    @property
    def channels(self) -> int:
        """Of one image."""

    def predict(self, fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        """The flow (B, D, *shape) voxels between images (B, C, *shape), fixed(x) = moving(x + u(x))."""
