"""Where the real images for tests lie; a test that needs them is skipped, with the reason, where they are absent."""

import os
from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def path(name: str) -> Path:
    folder = Path(os.environ.get("AUGREG_TEST_DATA", _SHARED)) / name
    if not folder.is_dir():
        pytest.skip(f"real images '{name}' are not here: expected the folder shared/data/{name} beside the checkout")
    return folder
