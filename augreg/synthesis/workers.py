"""What a DataLoader's workers must be to make pairs."""

from __future__ import annotations

import os

from torch.utils.data import get_worker_info

_IMPORTED_IN = os.getpid()


def check_worker() -> None:
    """Refuse forked workers: the threads of compiled kernels do not survive a fork, and would end the worker without a word.

    Raises
    ------
    ValueError : in such a worker.
    """
    if get_worker_info() is not None and os.getpid() != _IMPORTED_IN:
        raise ValueError(
            "num_workers: expected workers that are spawned where pairs are made, got forked ones; "
            "give the DataLoader multiprocessing_context='spawn', or num_workers=0"
        )
