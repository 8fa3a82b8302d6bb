"""`augreg compile`: afterwards nothing is left to be compiled, and no kernel is compiled for what it need not be."""

import json
import os
import subprocess
import sys

import pytest

from augreg import Image, write_image
from augreg.datasets import hearts

pytestmark = [pytest.mark.slow, pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="of the compiler")]

# what commands compile, one line of JSON each; and how many signatures each kernel has
AFTER = """
import gc, json, sys
from solvers.compiling import listening
from augreg.cli import main
from numba.core.registry import CPUDispatcher

names = []
with listening(names.append):
    for arguments in json.loads(sys.argv[1]):
        names.clear()
        assert main(arguments) == 0, arguments
        print(json.dumps([arguments[0], names]), flush=True)
kernels = [d for d in gc.get_objects() if isinstance(d, CPUDispatcher) and hasattr(d._cache, "_base")]
assert len(kernels) > 40
print(json.dumps({f"{d.py_func.__module__}.{d.py_func.__name__}": [str(s) for s in d.signatures] for d in kernels}))
"""
# 2-D and 3-D; floats of two sizes; labels and other values of one, two, four and eight bytes
SEVERAL = {
    "pull_at": 2,
    "spread_at": 2,
    "shown_at": 2,
    "move_at": 2,
    "ends_at": 2,
    "least_at": 2,
    "exponential_at": 2,
    "linear_at": 2,
    "cubic_at": 2,
    "linear_lines": 2,
    "cubic_lines": 2,
    "gathered": 4,
}


def test_after_compile_no_command_compiles_and_kernels_have_few_signatures(tmp_path):
    data, paths, labels = hearts(), [], []
    for number in range(0, 10, 2):
        image = data.images[number]
        paths.append(str(tmp_path / f"{data.names[number]}.nii.gz"))
        labels.append(str(tmp_path / f"{data.names[number]}_lv.nii.gz"))
        write_image(image, paths[-1])
        write_image(Image(data.labels[number].values, image.grid), labels[-1])
    field, model = str(tmp_path / "field.h5"), str(tmp_path / "model.npz")
    commands = [
        ["compile", "--json"],
        ["register", *paths[:2], "-o", str(tmp_path / "affine.h5"), "--transform", "affine"],
        ["register", *paths[:2], "-o", field, "--warped", str(tmp_path / "warped.nii.gz")],
        ["register", *paths[:2], "-o", field, "--fixed-labels", labels[0], "--moving-labels", labels[1]],
        ["register", *paths[:2], "-o", field, "--criterion", "mi"],
        ["register", *paths[:2], "-o", field, "--dense"],
        ["warp", labels[1], "--labels", "-t", field, "-r", paths[0], "-o", str(tmp_path / "moved.nii.gz")],
        ["transform", "invert", field, "-r", paths[0], "-o", str(tmp_path / "inverse.nii.gz")],
        ["transform", "jacobian", field, "-r", paths[0], "-o", str(tmp_path / "jacobian.nii.gz")],
        ["sam", "fit", *paths, "--labels", *labels, "--levels", "1", "-o", model],
        ["synthesize", model, "-n", "2", "-o", str(tmp_path / "pairs")],
        ["train", model, "--steps", "1", "-o", str(tmp_path / "run")],
    ]
    done = subprocess.run(
        [sys.executable, "-c", AFTER, json.dumps(commands)], capture_output=True, encoding="utf-8", timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("[", "{"))]
    compiled = [line for line in lines if isinstance(line, list)][1:]
    assert len(compiled) == len(commands) - 1
    assert all(not names for _, names in compiled), compiled
    many = {name: kinds for name, kinds in lines[-1].items() if len(kinds) > SEVERAL.get(name.rpartition(".")[2], 1)}
    assert not many
