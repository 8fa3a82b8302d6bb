"""What the README and the page of the cluster show runs as it stands, on real images."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.subjects import model

import augreg as ar

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "docs" / "how-to" / "files.md", ROOT / "docs" / "how-to" / "cluster.md"]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def block(language: str, containing: str) -> str:
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL) if containing in text]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def folder(tmp_path):
    """The files that the README's commands take, made as it says."""
    subprocess.run([sys.executable, "-c", block("python", "landmarks.csv")], cwd=tmp_path, check=True)
    return tmp_path


def test_ten_lines_of_python(folder):
    code = block("python", "LPRegistration")
    assert len([line for line in code.splitlines() if line]) <= 10
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    assert ar.read_image(folder / "moved.png").grid == ar.read_image(folder / "fixed.png").grid
    assert ar.read_model(folder / "model.npz").template.shape == (256, 256)


@pytest.mark.slow
def test_ten_lines_of_shell(folder):
    lines = block("sh", "augreg register").splitlines()
    assert len(lines) == 10
    script = f'augreg() {{ "{sys.executable}" -m augreg "$@"; }}\nset -e\n' + "\n".join(lines)
    subprocess.run(["bash", "-c", script], cwd=folder, check=True, env=os.environ)
    assert json.loads((folder / "result.json").read_text(encoding="utf-8"))["folding"] == 0
    assert json.loads((folder / "measures.json").read_text(encoding="utf-8"))["folding"] == 0
    forward, backward = (ar.read_transform(folder / name) for name in ("elastic.h5", "inverse.nii.gz"))
    points = ar.read_points(folder / "landmarks.csv")
    np.testing.assert_allclose(ar.read_points(folder / "mapped.csv"), forward(points), atol=1e-6)
    np.testing.assert_allclose(backward(forward(points)), points, atol=0.05)
    assert ar.read_transform(folder / "learned.nii.gz")(points).shape == points.shape


# stand-ins for SLURM: a job is a process of this machine
SBATCH = """#!/bin/sh
here=$(dirname "$0")
cp "$1" "$here/job.sh"
setsid bash "$here/job.sh" > "$here/log" 2>&1 &
echo $! > "$here/job"
echo Submitted batch job 1
"""
SCANCEL = """#!/bin/sh
kill -- "-$(cat "$(dirname "$0")/job")"
"""


@pytest.mark.slow
def test_the_cookbook_at_the_scale_of_six_pairs(tmp_path):
    ar.write_model(model(), tmp_path / "model.npz")
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(script, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    code = block("python", "SLURMCluster").replace("1_000_000", "6").replace("cores=16, processes=16", "cores=1, processes=1")
    code = code.replace("jobs=4", "jobs=1")
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        timeout=120,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert run.stdout.startswith("6 of 6")
    assert (tmp_path / "pairs" / "pairs-000000.tar").exists()
    subprocess.run([sys.executable, "-c", block("python", "PairStream")], cwd=tmp_path, check=True)


def test_the_map_of_folders_is_complete():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text[text.index("## Where things are") :]
    for part in (ROOT / "augreg").iterdir():
        known = part.name in ("data", "cli", "report") or part.name.startswith(("_", "py.typed"))
        assert known or part.name in table, part.name


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []
