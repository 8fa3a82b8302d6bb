"""What a folder of pairs holds: `dataset.json`, from which, and from the generator, every byte of its shards follows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from augreg.geometry.grid import Grid
from augreg.io import atomic

_KIND = "augreg pairs"
# of what a shard holds; older folders are neither read nor gone on with
_VERSION = 1
_NAME = "dataset.json"
SHARDS = "pairs-*.tar"


@dataclass(frozen=True)
class Manifest:
    """A data set of pairs.

    Parameters
    ----------
    generator : description of the generator: options, and a hash of its images or model
    seed : seed of all pairs
    count : number of pairs
    shard_size : number of pairs per shard; the last may hold fewer
    grid : grid of both images
    without : what pairs are written without: "reverse", "labels"
    """

    generator: Mapping[str, Any]
    seed: int
    count: int
    shard_size: int
    grid: Grid
    without: tuple[str, ...] = ()

    @property
    def shards(self) -> range:
        """Their numbers."""
        return range(-(-self.count // self.shard_size))

    def indices(self, shard: int) -> range:
        """The pairs of a shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.count))

    def path(self, folder: Path, shard: int) -> Path:
        """The file of a shard."""
        return folder / SHARDS.replace("*", f"{shard:06d}")


def claim(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into a folder, or find it there.

    Raises
    ------
    ValueError : if the folder holds another data set.
    """
    # as JSON would give it back
    told = {name: value for name, value in asdict(manifest).items() if name != "without" or value}
    wanted = json.loads(json.dumps({"kind": _KIND, "version": _VERSION, **told}))
    found = _read(folder / _NAME)
    if found is None:
        with atomic(folder / _NAME) as temporary:
            temporary.write_text(json.dumps(wanted, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    elif found != wanted:
        other = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        raise ValueError(
            f"{folder}: expected an empty folder or the same data set, got one of another {', '.join(other)}; choose another"
        )


def read_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """The manifest of a folder of pairs.

    Raises
    ------
    ValueError : if there is none, or one of another version.
    """
    path = Path(directory) / _NAME
    found = _read(path)
    if found is None:
        raise ValueError(f"{directory}: expected a folder of pairs with {_NAME}, got none; write one with synthesize")
    if found.get("version") != _VERSION:
        raise ValueError(f"{path}: expected version {_VERSION}, got {found.get('version')}; run synthesize again")
    try:
        grid = Grid(**{name: tuple(value) for name, value in found["grid"].items()})
        seed, count, size = numbers = [found[name] for name in ("seed", "count", "shard_size")]
        if not all(type(n) is int for n in numbers) or seed < 0 or min(count, size) < 1:
            raise TypeError(numbers)
        return Manifest(dict(found["generator"]), seed, count, size, grid, tuple(found.get("without", ())))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: expected generator, seed, count, shard_size and grid, got a file without some") from error


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected the description of a data set, got text that is not JSON") from error
    if not isinstance(found, dict) or found.get("kind") != _KIND:
        raise ValueError(f"{path}: expected the description of a set of augreg pairs, got something else")
    return found
