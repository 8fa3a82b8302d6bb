"""Compiled kernels in processes as people start them: forked, threaded, installed where nothing can be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="of the compiler"),
]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")

# one registration, and a warp that is large enough for many threads
WORK = """
import numpy as np, augreg as ar

x, y = np.meshgrid(np.arange(90.0), np.arange(70.0), indexing="ij")
def blob(a, b): return ar.Image((np.exp(-((x - a) / 14) ** 2 - ((y - b) / 9) ** 2) * 200).astype(np.float32), ar.Grid((90, 70)))
def register(shift):
    return ar.LPRegistration(transform="affine")(blob(45, 35), blob(45 + shift, 33)).matrix.tolist()
def warp(_=None):
    grid = ar.Grid((1300, 1300))
    image = ar.Image(np.add.outer(np.arange(1300.0), np.arange(1300.0)).astype(np.float32), grid)
    return float(ar.warp(image, ar.Affine(np.eye(2), [1.5, 2.0]), grid).values.sum(dtype=np.float64))
"""


def run(code, timeout=300, **environment):
    """What a fresh Python prints; an assertion says how it ended otherwise."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=timeout, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done


# as users find it, without OpenMP, and on one core
SURROUNDINGS = [{}, {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"}, {"NUMBA_NUM_THREADS": "1"}]
everywhere = pytest.mark.parametrize("environment", SURROUNDINGS, ids=["default", "workqueue", "one thread"])


@needs_fork
@everywhere
def test_a_forked_pool_does_what_its_parent_did(environment):
    run(
        WORK
        + """
import multiprocessing
known, large = [register(s) for s in (2, 3, 4)], warp()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(register, (2, 3, 4)).get(timeout=200) == known
    assert pool.map_async(warp, range(3)).get(timeout=200) == 3 * [large]
# and the parent goes on
assert warp() == large
""",
        **environment,
    )


@needs_fork
def test_a_forked_child_has_threads_of_its_own():
    run(
        """
import os, threading, time
from augreg.threads import get_threads, shared
def note(begin, end, seen):
    seen.add(threading.current_thread().name)
    time.sleep(0.02)
def workers():
    seen = set()
    shared(note, 16, 1e9, seen)
    return len(seen)
assert workers() == get_threads()
child = os.fork()
if child == 0:
    os._exit(0 if workers() == get_threads() else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    )


@everywhere
@pytest.mark.parametrize("start", [pytest.param("fork", marks=needs_fork), "spawn"])
def test_a_loader_with_workers_gives_the_pairs_of_its_parent(environment, start, tmp_path):
    # a spawned worker imports the script once more
    script = tmp_path / "loads.py"
    script.write_text(
        """
import numpy as np, torch, augreg as ar
from augreg.synthesis import PairStream, RandomDeformations, make_pairs
from torch.utils.data import DataLoader

if __name__ == "__main__":
    # large enough for torch's own threads, too
    noise = np.random.default_rng(0).random((300, 280)).astype(np.float32)
    pairs = RandomDeformations.of([ar.Image(noise, ar.Grid(noise.shape))])
    known = make_pairs(pairs, 5, range(4))
    torch.ones(500, 500) @ torch.ones(500, 500)
    loader = DataLoader(PairStream(pairs, 5, 4), batch_size=2, num_workers=2, multiprocessing_context="START", timeout=200)
    found = {int(i): moving for batch in loader for i, moving in zip(batch["index"], batch["moving"])}
    assert sorted(found) == [0, 1, 2, 3]
    assert all(torch.allclose(found[i], known.moving[i], atol=1e-4) for i in range(4))
""".replace("START", start),
        encoding="utf-8",
    )
    run(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", **environment)


@needs_fork
def test_a_network_answers_in_a_forked_child():
    run(
        WORK
        + """
import multiprocessing
from augreg.training import FlowRegistration
network = FlowRegistration.from_file("sunnybrook-sax")
def answer(shift): return network(blob(45, 35), blob(45 + shift, 33)).values
known = [answer(s) for s in (2, 3)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map_async(answer, (2, 3)).get(timeout=200)
assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(found, known))
"""
    )


@everywhere
def test_eight_threads_that_do_different_things_give_the_bits_of_one(environment):
    run(
        WORK
        + f"""
import sys
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, {str(Path(__file__).parent)!r})
from support.programs import PROGRAMS, recorded
from augreg.synthesis import RandomDeformations, make_pairs
from solvers import InteriorPoint

programs = [recorded(path) for path in PROGRAMS[:: max(1, len(PROGRAMS) // 4)]]
noise = np.random.default_rng(0).random((90, 80)).astype(np.float32)
pairs = RandomDeformations.of([ar.Image(noise, ar.Grid(noise.shape))])
def elastic(n): return ar.LPRegistration()(blob(45, 35), blob(45 + n, 33)).displacement(ar.Grid((90, 70))).tobytes()
def solve(n): return [InteriorPoint()(program).x.tobytes() for program in programs]
def render(n): return make_pairs(pairs, n, range(3)).moving.numpy().tobytes()
works = [(work, n) for n in (2, 3) for work in (register, elastic, warp, solve, render)]
alone = [work(n) for work, n in works]
with ThreadPoolExecutor(8) as pool:
    together = list(pool.map(lambda job: job[0](job[1]), 3 * works))
assert together == 3 * alone
ar.set_threads(1)
assert [work(n) for work, n in works] == alone
""",
        **environment,
    )


@pytest.mark.skipif(os.name != "posix", reason="of signals")
def test_an_interrupt_in_the_middle_leaves_no_thread_behind():
    run(
        WORK
        + """
import signal, threading, time
from augreg.threads import get_threads, shared
warp()
assert any(thread.name.startswith("augreg") for thread in threading.enumerate()) == (get_threads() > 1)

def slow(begin, end, done):
    for i in range(begin, end):
        time.sleep(0.02)
        done[i] = 1

done = np.zeros(400)
# what a shell starts in the background ignores it
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
signal.setitimer(signal.ITIMER_REAL, 0.4)
try:
    shared(slow, len(done), 1e7, done)
    raise AssertionError("nobody has interrupted")
except KeyboardInterrupt:
    pass
before = done.sum()
# each thread ends the piece that it had begun, of four a thread
assert 0 < before <= len(done) / 4
time.sleep(0.5)
assert done.sum() == before, "somebody goes on"
assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
# and work goes on afterwards
assert warp() == warp()
"""
    )


@pytest.fixture
def module(tmp_path):
    """A module with two kernels, and code that imports it and prints what they say and how often they were compiled."""
    (tmp_path / "tiny_kernels.py").write_text(
        "from solvers._compile import inlined, kernel\n"
        "@inlined\ndef twice(x):\n    return 2.0 * x\n"
        "@kernel\ndef double(x):\n    return twice(x)\n"
        "@kernel\ndef fill(out):\n    for i in range(len(out)):\n        out[i] = twice(i)\n",
        encoding="utf-8",
    )
    code = "import numpy as np, tiny_kernels as k\nout = np.empty(3)\nk.fill(out)\nprint(out.tolist(), k.double(4.0))\n"
    code += "print('compiled', sum(k.double.stats.cache_misses.values()))"
    environment = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "PYTHONDONTWRITEBYTECODE": "1"}
    return code, environment


def _unwritable(tmp_path):
    # where a folder should be there is a file: that stops root as well
    (tmp_path / "__pycache__").write_text("", encoding="utf-8")
    return {"HOME": os.devnull, "XDG_CACHE_HOME": f"{os.devnull}/cache", "NUMBA_CACHE_DIR": ""}


@pytest.mark.skipif(os.name != "posix", reason="of its folders")
def test_where_nothing_can_be_written_compiled_code_is_kept_among_temporary_files_of_the_user_alone(module, tmp_path):
    code, environment = module
    environment |= _unwritable(tmp_path) | {"TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    first, second = run(code, **environment), run(code, **environment)
    assert first.stdout.splitlines()[0] == second.stdout.splitlines()[0] == "[0.0, 2.0, 4.0] 8.0"
    assert first.stderr.count("UserWarning: compiled kernels are kept in") == first.stderr.count("UserWarning") == 1
    assert "NUMBA_CACHE_DIR" in first.stderr
    assert "compiled 0" not in first.stdout
    assert "compiled 0" in second.stdout
    [folder] = (tmp_path / "tmp").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    # what lies in it is unpickled: a folder that others can write to is not used
    folder.chmod(0o777)
    third = run(code, **environment)
    assert third.stdout.splitlines()[0] == "[0.0, 2.0, 4.0] 8.0"
    assert third.stderr.count("UserWarning: compiled kernels cannot be kept") == third.stderr.count("UserWarning") == 1
    assert "compiled 0" not in third.stdout or not any(folder.iterdir())


def test_a_kernel_is_compiled_anew_when_another_file_whose_function_it_calls_has_changed(module, tmp_path):
    code, environment = module
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "cache")
    package = tmp_path / "tiny"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "_parts_kernels.py").write_text(
        "from solvers._compile import inlined\n@inlined\ndef part(x):\n    return x + 1.0\n", encoding="utf-8"
    )
    (package / "_whole_kernels.py").write_text(
        "from solvers._compile import kernel\nfrom tiny._parts_kernels import part\n@kernel\ndef whole(x):\n    return part(x)\n",
        encoding="utf-8",
    )
    code = "from tiny._whole_kernels import whole\nprint(whole(1.0), sum(whole.stats.cache_misses.values()))"
    assert run(code, **environment).stdout.split() == ["2.0", "1"]
    assert run(code, **environment).stdout.split() == ["2.0", "0"]
    parts = package / "_parts_kernels.py"
    kept = parts.stat()
    parts.write_text(parts.read_text(encoding="utf-8").replace("1.0", "5.0"), encoding="utf-8")
    # not even its time tells
    os.utime(parts, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert run(code, **environment).stdout.split() == ["6.0", "1"]
    assert run(code, **environment).stdout.split() == ["6.0", "0"]
    # and nothing of before is left
    assert len(list((tmp_path / "cache").rglob("*.nbc"))) == 1


def test_listeners_are_told_of_what_is_compiled_and_not_of_what_is_loaded(module, tmp_path):
    code, environment = module
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "cache")
    code = (
        "from solvers.compiling import listening\nimport tiny_kernels as k\nnames = []\n"
        "with listening(names.append):\n    k.double(1.0)\n    k.double(2.0)\nk.double(1)\nprint(names)"
    )
    assert run(code, **environment).stdout == "['double']\n"
    assert run(code, **environment).stdout == "[]\n"


@pytest.mark.parametrize("harm", ["cut", "emptied", "zeroed", "changed"])
def test_compiled_code_that_was_damaged_is_compiled_again(module, tmp_path, harm):
    code, environment = module
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "cache")
    expected = run(code, **environment).stdout.splitlines()[0]
    assert "compiled 0" in run(code, **environment).stdout
    for path in (tmp_path / "cache").rglob("*.nb*"):
        path.write_bytes(_harmed(path, harm))
    repaired = run(code, **environment)
    assert repaired.stdout.splitlines()[0] == expected
    assert "compiled 0" not in repaired.stdout
    assert "compiled 0" in run(code, **environment).stdout


def _harmed(path: Path, harm: str) -> bytes:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    if harm == "cut":
        return bytes(data[:middle])
    if harm == "emptied":
        return b""
    if path.suffix == ".nbi":
        return bytes(data)
    if harm == "zeroed":
        data[middle : middle + 64] = bytes(64)
    else:
        data[middle] ^= 1
    return bytes(data)
