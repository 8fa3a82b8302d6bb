"""How large everything is: on a card, and in a rehearsal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Of all parts.

    Parameters
    ----------
    checked : images (2-D and 3-D) on which networks are compared with the CPU
    flat, solid : images that networks are timed on
    widths : of the networks, the first one is trained in 2-D
    solid_width : of the network that is trained in 3-D
    batches, solid_batches : pairs that are made together
    repeats : of every timing, which takes the median
    batch, solid_batch : pairs of a training step, half of them with their images exchanged
    steps : at most, of each stage of a training
    workers : processes that draw random numbers ahead
    """

    checked: tuple[tuple[int, ...], ...] = ((160, 192), (64, 64, 64))
    flat: tuple[int, ...] = (256, 256)
    solid: tuple[int, ...] = (160, 192, 224)
    widths: tuple[float, ...] = (1.0, 0.25)
    solid_width: float = 0.5
    batches: tuple[int, ...] = (16, 64, 256)
    solid_batches: tuple[int, ...] = (1, 2)
    many: int = 32
    repeats: int = 30
    batch: int = 16
    solid_batch: int = 2
    steps: int = 20_000
    workers: int = 8


FULL = Sizes()
TINY = Sizes(
    checked=((32, 40), (16, 16, 16)),
    flat=(64, 64),
    solid=(32, 32, 32),
    widths=(1 / 16, 1 / 32),
    solid_width=1 / 32,
    batches=(2,),
    solid_batches=(1,),
    many=2,
    repeats=2,
    batch=2,
    solid_batch=2,
    steps=3,
    workers=1,
)
