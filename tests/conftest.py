"""What holds for all tests."""

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="session")
def one_thread_of_blas():
    """Matrices of tests are small: threads of BLAS wait for each other longer than they work, on a busy machine thirty times."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
