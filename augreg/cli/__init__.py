"""The command line: each command reads, calls and writes.

Exit status 0 on success; 2 for unusable input, with one line on stderr; 1 for anything else. Results go to stdout, progress and
messages to stderr; with `--json` stdout holds one JSON object and nothing else.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from augreg.cli.parser import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    try:
        options = build_parser().parse_args(argv)
        options.run(options)
    except SystemExit as end:  # argparse: help, version, or wrong options
        return int(end.code or 0)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except (ValueError, TypeError, OSError, ImportError) as error:
        return _fail(str(error) or type(error).__name__, 2)
    except Exception as error:
        return _fail(f"internal error: {type(error).__name__}: {error}; set AUGREG_DEBUG=1 for the traceback", 1)
    return 0


def _fail(message: str, status: int) -> int:
    if os.environ.get("AUGREG_DEBUG"):
        traceback.print_exc()
    print("augreg: " + " ".join(message.split()), file=sys.stderr)
    return status
