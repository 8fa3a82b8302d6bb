"""Names of what is made of several files: from theirs, safe in any file system, and no two alike."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_SUFFIX = re.compile(r"\.(nii(\.gz)?|(ome\.)?tiff?|mh[ad]|nrrd|nhdr|png|jpe?g|bmp|dcm|img|hdr|npy)$", re.IGNORECASE)
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+=@-]+")
# of most file systems, less what is added to a name
_LONGEST = 100
# names that cannot be made on some systems
_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)\d)(\..*)?", re.IGNORECASE)


def file_names(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A name for each path, without suffix and folder: `a/b 1.nii.gz` is `b_1`.

    Names that several paths would get have the folders before them, as many as tell them apart, and a number where none does.
    Letters of both cases count as one. Names depend on all the paths, and not on what is on the disk.
    """
    parts = [_parts(path) for path in paths]
    depth = [1] * len(parts)
    while True:
        names = [_name(part, n) for part, n in zip(parts, depth, strict=True)]
        counts = Counter(map(str.lower, names))
        shared = [i for i, name in enumerate(names) if counts[name.lower()] > 1 and depth[i] < len(parts[i])]
        if not shared:
            return _numbered(names)
        for i in shared:
            depth[i] += 1


def _numbered(names: Sequence[str]) -> list[str]:
    """Names of which the second, third, ... of equal ones have a number."""
    given, taken, found = {name.lower() for name in names}, set(), []
    for name in names:
        one, count = name, 1
        while one.lower() in taken or (count > 1 and one.lower() in given):
            count += 1
            one = f"{name}-{count}"
        taken.add(one.lower())
        found.append(one)
    return found


def _parts(path: str | os.PathLike[str]) -> list[str]:
    """The folders of a path and its name without suffix."""
    whole = Path(os.path.abspath(path))
    return [*whole.parts[1:-1], _SUFFIX.sub("", whole.name) or whole.name]


def _name(parts: Sequence[str], depth: int) -> str:
    safe = _UNSAFE.sub("_", "-".join(parts[-depth:]))[-_LONGEST:].strip(".-")
    return f"_{safe}" if not safe or _RESERVED.fullmatch(safe) else safe
