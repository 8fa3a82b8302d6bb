"""What holds for all tests."""

import os
import sys

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="session")
def one_thread_for_small_matrices():
    """Threads of BLAS, and of torch beside other tests, wait longer than they work; on a busy machine thirty times as long."""
    if "PYTEST_XDIST_WORKER" in os.environ and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    with threadpool_limits(limits=1, user_api="blas"):
        yield
