"""ANTs' joint label fusion of propagated maps: `ants_worker.py GIVEN.npz FOUND.npz`, run by an interpreter that has antspyx."""

from __future__ import annotations

import sys
import time
from typing import Any

import ants
import numpy as np


def main(given: str, found: str) -> None:
    """Fuse, with ANTs' defaults."""
    with np.load(given) as parts:
        spacing = tuple(float(size) for size in parts["spacing"])

        def image(name: str) -> Any:
            return ants.from_numpy(parts[name].astype(np.float32), spacing=spacing)

        count = sum(name.startswith("image") for name in parts)
        target, images, labels = image("target"), *([image(f"{kind}{i}") for i in range(count)] for kind in ("image", "labels"))
        shown = np.any([one.numpy() != 0 for one in labels], axis=0).astype(np.float32)
        mask = ants.from_numpy(shown, spacing=spacing)
    begin = time.process_time(), time.perf_counter()
    result = ants.joint_label_fusion(target, mask, atlas_list=images, label_list=labels)
    seconds = time.process_time() - begin[0]
    np.savez(found, labels=result["segmentation"].numpy(), cpu_seconds=seconds, seconds=time.perf_counter() - begin[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
