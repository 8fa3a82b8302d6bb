"""Fresh processes: a command and what it cost, and workers that answer one request after another."""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.places import ROOT

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


def surroundings(threads: int, **more: str) -> dict[str, str]:
    """Environment variables of a process: so many threads of everything, and these modules."""
    return os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads)) | {"PYTHONPATH": str(ROOT)} | more


def finished(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path, cores: int | None = None
) -> tuple[str, str, float]:
    """Standard output and error of a command, and the CPU seconds of all its processes.

    Parameters
    ----------
    cores : the first so many of the machine; all where None, or where they cannot be chosen

    Raises
    ------
    RuntimeError : if it fails.
    """

    def choose() -> None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])

    chosen = choose if cores is not None and hasattr(os, "sched_setaffinity") else None
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, encoding="utf-8", preexec_fn=chosen, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: expected status 0, got {done.returncode}: {done.stderr}")
    return done.stdout, done.stderr, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# runs a command, and writes what it used
_WATCH = """
import json, os, subprocess, sys, time
begin = time.perf_counter()
child = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(child.pid, 0)
seconds = time.perf_counter() - begin
with open(sys.argv[1], "w") as file:
    json.dump([os.waitstatus_to_exitcode(status), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss], file)
"""


@dataclass(frozen=True)
class Spent:
    """What a process has said and used.

    Parameters
    ----------
    said : standard output
    seconds : by the clock
    cpu_seconds : user and system time of the process alone
    peak : largest resident memory, bytes
    """

    said: str
    seconds: float
    cpu_seconds: float
    peak: float


def spent(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Spent:
    """Run a command and say what it alone used.

    Raises
    ------
    RuntimeError : if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        # the memory of a process counts that of the one it was forked from: so a small one starts it
        small = [sys.executable, "-S", "-c", _WATCH, str(told), *command]
        done = subprocess.run(small, env=environment, cwd=cwd, capture_output=True, encoding="utf-8", check=True)
        status, seconds, used, peak = json.loads(told.read_text(encoding="utf-8"))
    if status:
        raise RuntimeError(f"{' '.join(command)}: expected status 0, got {status}: {done.stderr}")
    # kilobytes, but bytes on macOS
    return Spent(done.stdout, seconds, used, peak * (1 if sys.platform == "darwin" else 1024))


class Ended(Exception):  # noqa: N818
    """A worker has died (`crash`), or was ended since it did not answer (`hang`)."""

    def __init__(self, kind: str, said: str) -> None:
        super().__init__(said)
        self.kind = kind


class Worker:
    """A process that answers each line of its standard input with a line of JSON; started when it is first asked.

    Parameters
    ----------
    command, environment, cwd : of the process
    log : of its standard error; nowhere by default
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], cwd: Path = ROOT, log: Path | None = None) -> None:
        self._command, self._environment, self._cwd, self._log = list(command), dict(environment), cwd, log
        self._child: subprocess.Popen[str] | None = None

    @property
    def runs(self) -> bool:
        """Whether it has been asked since it last ended."""
        return self._child is not None

    def ask(self, request: str, seconds: float) -> dict[str, Any]:
        """The answer.

        Raises
        ------
        Ended : if there is none so soon; the process is started again for the next request.
        """
        child = self._child = self._child or self._started()
        assert child.stdin is not None
        assert child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            try:
                print(request, file=child.stdin, flush=True)
                answered = bool(selector.select(seconds))
            except BrokenPipeError:
                answered = True
        line = child.stdout.readline() if answered else ""
        if line:
            return json.loads(line)
        status = child.wait() if answered else 0
        self.close()
        if not answered:
            raise Ended("hang", f"took longer than {seconds:g} s")
        raise Ended("crash", f"crashed: {signal.Signals(-status).name if status < 0 else f'exit status {status}'}")

    def close(self) -> None:
        """End the process; it can be used again."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _started(self) -> subprocess.Popen[str]:
        with open(self._log or os.devnull, "w", encoding="utf-8") as log:
            return subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._environment,
                encoding="utf-8",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )


def answer_lines(answer: Callable[[str], dict[str, Any]]) -> None:
    """The worker's side: until its input ends. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(line.rstrip("\n"))), file=answers, flush=True)
