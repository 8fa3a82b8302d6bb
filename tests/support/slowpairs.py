"""Pairs that take their time, and tell of what happens to them: for tests that kill who makes them."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from augreg.synthesis import AppearancePairs


@dataclass(frozen=True)
class Late:
    """Pairs of another generator, `seconds` later; each process that receives them leaves a line in `log`."""

    pairs: AppearancePairs
    log: Path
    seconds: float = 0.0

    @property
    def grid(self):
        return self.pairs.grid

    def draw(self, rngs):
        return self.pairs.draw(rngs)

    def render(self, draw, device=None):
        time.sleep(self.seconds)
        return self.pairs.render(draw, device)

    def describe(self):
        return self.pairs.describe()

    def __setstate__(self, state):
        self.__dict__.update(state)
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")


class Deadly(Late):
    """Pairs that kill the process that makes them."""

    def render(self, draw, device=None):
        os.kill(os.getpid(), signal.SIGKILL)
