"""All other formats that ITK reads (MINC, VTK, GIPL, MRC, JPEG 2000, HDF5, ...), in a child process.

Some of their readers end the process on damaged files, print, or never return; a child has limits of memory and CPU time, and its
end is a sentence. MINC's world is RAS, which ITK leaves as it is: it becomes LPS here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from augreg.io.formats.bounded import check_memory, filled, refusals
from augreg.io.placed import Placed

_CHILD = Path(__file__).with_name("_itk_child.py")
# CPU time of a small file, and bytes that take a second more
_SECONDS, _RATE = 15, 20_000_000


def read_foreign(path: Path) -> Placed:
    """An image through SimpleITK in a child process.

    Raises
    ------
    ValueError : if ITK has no reader for it, or the reader fails in whatever way.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{path}: expected a file name in UTF-8, got one that is not; rename the file") from error
    seconds = _SECONDS + path.stat().st_size // _RATE
    # -P: what lies beside the script must not be taken for packages
    command = [sys.executable, "-P", str(_CHILD), str(path), str(seconds)]
    with (
        refusals(path),
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child,
    ):
        assert child.stdout is not None
        try:
            line = child.stdout.readline(1 << 20)
            if not line:
                status = child.wait()
                raise ValueError(
                    f"{path}: expected an image, got a file on which its reader "
                    + ("ran out of time or memory, or crashed" if status < 0 else "failed")
                    + "; it is damaged, or of a format that is not known"
                )
            header = json.loads(line)
            if "error" in header:
                raise ValueError(f"{path}: expected an image, got a file that cannot be read as one ({header['error']})")
            dtype, shape, ndim = np.dtype(header["dtype"]), tuple(header["shape"]), header["ndim"]
            if dtype.kind == "c":
                raise ValueError(f"{path}: expected real pixels, got complex ones; take their magnitude first")
            count = int(np.prod(shape, dtype=object))
            check_memory(path, count * dtype.itemsize)
            values = filled(child.stdout, path, dtype, count).reshape(shape)  # type: ignore[arg-type]
        finally:
            child.kill()
    axes = (*range(ndim)[::-1], *range(ndim, values.ndim))
    direction = np.reshape(header["direction"], (ndim, ndim))
    origin = np.array(header["origin"])
    if path.suffix.lower() == ".mnc":
        origin[:2] *= -1
        direction[:2] *= -1
    return Placed(np.ascontiguousarray(values.transpose(axes)), np.array(header["spacing"]), origin, direction)
