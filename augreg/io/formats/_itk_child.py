"""Run as a script in a process of its own: one image through SimpleITK, to standard output as a line of JSON and its bytes."""

import json
import os
import sys
from typing import Any

import numpy as np
import SimpleITK as sitk


def main(path: str, seconds: int) -> None:
    """Read `path`; what ITK and the libraries below it say goes to standard error, the image to standard output."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limits = [limit for limit in (soft, hard, memory) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    except (ImportError, AttributeError, ValueError, OSError):
        pass
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(path)
    except (RuntimeError, MemoryError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        failure = {"error": lines[-1] if lines else "it needs more memory than there is"}
        out.write(json.dumps(failure).encode() + b"\n")
        out.close()
        return
    values = np.ascontiguousarray(sitk.GetArrayViewFromImage(image))
    header: dict[str, Any] = {
        "dtype": values.dtype.str,
        "shape": values.shape,
        "ndim": image.GetDimension(),
        "spacing": image.GetSpacing(),
        "origin": image.GetOrigin(),
        "direction": image.GetDirection(),
    }
    out.write(json.dumps(header).encode() + b"\n")
    out.write(values.data.cast("B"))
    out.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
