"""What a graphics card is worth to augreg, in one call of a few minutes.

    python -m benchmarks run card --prepare DIR                          on any machine, with everything installed
    python -m benchmarks run card --data DIR --minutes 8 --output OUT    on the card

The second command needs PyTorch, numpy, numba, scipy, scikit-image, safetensors and lazy-loader, and no installation. It goes
through its parts in order, each with a share of the time that is left and a hard stop of its own. What a part has found is in
`OUT/card.json` and `OUT/card.md` at once, an error of a part is a line there, and the next part goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path


def options(parser: argparse.ArgumentParser) -> None:
    """Of the command."""
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--prepare", type=Path, metavar="DIR", help="pack images, labels and models")
    task.add_argument("--data", type=Path, metavar="DIR", help="what was packed")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="with --prepare: keep fitted models there")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--output", type=Path, default=Path("runs/card"), metavar="OUT", help="folder of the results")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks and few repeats: a rehearsal")
    parser.add_argument("--only", nargs="+", metavar="PART")
    parser.add_argument("--reference", type=Path, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> None:
    """Pack, or measure."""
    begin = time.monotonic()
    if options.prepare is not None:
        from benchmarks.card.pack import prepare  # needs readers of images, and linear programs

        prepare(options.prepare, options.models)
        return
    # workers draw one pair each: threads of their own would only wait for each other
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from benchmarks.card.pack_files import read_pack
    from benchmarks.card.run import run as run_parts
    from benchmarks.card.sizes import FULL, TINY

    sizes = TINY if options.tiny else FULL
    if options.reference is not None:
        from benchmarks.card.reference import make_reference

        make_reference(read_pack(options.data), sizes, options.reference)
        return
    end = begin + 60 * options.minutes
    failed = run_parts(options.data, options.output, end, options.device, sizes, options.only, tiny=options.tiny)
    sys.exit(1 if failed else 0)
