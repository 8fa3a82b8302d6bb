"""Where and how training computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Machine:
    """Where and how to compute; what is left out is what was measured to be faster.

    Parameters
    ----------
    device : cpu, cuda, mps, or auto
    threads : number of threads of torch on the CPU; None leaves them. On a busy machine threads that wait for each other make
        small networks several times slower than one thread alone is.
    precision : precision of convolutions; auto is bfloat16 on CUDA where the card has it, else float32. Flows, losses,
        coordinates and weights are float32. On CPUs with such instructions bfloat16 trains as well, and up to 1.4 times faster;
        on others slower.
    channels_last : memory layout of features; None is yes on CUDA. On CPUs it was up to 1.15 times faster at width 1/4, but
        several times slower where there are few features.
    compiled : by torch.compile, whose start takes minutes; on a CPU steps got no faster

    Raises
    ------
    ValueError : for a precision that is not known.
    """

    device: str = "auto"
    threads: int | None = None
    precision: Precision = "auto"
    channels_last: bool | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision: expected one of {', '.join(get_args(Precision))}, got {self.precision!r}")

    def reduced(self, device: torch.device) -> bool:
        """Whether convolutions are bfloat16."""
        if self.precision == "auto":
            return device.type == "cuda" and torch.cuda.is_bf16_supported()
        return self.precision == "bfloat16"

    def layout(self, device: torch.device, ndim: int) -> torch.memory_format:
        """The memory layout of features in D dimensions."""
        last = device.type == "cuda" if self.channels_last is None else self.channels_last
        if not last:
            return torch.contiguous_format
        return torch.channels_last if ndim == 2 else torch.channels_last_3d


def devices() -> list[str]:
    """What there is to compute on, with the names of cards."""
    cards = [f"cuda:{k} {torch.cuda.get_device_name(k)}" for k in range(torch.cuda.device_count())]
    return ["cpu", *cards, *(["mps"] if torch.backends.mps.is_available() else [])]


def checked_device(name: str, number: int = 0) -> torch.device:
    """The device of that name; auto is cuda where there is one, of several cards that with a number.

    Raises
    ------
    ValueError : if it is not here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device("cuda", number) if name == "cuda" else torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device: expected cpu, cuda, mps or auto, and one that is here, got {name!r}") from error
    return device


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Torch with so many threads inside the block; None leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
