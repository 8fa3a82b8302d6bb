"""The command line: each command reads, calls and writes.

Exit status 0 on success; 2 for unusable input, with one line on stderr; 1 for anything else; 130 after Ctrl-C. Results go to
stdout, progress and messages to stderr; with `--json` stdout holds one JSON object and nothing else. `AUGREG_DEBUG=1` adds the
traceback of an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
import traceback
import zipfile
import zlib
from collections.abc import Iterator, Sequence

from augreg.cli.output import plain_warnings, results_alone
from augreg.cli.parser import build_parser
from augreg.missing import missing

# what a wrong path or a missing permission raises
_UNUSABLE = (ValueError, TypeError, FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
_PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.EINVAL, errno.ENXIO)
# what reading or computing with broken input raises, where nobody has looked before
_BROKEN = (ArithmeticError, zlib.error, zipfile.BadZipFile, struct.error, EOFError, RecursionError)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    _open_streams()
    try:
        options = build_parser().parse_args(argv)
        for name, path in _texts(options):
            _check_text(name, path)
        with results_alone(), plain_warnings():
            options.run(options)
    except SystemExit as end:  # argparse: help, version, or wrong options
        return int(end.code or 0)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # the reader of stdout has gone; what is still buffered must not fail once more when Python ends
        _drop_stdout()
        return 1
    except MemoryError as error:
        needed = f": {error}" if str(error) else ""
        return _fail(f"not enough memory{needed}; crop the images, take fewer voxels, or free some memory", 2)
    except OSError as error:
        if error.errno in _FULL:
            _drop_stdout()
            where = f"{error.filename}: " if error.filename else ""
            return _fail(f"{where}expected room to write to, got {error.strerror}; free some and repeat the command", 1)
        unusable = isinstance(error, _UNUSABLE) or error.errno in _PATHS
        return _fail(str(error) or type(error).__name__, 2) if unusable else _internal(error)
    except ModuleNotFoundError as error:
        named = missing("this command", error)
        return _fail(str(named), 2) if isinstance(named, _UNUSABLE) else _internal(error)
    except Exception as error:
        # LinAlgError is a ValueError that says nothing of the input
        if isinstance(error, _BROKEN) or type(error).__name__ == "LinAlgError":
            told = str(error) or "nothing more"
            return _fail(f"expected usable numbers and whole files as input, got {type(error).__name__}: {told}; check them", 2)
        if isinstance(error, _UNUSABLE):
            return _fail(str(error) or type(error).__name__, 2)
        return _internal(error)
    return 0


def _internal(error: Exception) -> int:
    return _fail(f"{type(error).__name__}: {error}; set AUGREG_DEBUG=1 for the traceback", 1)


def _fail(message: str, status: int) -> int:
    if os.environ.get("AUGREG_DEBUG"):
        traceback.print_exc()
    print("augreg: " + " ".join(message.split()), file=sys.stderr)
    return status


def _texts(options: object) -> Iterator[tuple[str, str]]:
    """All texts among the options, with their names."""
    for name, value in vars(options).items():
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, str):
                yield name, part


def _check_text(name: str, text: str) -> None:
    """ITK takes names in UTF-8 and ends the process at others."""
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(text).decode(errors="backslashreplace")
        raise ValueError(f"{name}: expected a name in UTF-8, got {shown}; rename it") from None
    if "\0" in text:
        raise ValueError(f"{name}: expected a name, got one with a zero byte")


def _open_streams() -> None:
    """Where a stream is closed, nowhere instead: else the next file to be opened takes its number, and gets the messages."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # the lowest free number, which is this one
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            # for as long as the process lives
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115


def _drop_stdout() -> None:
    """What is still buffered for stdout goes nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
