"""Why RegNet's trunk needs its batch normalisation: known fields at its coarsest scale, without, and with what could replace it.

Training people alone, blocks of 4 pixels of 2 mm, half of the width. Told is the mean end-point error of every hundred steps,
pixels of 2 mm, beside that of no displacement.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import mean

import torch
from torch import nn

from augreg.networks import AtScale, FlowNetS, Network, RegNet, seeded
from augreg.synthesis import PairBatch
from augreg.threads import set_threads
from augreg.training import Machine, TrainingOptions, descend, supervised
from augreg.training.learners.flows import errors
from benchmarks.experiments.people import read_study
from benchmarks.experiments.regnet import WIDTH, known

_SCALE, _HALF, _DRAWN, _TOLD = 4, 0.5, 250, 100


class _Channels(nn.Module):
    """Features of every place with mean 0 and variance 1."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(value * torch.ones(1, count, 1, 1)) for value in (1.0, 0.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(dim=1, keepdim=True)
        return self.weight * x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-3) + self.bias


class _Standard(nn.Module):
    """Filters of mean 0 and one size (Brock et al., ICLR 2021)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(outputs, 1, 1, 1))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        axes = (1, 2, 3)
        spread = weight.var(axes, keepdim=True, unbiased=False) * weight[0].numel()
        return 1.75 * self.gain * (weight - weight.mean(axes, keepdim=True)) * torch.rsqrt(spread + 1e-4)


def _with(make: Callable[[int], nn.Module]) -> Callable[[], Network]:
    """The trunk with another normalisation."""

    def made() -> Network:
        network = RegNet(2, 1, _HALF)
        for part in list(network.modules()):
            for name, child in list(part.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    setattr(part, name, make(child.num_features))
        return network

    return made


def _filtered(change: Callable[[nn.Conv2d], None]) -> Callable[[], Network]:
    def made() -> Network:
        network = _with(lambda _: nn.Identity())()
        for part in list(network.modules()):
            if isinstance(part, nn.Conv2d) and part is not network.heads[0]:  # type: ignore[index]  # a list of modules
                change(part)
        return network

    return made


@torch.no_grad()
def _centred(part: nn.Conv2d) -> None:
    part.weight -= part.weight.mean((1, 2, 3), keepdim=True)


def _standardised(part: nn.Conv2d) -> None:
    nn.utils.parametrize.register_parametrization(part, "weight", _Standard(part.out_channels))


KINDS: dict[str, Callable[[], Network]] = {
    "none": _with(lambda _: nn.Identity()),
    "zero-mean": _filtered(_centred),
    "standardised": _filtered(_standardised),
    "channels": _with(_Channels),
    "instances": _with(lambda count: nn.InstanceNorm2d(count, affine=True)),
    "batch": lambda: RegNet(2, 1, _HALF),
    "flownet": lambda: FlowNetS(2, 1, WIDTH),
}


def main() -> None:
    """Read the command line, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3, 3e-3], metavar="RATE")
    parser.add_argument("--steps", type=int, default=700)
    chosen = parser.parse_args()
    set_threads(1)
    torch.set_num_threads(1)
    batches = known(read_study("brain").choosing(), 0)
    drawn = [batches(step) for step in range(min(_DRAWN, chosen.steps))]
    for kind in chosen.only:
        for rate in chosen.rates:
            network = seeded(0, lambda kind=kind: AtScale(KINDS[kind](), _SCALE)).train()
            told, begin = [], time.process_time()
            for with_it, without in _curve(network, drawn, rate, chosen.steps):
                told.append(f"{with_it:.2f}/{without:.2f}")
            print(f"{kind}, rate {rate:g}: {' '.join(told)}, {time.process_time() - begin:.0f} CPU s", flush=True)


def _curve(network: Network, drawn: Sequence[PairBatch], rate: float, steps: int) -> list[tuple[float, float]]:
    options = TrainingOptions(steps=10 * steps, learning_rate=rate, machine=Machine("cpu", threads=1))
    adam = torch.optim.Adam(network.parameters(), weight_decay=2e-5)
    found, some = [], []
    for step in range(steps):
        batch = drawn[step % len(drawn)]
        batch = replace(batch, fixed=network.prepare(batch.fixed), moving=network.prepare(batch.moving))
        maps = network(batch.fixed, batch.moving)
        descend(supervised(maps, batch), adam, options.rate(step), 5.0)
        adam.step()
        some.append([float(value) for value in errors(maps, batch)])
        if (step + 1) % _TOLD == 0:
            found.append((mean(one for one, _ in some), mean(other for _, other in some)))
            some.clear()
    return found


if __name__ == "__main__":
    main()
