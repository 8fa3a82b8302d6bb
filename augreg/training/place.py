"""Where the steps of a learner are computed: device, precision, memory layout, and the processes that share the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from augreg.training.machine import Machine, checked_device
from augreg.training.team import ALONE, Team


@dataclass(frozen=True)
class Place:
    """Where the steps of a learner are computed.

    Parameters
    ----------
    machine : machine as it was asked for
    device : the one that was found
    team : the processes that learn together
    """

    machine: Machine
    device: torch.device
    team: Team = ALONE

    @classmethod
    def of(cls, machine: Machine, team: Team = ALONE) -> Place:
        """The place that a machine offers to a process of a team; ValueError for a device that is not here."""
        return cls(machine, checked_device(machine.device, team.local_rank), team)

    def layout(self, ndim: int) -> torch.memory_format:
        """The memory layout of features in D dimensions."""
        return self.machine.layout(self.device, ndim)

    def autocast(self) -> torch.autocast:
        """A context in which convolutions have the machine's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.machine.reduced(self.device))

    def together(self, module: nn.Module, ndim: int) -> Callable[..., Any]:
        """What is called instead of a module that learns: it has the memory layout of D dimensions, its gradients are means over
        the team, and it is compiled where that was asked for.

        In a team call it once for every `backward`, with gradients for all of its parameters. Where a module only passes
        gradients on, as a critic does in the loss of the network that it judges, call the module itself, with
        `requires_grad_(False)` for as long.
        """
        module.to(memory_format=self.layout(ndim))  # type: ignore[call-overload]  # the stubs know only 4-D layouts
        shared = self.team.together(module, self.device)
        return torch.compile(shared) if self.machine.compiled else shared
