"""Transforms that only ITK reads (HDF5, MINC, rare kinds), read in a process of their own: damaged ones kill that one.

Standard output of `python transform_child.py PATH SECONDS`: for each part a line of JSON, then its float64 numbers, no pickles.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

# a damaged file's promises must cost no more: bytes; seconds, and bytes of the file a second
_MEMORY = 8 << 30
_SECONDS, _RATE = 12.0, 4e6


def parts_read_apart(path: Path) -> list[Any]:
    """The parts of a file as (kind, D, parameters, fixed), as ITK reads them.

    Raises
    ------
    ValueError : if ITK cannot, or the process ends or does not.
    """
    # a script, not a module: what the package imports is not needed there
    seconds = _SECONDS + path.stat().st_size / _RATE
    command = [sys.executable, "-I", str(Path(__file__).resolve()), str(path.resolve()), f"{seconds:.0f}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"expected a transform, got a file that ITK had not read after {seconds:.0f} s") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[-1][-120:] if said and done.returncode == 3 else f"reading it ended with status {done.returncode}"
        raise ValueError(f"expected a transform, got a file that cannot be read as one ({reason})")
    parts, content = [], done.stdout
    while content:
        line, _, content = content.partition(b"\n")
        about = json.loads(line)
        numbers = np.frombuffer(content, np.float64, about["parameters"] + about["fixed"])
        parts.append((about["kind"], about["ndim"], numbers[: about["parameters"]].copy(), numbers[about["parameters"] :].copy()))
        content = content[numbers.nbytes :]
    return parts


def _main(path: str, seconds: int) -> None:
    import resource  # not on every system

    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    memory = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # who waits may be killed, and then nobody ends this process
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    import SimpleITK as sitk  # here it is at home: this is the process that may die

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        whole = sitk.ReadTransform(path)
    except (RuntimeError, MemoryError, KeyError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        print(lines[-1] if lines else type(error).__name__, file=sys.stderr)  # noqa: T201  # the way back to the caller
        sys.exit(3)
    out = sys.stdout.buffer

    def tell(kind: str, ndim: int, parameters: Any, fixed: Any) -> None:
        numbers = np.concatenate([np.asarray(parameters, np.float64), np.asarray(fixed, np.float64)])
        about = {"kind": kind, "ndim": ndim, "parameters": len(parameters), "fixed": len(fixed)}
        out.write(json.dumps(about).encode() + b"\n" + numbers.tobytes())

    def walk(transform: Any, depth: int) -> None:
        # SimpleITK has no class for rare kinds, which it cannot cast down to
        ndim, name = transform.GetDimension(), transform.GetName()
        if name == "CompositeTransform" and depth < 9:
            composite = sitk.CompositeTransform(transform)
            for k in range(composite.GetNumberOfTransforms()):
                walk(composite.GetNthTransform(k), depth + 1)
        elif name in ("BSplineTransform", "DisplacementFieldTransform", "AffineTransform"):
            if name == "BSplineTransform" and (order := sitk.BSplineTransform(transform).GetOrder()) != 3:
                print(f"a B-spline of order {order}, not 3", file=sys.stderr)  # noqa: T201
                sys.exit(3)
            tell(name, ndim, transform.GetParameters(), transform.GetFixedParameters())
        elif transform.IsLinear():
            offset = np.array(transform.TransformPoint([0.0] * ndim))
            columns = [np.array(transform.TransformPoint(e.tolist())) - offset for e in np.eye(ndim)]
            tell("AffineTransform", ndim, [*np.stack(columns, axis=1).ravel(), *offset], [0.0] * ndim)
        else:
            print(f"a {transform.GetName()}", file=sys.stderr)  # noqa: T201
            sys.exit(3)

    tell("CompositeTransform", whole.GetDimension(), [], [])
    walk(whole, 0)
    out.flush()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
