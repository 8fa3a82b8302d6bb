"""ANTs' joint fusion of propagated maps, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from augreg.atlas import Atlas
from augreg.geometry.image import Image, Labels


def joint_fusion(target: Image, maps: Sequence[Atlas], python: Path) -> tuple[Labels, float]:
    """The label map, and the CPU seconds of the call alone, one thread.

    Parameters
    ----------
    target : image
    maps : atlases on its grid
    python : an interpreter that has antspyx
    """
    worker = Path(__file__).with_name("ants_worker.py")
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        parts = {"target": target.values.astype(np.float32), "spacing": np.array(target.grid.spacing)}
        parts |= {f"image{i}": one.image.values for i, one in enumerate(maps)}
        parts |= {f"labels{i}": one.labels.values.astype(np.float32) for i, one in enumerate(maps)}
        np.savez(given, **parts)
        alone = os.environ | {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
        subprocess.run([str(python), str(worker), str(given), str(found)], check=True, capture_output=True, env=alone)
        with np.load(found) as result:
            return Labels(np.rint(result["labels"]).astype(np.int64), target.grid), float(result["cpu_seconds"])
