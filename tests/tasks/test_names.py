"""Names of results."""

import pytest

from augreg.tasks import file_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/d/1003_z08.nii.gz", "/e/b 1.PNG", "/d/v1.2.nii"], ["1003_z08", "b_1", "v1.2"]),
        (["/d/s1/t1.mha", "/d/s2/t1.mha", "/d/s2/t2.mha"], ["s1-t1", "s2-t1", "t2"]),
        (["/d/x/s/t.mha", "/d/y/s/t.mha"], ["x-s-t", "y-s-t"]),
        (["/a.png", "/A.tif", "/a-2.png"], ["a", "A-3", "a-2"]),
        (["/d/a.png", "/d/a.png"], ["d-a", "d-a-2"]),
        (["/ä/nul.png", "/.../-.-", "/d/$(rm -r).nii"], ["_nul", "_", "_rm_-r_"]),
        (["/d/.hidden.png", "/d/-o.png"], ["hidden", "o"]),
    ],
)
def test_names_are_safe_and_no_two_alike(paths, names):
    assert file_names(paths) == names
    assert file_names(paths[:1])[0].isprintable()


def test_long_names_keep_their_ends():
    found = file_names(["/d/" + "x" * 300 + "1.nii.gz", "/d/" + "x" * 300 + "2.nii.gz"])
    assert [name[-2:] for name in found] == ["x1", "x2"]
    assert max(map(len, found)) <= 100
