"""A rival's process as the runner sees it: started when needed, warmed up, asked for one registration after another."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.rivals import Array

_ROOT = Path(__file__).resolve().parents[1]
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


class Process:
    """The worker of one rival.

    Parameters
    ----------
    python : an interpreter that has the rival
    module : in `benchmarks.rivals`
    threads : of everything in it
    scratch : an existing folder
    limit : seconds that one registration may take
    """

    def __init__(self, python: str, module: str, threads: int, scratch: Path, limit: float) -> None:
        self._command = [python, "-m", "benchmarks.worker", module, str(threads)]
        self._environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads)) | {"PYTHONPATH": str(_ROOT)}
        self._scratch = scratch
        self._pair, self._result = scratch / f"{module}-pair.npz", scratch / f"{module}-result.npz"
        self._log = scratch / f"{module}.log"
        self._limit = limit
        self._child: subprocess.Popen[str] | None = None
        self._warm: set[str] = set()
        self.version = ""

    def register(self, function: str, case: Case, warm_up: Case) -> tuple[dict[str, Any], Array | None, Array | None]:
        """What the worker says, with the images of the fixed image's pixels and of the case's points.

        Before a function's first call in a process it is called once, untimed, with the case `warm_up`.
        """
        if self._child is None:
            self._start()
        if function not in self._warm:
            self._ask(function, warm_up)
            self._warm.add(function)
            if self._child is None:  # it died of the warm-up; the answer to the case itself still counts
                self._start()
        answer = self._ask(function, case)
        if "error" in answer:
            return answer, None, None
        with np.load(self._result) as result:
            return answer, result["grid"], result["points"]

    def close(self) -> None:
        """End the process; it can be used again."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None
            self._warm.clear()

    def _start(self) -> None:
        with self._log.open("w", encoding="utf-8") as log:
            self._child = subprocess.Popen(
                self._command,
                cwd=self._scratch,
                env=self._environment,
                encoding="utf-8",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        hello = self._answer()
        if "version" not in hello:
            raise RuntimeError(
                f"{self._command[-2]} cannot be used: {hello['error']}\n{self._log.read_text(encoding='utf-8')[-2000:]}"
            )
        self.version = hello["version"]

    def _ask(self, function: str, case: Case) -> dict[str, Any]:
        assert self._child is not None
        assert self._child.stdin is not None
        np.savez(self._pair, fixed=case.fixed, moving=case.moving, points=case.points)
        print(
            json.dumps({"function": function, "pair": str(self._pair), "result": str(self._result)}),
            file=self._child.stdin,
            flush=True,
        )
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._child is not None
        assert self._child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            answered = selector.select(self._limit)
        line = self._child.stdout.readline() if answered else ""
        if line:
            return json.loads(line)
        if answered:
            status = self._child.wait()
            error = f"crashed: {signal.Signals(-status).name if status < 0 else f'exit status {status}'}"
        else:
            error = f"took longer than {self._limit:g} s"
        self.close()
        return {"error": error}
