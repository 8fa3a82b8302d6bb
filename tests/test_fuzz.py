"""A short form of the fuzz, `python -m benchmarks run fuzz`: refused, read equal, or a change that no checksum could tell."""

import sys

import pytest

from benchmarks.files.fuzz import FAULTS, fuzz
from benchmarks.files.mutants import KINDS


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space of its workers")
def test_damaged_files_of_every_kind_are_refused_or_read_equal_or_could_not_be_told():
    rows = fuzz(150, seed=1)
    assert len(rows) == 150
    assert {row["kind"] for row in rows} == {kind.name for kind in KINDS}
    assert [row for row in rows if row["outcome"] in FAULTS] == []
    # refusals are one line that names the file
    refused = [row for row in rows if row["outcome"] == "refused"]
    assert len(refused) > 60
    assert all("\n" not in row["said"] for row in refused)
