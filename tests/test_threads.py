"""Sharing work among threads: every index once, whoever asks, whatever happens."""

import threading
import time

import numpy as np
import pytest
from support import phantoms

from augreg import DisplacementField, Grid, LPRegistration, folding, get_threads, jacobian_determinant, set_threads, threads, warp
from augreg.threads import shared

MUCH = 1e9


@pytest.fixture(autouse=True)
def all_cores():
    """Whatever a command in this process was told."""
    before = get_threads()
    set_threads(threads._most)
    yield
    set_threads(before)


def count(begin, end, out):
    for i in range(begin, end):
        out[i] += 1


@pytest.mark.parametrize("size", [0, 1, 2, 7, 1000])
@pytest.mark.parametrize("nanoseconds", [0.0, 1e3, MUCH])
def test_every_index_is_worked_on_once(size, nanoseconds):
    out = np.zeros(size)
    shared(count, size, nanoseconds, out)
    np.testing.assert_array_equal(out, 1)


def test_little_work_stays_in_the_thread_that_asks():
    seen = set()
    shared(lambda begin, end: seen.add((begin, end, threading.current_thread())), 100, 10.0)
    assert seen == {(0, 100, threading.current_thread())}


def test_much_work_goes_to_as_many_threads_as_were_asked_for():
    def note(begin, end, seen):
        seen.add(threading.current_thread())
        time.sleep(0.02)

    for number in range(1, get_threads() + 1):
        set_threads(number)
        seen = set()
        shared(note, 16, MUCH, seen)
        assert len(seen) == number


def test_work_within_work_does_not_wait_for_itself():
    out = np.zeros((20, 50))
    shared(lambda begin, end: [shared(count, 50, MUCH, out[i]) for i in range(begin, end)], 20, MUCH)
    np.testing.assert_array_equal(out, 1)


@pytest.mark.parametrize("failing", [0, 15])
def test_an_exception_of_any_piece_reaches_the_caller_and_nobody_goes_on(failing):
    begun = []

    def fails(begin, end):
        begun.append(begin)
        if begin <= failing < end:
            raise ZeroDivisionError("one of them")
        time.sleep(0.05)

    with pytest.raises(ZeroDivisionError, match="one of them"):
        shared(fails, 16, MUCH)
    known = len(begun)
    # of the first piece: those that the others had begun
    assert failing or known <= get_threads()
    time.sleep(0.1)
    assert len(begun) == known
    out = np.zeros(30)
    shared(count, 30, MUCH, out)
    np.testing.assert_array_equal(out, 1)


def test_many_threads_share_one_pool():
    outs = [np.zeros(200) for _ in range(16)]
    callers = [threading.Thread(target=shared, args=(count, 200, MUCH, out)) for out in outs]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=60)
    np.testing.assert_array_equal(outs, 1)
    assert sum(thread.name.startswith("augreg") for thread in threading.enumerate()) <= get_threads()


@pytest.mark.parametrize("ndim", [2, 3])
def test_results_have_the_same_bits_for_any_number_of_threads(ndim, monkeypatch):
    # little work is shared, too
    monkeypatch.setattr(threads, "_WORTH", 3e4)
    monkeypatch.setattr(threads, "_most", 3)
    grid = Grid((64, 50) if ndim == 2 else (28, 26, 24), (1.0, 1.2) if ndim == 2 else (1.0, 1.2, 1.1))
    moving = phantoms.blobs(grid)
    fixed = warp(moving, phantoms.bent(grid, 16.0, 1), grid)
    results = []
    for number in (1, 2, 3):
        set_threads(number)
        # affine, B-spline and dense stage; then a matrix alone
        phi, plain = (LPRegistration(transform=kind, keypoints=500)(fixed, moving) for kind in ("bspline", "affine"))
        maps = [phi.displacement(fixed.grid), warp(moving, phi, fixed.grid).values, phi.inverse(fixed.grid)(fixed.grid.points())]
        maps += [plain.displacement(fixed.grid), warp(moving, plain, fixed.grid).values]
        results.append([*maps, jacobian_determinant(phi, fixed.grid), np.array(folding(phi, fixed.grid))])
    assert isinstance(phi.transforms[-1], DisplacementField)
    assert np.ptp(results[0][0]) > 0.5
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("wrong", [0, -1, 10_000])
def test_a_number_of_threads_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=f"threads: expected 1 to .*, got {wrong}"):
        set_threads(wrong)
