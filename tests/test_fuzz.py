"""A fixed short form of the fuzz (`python -m benchmarks.fuzz`): nothing worse than a refusal or a change that no checksum could tell."""

import sys

import pytest

from benchmarks.fuzz import FAULTS, fuzz


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space of its workers")
def test_damaged_files_of_every_kind_are_refused_or_read_equal_or_could_not_be_told():
    rows = fuzz(150, seed=1)
    assert len(rows) == 150
    assert len({row["kind"] for row in rows}) == 16
    assert [row for row in rows if row["outcome"] in FAULTS] == []
    # refusals are one line that names the file
    refused = [row for row in rows if row["outcome"] == "refused"]
    assert len(refused) > 75
    assert all("\n" not in row["said"] for row in refused)
