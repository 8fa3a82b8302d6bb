"""Files that appear whole or not at all."""

import os
import stat
import sys

import numpy as np
import pytest

from augreg import Grid, Image, read_image, read_points, read_transform, write_image
from augreg.io import atomic

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="permissions, links and pipes are POSIX")


def write(path, text="new"):
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@POSIX
def test_a_file_that_is_replaced_hands_on_its_permissions(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    for bits in (0o640, 0o600, 0o664):
        path.chmod(bits)
        write(path)
        assert mode(path) == bits
        assert path.read_text(encoding="utf-8") == "new"


@POSIX
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_new_files_get_what_the_umask_allows_whatever_the_writer_does(mask, tmp_path):
    before = os.umask(mask)
    try:
        with atomic(tmp_path / "a.bin") as temporary:
            temporary.write_bytes(b"x")
            temporary.chmod(0o600)
        write_image(Image(np.zeros((4, 5), np.uint8), Grid((4, 5))), tmp_path / "b.nii.gz")
    finally:
        os.umask(before)
    assert mode(tmp_path / "a.bin") == mode(tmp_path / "b.nii.gz") == 0o666 & ~mask


@POSIX
def test_a_symbolic_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "data.bin").write_text("old", encoding="utf-8")
    link = tmp_path / "out.txt"
    link.symlink_to(tmp_path / "there" / "data.bin")
    with atomic(link) as temporary:
        assert temporary.name.endswith("out.txt")
        temporary.write_text("new", encoding="utf-8")
    assert link.is_symlink()
    assert (tmp_path / "there" / "data.bin").read_text(encoding="utf-8") == "new"
    link.unlink()
    link.symlink_to(tmp_path / "absent" / "data.bin")
    with pytest.raises(FileNotFoundError, match="folder"):
        write(link)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["data.bin", "out.txt", "there"]


@POSIX
def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", "/dev/null"):
        with pytest.raises(ValueError, match="pipe or a device"):
            write(path)
    assert stat.S_ISFIFO((tmp_path / "pipe.csv").stat().st_mode)


def test_an_empty_file_replaces_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(OSError, match="nothing was written"):
        write(path, "")
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@POSIX
def test_nobody_waits_for_a_pipe_that_is_an_input(tmp_path):
    for suffix, read in ((".csv", read_points), (".tfm", read_transform), (".nii.gz", read_image)):
        os.mkfifo(tmp_path / f"pipe{suffix}")
        with pytest.raises(ValueError, match="pipe or a device"):
            read(tmp_path / f"pipe{suffix}")
