"""Files that appear whole or not at all."""

from __future__ import annotations

import glob
import os
import platform
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PARTIAL = ".partial."
# machines that share a folder must not take each other's temporary files for their own
_HOST = platform.node().replace(".", "-")


class FileWarning(UserWarning):
    """What a file left open or got wrong, and how it was read; commands say it in one line."""


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block succeeds and removed when it fails.

    The temporary name ends like `path`, since writers choose the format by the suffix. What a killed process left behind of the
    same file is removed. The disk has the file before it takes its name; a file that is replaced hands on its permissions, new
    ones get what the umask allows, whatever the block did; a symbolic link stays, and what it leads to is replaced.

    Raises
    ------
    FileNotFoundError : if the folder of `path` does not exist. IsADirectoryError : if `path` is a folder.
    ValueError : if it is a pipe or a device. OSError : if the block wrote nothing, as on a full disk.
    """
    given = Path(path)
    if given.is_dir():
        raise IsADirectoryError(f"{given}: expected a file name to write to, got a folder")
    if given.exists() and not given.is_file():
        raise ValueError(f"{given}: expected a file to write to, got a pipe or a device; write to a file, then copy it there")
    target = Path(os.path.realpath(given)) if given.is_symlink() else given
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{given}: expected an existing folder to write to, got none at {target.parent}; create it first")
    temporary = target.with_name(f".{os.getpid()}@{_HOST}{_PARTIAL}{given.name}")
    for left in target.parent.glob(f".*{_PARTIAL}{glob.escape(given.name)}"):
        if not _running(left.name.split(".")[1]):
            left.unlink(missing_ok=True)
    try:
        mode = _mode(target, temporary)
        yield temporary
        _settle(temporary, given, mode)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _mode(target: Path, temporary: Path) -> int:
    """The permissions that a file is to have: of the one that is replaced, or of any new one."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    # the umask cannot be asked for without being changed for all threads
    with open(temporary, "wb") as file:
        return stat.S_IMODE(os.fstat(file.fileno()).st_mode)


def _settle(temporary: Path, given: Path, mode: int) -> None:
    """Bytes on the disk and permissions, before the name."""
    with open(temporary, "rb+") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise OSError(f"{given}: expected a file with something in it, nothing was written; is the disk full?")
        os.fsync(file.fileno())
    os.chmod(temporary, mode)


def remove_partial(folder: str | os.PathLike[str], pattern: str) -> None:
    """Remove what processes killed on any machine left behind of the files of a pattern: for who knows that none is at work."""
    for left in Path(folder).glob(f".*{_PARTIAL}{pattern}"):
        left.unlink(missing_ok=True)


def _running(owner: str) -> bool:
    """Whether a process of this machine, PID@HOST, is there; where that cannot be known, yes."""
    process, _, host = owner.partition("@")
    if os.name != "posix" or not process.isdigit() or host != _HOST:
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def existing_file(path: str | os.PathLike[str]) -> Path:
    """The path, checked: FileNotFoundError if there is nothing, ValueError if it is a pipe or a device, or an empty file."""
    found = Path(path)
    if not found.exists():
        raise FileNotFoundError(f"{found}: expected a file, got nothing; check the path")
    if not (found.is_file() or found.is_dir()):
        # one that nobody writes to would be waited for without end
        raise ValueError(f"{found}: expected a file or a folder, got a pipe or a device; write it to a file first")
    if found.is_file() and found.stat().st_size == 0:
        raise ValueError(f"{found}: expected data, got an empty file")
    return found
