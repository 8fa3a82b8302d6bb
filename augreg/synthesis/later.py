"""Two tensors that are made when they are first asked for, since many a use of pairs never asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch

Two = tuple[torch.Tensor, torch.Tensor]


class Later:
    """Two tensors of some pairs, made once: the way back and its mask, or both label maps.

    Parameters
    ----------
    make : gives them, each with the pair as its first axis
    """

    def __init__(self, make: Callable[[], Two]) -> None:
        self.make = make

    @staticmethod
    def known(first: torch.Tensor, second: torch.Tensor) -> Later:
        """Tensors that are there."""
        return Later(lambda: (first, second))

    @cached_property
    def found(self) -> Two:
        """The tensors."""
        return self.make()

    def then(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Later:
        """Both changed alike, when they are asked for."""
        return Later(lambda: (change(self.found[0]), change(self.found[1])))

    def __reduce__(self) -> tuple[Callable[..., Later], Two]:
        """To other processes they go as they are known."""
        return Later.known, self.found
