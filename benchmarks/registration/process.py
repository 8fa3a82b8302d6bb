"""A rival's process as the runner sees it: started when needed, warmed up, asked for one registration after another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.process import Ended, Worker, surroundings
from benchmarks.registration.cases import Case
from benchmarks.registration.rivals import Array


class Process:
    """The worker of one rival.

    Parameters
    ----------
    python : an interpreter that has the rival
    module : in `benchmarks.registration.rivals`
    threads : of everything in it
    scratch : an existing folder
    limit : seconds that one registration may take
    tree : another checkout whose augreg is meant
    """

    def __init__(self, python: str, module: str, threads: int, scratch: Path, limit: float, tree: Path | None = None) -> None:
        self._module, self._limit = module, limit
        self._scratch = scratch / f"{module}{'-before' * (tree is not None)}"
        self._scratch.mkdir()
        self._log = self._scratch / "log"
        command = [python, "-m", "benchmarks.registration.worker", module, str(threads), *([str(tree)] if tree else [])]
        self._worker = Worker(command, surroundings(threads), self._scratch, self._log)
        self._warm: set[str] = set()
        self.version = ""

    def register(self, function: str, case: Case, warm_up: Case) -> tuple[dict[str, Any], Array | None, Array | None]:
        """What the worker says, with the images of the fixed image's voxels and of the case's points.

        Before a function's first call in a process it is called once, untimed, with the case `warm_up`.

        Raises
        ------
        RuntimeError : if the rival cannot be used.
        """
        if not self._worker.runs:
            self._start()
        if function not in self._warm:
            self._ask(function, warm_up)
            if not self._worker.runs:  # it died of the warm-up; the answer to the case itself still counts
                self._start()
            self._warm.add(function)
        answer = self._ask(function, case)
        if "error" in answer:
            return answer, None, None
        with np.load(self._scratch / "result.npz") as result:
            return answer, result["grid"], result["points"]

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    def _start(self) -> None:
        self._warm.clear()
        try:
            self.version = self._worker.ask(json.dumps({}), self._limit)["version"]
        except Ended as error:
            log = self._log.read_text(encoding="utf-8")[-2000:]
            raise RuntimeError(f"{self._module} cannot be used: {error}\n{log}") from error

    def _ask(self, function: str, case: Case) -> dict[str, Any]:
        pair, result = self._scratch / "pair.npz", self._scratch / "result.npz"
        np.savez(pair, fixed=case.fixed, moving=case.moving, points=case.points, spacings=case.spacings)
        try:
            return self._worker.ask(json.dumps({"function": function, "pair": str(pair), "result": str(result)}), self._limit)
        except Ended as error:
            return {"error": str(error)}
