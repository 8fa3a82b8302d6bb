"""`numba.njit`, and a place for what it compiled wherever a package is installed.

numba keeps compiled code beside the source, else in the user's cache folder, and refuses to compile at all where neither can be
written. Here a folder of the user's own among the temporary files comes next: made for its owner alone, and used only if it still
is, since what lies in it is unpickled. Where that fails too, every process compiles again.

A file that was cut or changed is compiled again: a checksum stands behind the data, where numba itself does not look.
"""

from __future__ import annotations

import os
import stat
import tempfile
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    UserWideCacheLocator,
)

_REMEDY = "set NUMBA_CACHE_DIR to a folder that can be written"


def njit(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: `numba.njit` with these options; `cache=True` keeps the compiled code as the module says."""
    keep = options.pop("cache", False)

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        dispatcher = numba.njit(**options)(function)
        # under NUMBA_DISABLE_JIT it is the function itself
        if keep and hasattr(dispatcher, "enable_caching"):
            try:
                dispatcher._cache = _Cache(dispatcher.py_func)
            except RuntimeError:  # numba's "no locator"
                _say(f"compiled kernels cannot be kept, each process compiles them for minutes; {_REMEDY}")
        return dispatcher

    return compiled


class _Locator(UserWideCacheLocator):
    """A folder among the temporary files that belongs to the user alone."""

    def __init__(self, function: Callable[..., Any], path: str) -> None:
        super().__init__(function, path)
        name = f"augreg-kernels-{os.getuid() if hasattr(os, 'getuid') else os.environ.get('USERNAME', '')}"
        self._folder = Path(tempfile.gettempdir()) / name
        self._cache_path = str(self._folder / self.get_suitable_cache_subpath(path))

    def ensure_cache_path(self) -> None:
        """Make the folder; OSError where it is, or might be, someone else's."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        found = self._folder.lstat()
        own = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o077)
        if not stat.S_ISDIR(found.st_mode) or not own:
            raise PermissionError(f"{self._folder}: expected a folder of this user alone, got another")
        super().ensure_cache_path()
        _say(f"compiled kernels are kept in {self._folder}, for neither the installation nor HOME can be written; {_REMEDY}")


class _Places(CompileResultCacheImpl):
    _locator_classes = (*CompileResultCacheImpl._locator_classes, _Locator)


class _CheckedFile(IndexDataCacheFile):
    def _dump(self, obj: Any) -> bytes:
        data: bytes = super()._dump(obj)
        return data + zlib.crc32(data).to_bytes(4, "little")

    def _load_data(self, name: str) -> Any:
        data = Path(self._data_path(name)).read_bytes()
        if zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise ValueError(f"{name}: expected a file as it was written, got another")
        return super()._load_data(name)


class _Cache(FunctionCache):
    _impl_class = _Places

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _CheckedFile(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code, or None: where there is none, or none that is whole."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever unpickling of damaged data raises
            try:
                self.flush()
            except OSError:
                self.disable()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code; where it cannot be kept, a full disk say, it serves this process all the same."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            self.disable()
            _say(f"compiled kernels cannot be kept ({error.strerror}), each process compiles them for minutes; {_REMEDY}")


@cache
def _say(text: str) -> None:
    """Once a process."""
    warnings.warn(text, stacklevel=2)
