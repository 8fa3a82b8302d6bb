"""The folder of a run, and what the run was started with.

    settings.json             the recipe, the seed, the network, and a hash of what is learned from
    checkpoint.safetensors    of the last minutes
    weights.safetensors       at the end

A run that goes on with other settings is neither of the two runs, so it is refused. More steps are no other setting: the rate
falls later then.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from augreg.io import atomic
from augreg.sam import AppearanceModel
from augreg.synthesis import AppearancePairs, PairBatch
from augreg.training.checkpoints import CHECKPOINT
from augreg.training.learner import WEIGHTS

SETTINGS = "settings.json"
_KIND = "augreg run"


def check_unused(directory: str | os.PathLike[str]) -> None:
    """Refuse the folder of a run to begin another one in it.

    Raises
    ------
    ValueError : if there is a run already.
    """
    for name in (CHECKPOINT, WEIGHTS):
        if (Path(directory) / name).exists():
            raise ValueError(
                f"{directory}: expected a folder without a run, got one with {name}; go on with --resume, or choose "
                "another folder"
            )


def claim(directory: str | os.PathLike[str], settings: Mapping[str, Any], *, writes: bool = True) -> None:
    """Begin a run in a folder, which is made if it does not exist.

    Parameters
    ----------
    directory : folder of the run
    settings : everything that its weights depend on, as JSON
    writes : whether this process writes the file; all of a team look

    Raises
    ------
    ValueError : if there is a run already.
    """
    check_unused(directory)
    folder = Path(directory)
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(folder / SETTINGS) as temporary:
            text = json.dumps({"kind": _KIND, "settings": settings}, indent=1, sort_keys=True) + "\n"
            temporary.write_text(text, encoding="utf-8")


def run_settings(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """What the run of a folder was started with.

    Raises
    ------
    FileNotFoundError : without a run. ValueError : for one that does not say it, or a file that is something else.
    """
    path = Path(directory) / SETTINGS
    checkpoint = Path(directory) / CHECKPOINT
    if not checkpoint.is_file():
        raise FileNotFoundError(f"{checkpoint}: expected a checkpoint to go on from, got none; train without --resume")
    if not path.is_file():
        raise ValueError(
            f"{path}: expected what the run was started with, got no file: an older version began this run, and what it learned "
            "from is not known; begin another one, with --init and its weights where it has ended"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["kind"] != _KIND:
            raise ValueError(found["kind"])
        return dict(found["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected the settings of a run, got something else; begin another run") from error


def check_same(directory: str | os.PathLike[str], found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings.

    Raises
    ------
    ValueError : with every difference.
    """
    asked = json.loads(json.dumps(wanted))
    names = [name for name in (*asked, *(name for name in found if name not in asked)) if found.get(name) != asked.get(name)]
    if names:
        differences = "; ".join(f"{name}: the run has {_said(found, name)}, asked for {_said(asked, name)}" for name in names)
        raise ValueError(f"{directory}: expected the settings of the run to go on with, got others: {differences}")


def model_hash(model: AppearanceModel) -> str:
    """A hash of what pairs drawn from a model depend on, wherever its file lies."""
    return f"model {AppearancePairs(model).describe()['model']}"


def pairs_hash(pairs: PairBatch) -> str:
    """A hash of pairs at hand."""
    digest = hashlib.sha256()
    for part in (pairs.fixed, pairs.moving, pairs.flow, pairs.mask):
        digest.update(repr((part.dtype, tuple(part.shape))).encode())
        for one in part:
            digest.update(np.ascontiguousarray(one.cpu().numpy()).data)
    return f"pairs {digest.hexdigest()[:16]}"


def _said(settings: Mapping[str, Any], name: str) -> str:
    value = settings.get(name)
    return "none" if value is None else str(value)
