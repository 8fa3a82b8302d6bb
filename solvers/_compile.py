"""`@kernel` compiles a function that Python calls, `@inlined` one that only kernels call; a place for what was compiled.

A kernel is compiled once, without numba's own threads (`parallel=True`): it works on a range of its outermost index and releases
the interpreter, so that several threads may call it side by side. What makes it cheap to compile: few arguments, loops over
numbers, no array expressions and no assignment of one array to another (two seconds each), no tuples of arrays.

numba keeps compiled code beside the source, else in the user's cache folder, and refuses to compile at all where neither can be
written. Here a folder of the user's own among the temporary files comes next: made for its owner alone, and used only if it still
is, since what lies in it is unpickled. Where that fails too, every process compiles again.

numba renews compiled code when the file of the function changes, not when a function that it calls does. Here the stamp is the
content of all files of kernels. A file of compiled code that was cut or changed is compiled again: a checksum stands behind the
data, where numba itself does not look.
"""

from __future__ import annotations

import gc
import glob
import hashlib
import os
import stat
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    UserWideCacheLocator,
)

from solvers.compiling import tell

Function = Callable[..., Any]
# loops of sums and maxima become vector instructions
FAST = frozenset({"contract", "reassoc", "nsz", "arcp"})
_REMEDY = "set NUMBA_CACHE_DIR to a folder that can be written"


def kernel(function: Function | None = None, *, fastmath: frozenset[str] = frozenset()) -> Any:
    """Decorator of a function that Python calls: compiled at its first call, kept as the module says."""
    if function is None:
        return lambda later: kernel(later, fastmath=fastmath)
    dispatcher = numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True, fastmath=set(fastmath))(function)
    # under NUMBA_DISABLE_JIT it is the function itself
    if hasattr(dispatcher, "enable_caching"):
        dispatcher._compiler.compile = _undisturbed(dispatcher._compiler.compile, function.__qualname__)
        try:
            dispatcher._cache = _Cache(dispatcher.py_func)
        except RuntimeError:  # numba's "no locator"
            _say(f"compiled kernels cannot be kept, each process compiles them again; {_REMEDY}")
    return dispatcher


def _undisturbed(compile_: Function, name: str) -> Function:
    """The same, told of, while the garbage collector rests: it would look at the compiler's many objects again and again."""

    @wraps(compile_)
    def call(*arguments: Any) -> Any:
        tell(name)
        collecting = gc.isenabled()
        gc.disable()
        try:
            return compile_(*arguments)
        finally:
            if collecting:
                gc.enable()

    return call


def inlined(function: Function | None = None, *, fastmath: frozenset[str] = frozenset()) -> Any:
    """Decorator of a function that only kernels call: it becomes a part of each of them.

    By force: arrays are many arguments, so that a call of a short function may cost as much as what it does.
    """
    if function is None:
        return lambda later: inlined(later, fastmath=fastmath)
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "fastmath": set(fastmath), "forceinline": True}
    return numba.njit(nogil=True, error_model="numpy", **options)(function)


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
        stamp = _digest(function.__module__.partition(".")[0])
        # numba's own name has a line number, and leaves old files behind
        self._base = f"{function.__module__}.{function.__qualname__}.{sys.implementation.cache_tag}"
        self._cache_file = _CheckedFile(self._cache_path, f"{self._base}.{stamp[:12]}", stamp)

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
            for path in Path(self._cache_path).glob(f"{glob.escape(self._base)}.*"):
                if not path.name.startswith(self._cache_file._index_name.removesuffix("nbi")):
                    path.unlink(missing_ok=True)
        except OSError as error:
            self.disable()
            _say(f"compiled kernels cannot be kept ({error.strerror}), each process compiles them again; {_REMEDY}")


@cache
def _digest(package: str) -> str:
    """Of the content of all files of kernels, those here and those of the package."""
    digest = hashlib.sha256(numba.__version__.encode())
    module = sys.modules.get(package)
    files = [] if hasattr(module, "__path__") else [Path(str(getattr(module, "__file__", __file__)))]
    for folder in {str(Path(__file__).parent), *getattr(module, "__path__", ())}:
        files += [*Path(folder).glob("**/*kernels*.py"), *Path(folder).glob("**/kernels/*.py")]
    for path in sorted({__file__, *map(str, files)}):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


@cache
def _say(text: str) -> None:
    """Once a process."""
    warnings.warn(text, stacklevel=2)
