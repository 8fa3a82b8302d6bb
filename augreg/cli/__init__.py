"""The command line: each command reads, calls and writes.

Exit status 0 on success; 2 for unusable input, with one line on stderr; 1 for anything else; 130 after Ctrl-C. Results go to
stdout, progress and messages to stderr; with `--json` stdout holds one JSON object and nothing else. `AUGREG_DEBUG=1` adds the
traceback of an error.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from augreg.cli.parser import build_parser

# what a wrong path or a missing permission raises; a full disk, say, is no fault of the input
_UNUSABLE = (ValueError, TypeError, FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    try:
        options = build_parser().parse_args(argv)
        from augreg.cli.output import plain_warnings  # SimpleITK: not for --help

        with plain_warnings():
            options.run(options)
    except SystemExit as end:  # argparse: help, version, or wrong options
        return int(end.code or 0)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # the reader of stdout has gone; what is still buffered must not fail once more when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        # LinAlgError is a ValueError, but a numerical failure of ours, not a fault of the input
        if isinstance(error, _UNUSABLE) and type(error).__name__ != "LinAlgError":
            return _fail(str(error) or type(error).__name__, 2)
        return _fail(f"{type(error).__name__}: {error}; set AUGREG_DEBUG=1 for the traceback", 1)
    return 0


def _fail(message: str, status: int) -> int:
    if os.environ.get("AUGREG_DEBUG"):
        traceback.print_exc()
    print("augreg: " + " ".join(message.split()), file=sys.stderr)
    return status
