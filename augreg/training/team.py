"""Several processes that learn together, started by torchrun.

Each computes the gradient of its part of every batch; their mean is the gradient of the whole, since a loss is the mean over
pairs and all parts are equally large.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn

from augreg.training.machine import checked_device


@dataclass(frozen=True)
class Team:
    """The processes that train together; by default this one alone.

    Parameters
    ----------
    rank : number of this process; number 0 writes the files
    size : number of processes
    local_rank : number of this process among those of its machine, and of its card
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def part(self, batch: int) -> slice:
        """The pairs of a batch that this process takes.

        Raises
        ------
        ValueError : where the batch cannot be divided into equal parts.
        """
        if batch % self.size:
            raise ValueError(f"batch: expected a multiple of the number of processes, {self.size}, got {batch}")
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def mean(self, numbers: torch.Tensor) -> torch.Tensor:
        """The mean over all processes."""
        if self.size > 1:
            distributed.all_reduce(numbers)
        return numbers / self.size

    def told(self, number: float, device: torch.device) -> float:
        """What the first process says; the others may say anything."""
        if self.size == 1:
            return number
        said = torch.tensor([number], dtype=torch.float64, device=device)
        distributed.broadcast(said, 0)
        return float(said)

    def gathered(self, part: torch.Tensor) -> torch.Tensor:
        """What all processes have, in their order: equally long parts (N, ...) -> (size * N, ...)."""
        if self.size == 1:
            return part
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(self.size)]
        distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    def together(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network with gradients that are means over all processes."""
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(network, [device.index] if device.type == "cuda" else None)


ALONE = Team()


@contextmanager
def joined(device: str = "auto") -> Iterator[Team]:
    """The team that torchrun started this process in, while the block lasts; alone without torchrun.

    Raises
    ------
    ValueError : if the device is not here.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    team = ALONE if size == 1 else Team(int(os.environ["RANK"]), size, int(os.environ["LOCAL_RANK"]))
    chosen = checked_device(device, team.local_rank)
    if size == 1:
        yield ALONE
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield team
    finally:
        # networks that average gradients refer to the group and to themselves: while they live its threads do, and abort the
        # process where they give back tensors when the interpreter has begun to end. What somebody still holds goes before that
        gc.collect()
        distributed.destroy_process_group()
        atexit.register(gc.collect)
