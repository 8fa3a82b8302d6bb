"""The heart's network as package data: `python -m benchmarks run experiments-ship [RUN]`.

RUN is the folder of a training, of the experiment or of `augreg train` as the network's card has it.

Weights are written in half precision, which moves flows by less than a hundredth of a pixel; reading makes them single again.
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

from augreg.networks import read_network, write_network
from augreg.training import WEIGHTS
from benchmarks.experiments.run import Run

# of the training patients' choosing splits the better one, between phases and between people
SHIPPED = Run("sam", 20)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.ship", description="Ship the heart's network.")
    default = Path("runs/experiments") / "heart" / "runs" / SHIPPED.key
    parser.add_argument(
        "run", nargs="?", type=Path, default=default, metavar="RUN", help=f"folder of a training (default {default})"
    )
    options = parser.parse_args()
    trained = read_network(options.run / WEIGHTS)
    path = Path(str(resources.files("augreg") / "data" / "sunnybrook-sax.safetensors"))
    write_network(trained.network.half(), trained.spacing, path)


if __name__ == "__main__":
    main()
