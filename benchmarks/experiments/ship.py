"""The heart's network as package data: `python -m benchmarks.experiments.ship [--out runs/experiments]`.

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
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"), metavar="FOLDER", help="of the runs")
    options = parser.parse_args()
    trained = read_network(options.out / "heart" / "runs" / SHIPPED.key / WEIGHTS)
    path = Path(str(resources.files("augreg") / "data" / "sunnybrook-sax.safetensors"))
    write_network(trained.network.half(), trained.spacing, path)


if __name__ == "__main__":
    main()
