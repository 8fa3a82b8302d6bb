"""Two processes that train one network, started by torchrun, are one process with the whole batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.flows import pairs

from augreg.networks.files import read_tensors
from augreg.synthesis import PairBatch
from augreg.training import WEIGHTS, Machine, TrainingOptions, pairs_from_memory, seeded_network, train

OPTIONS = TrainingOptions(steps=8, learning_rate=1e-3, look_every=3, machine=Machine("cpu", threads=1))
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from training.test_training_team import *
from augreg.training import joined
with joined("cpu") as team:
    for state in lesson(sys.argv[2], team.part(4), team=team):
        if team.rank == 0:
            print(json.dumps([state.loss, state.epe, state.epe_held_out]), flush=True)
"""


def lesson(folder, part, **how):
    pool = PairBatch.concatenate([pairs(step) for step in range(3)])
    batches = pairs_from_memory(pool, 4, part=part)
    return train(seeded_network(0, 2, 0.03), batches, (1.0, 1.0), folder, OPTIONS, held_out=pairs(99), **how)


def torchrun(folder, processes, *command):
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=120)


def test_two_processes_have_the_losses_and_weights_of_one_with_the_whole_batch(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    two = torchrun(tmp_path, 2, "script.py", str(Path(__file__).parents[1]), str(tmp_path / "two"))
    assert two.returncode == 0, two.stderr
    theirs = [json.loads(line) for line in two.stdout.splitlines() if line.startswith("[")]
    one = [[state.loss, state.epe, state.epe_held_out] for state in lesson(tmp_path / "one", slice(None))]
    assert len(theirs) == len(one) == OPTIONS.steps
    # sums over half batches round differently in float32 (1e-7); eight steps of Adam, which divides by small numbers, add to it
    torch.testing.assert_close(torch.tensor(theirs), torch.tensor(one), rtol=1e-3, atol=1e-5, equal_nan=True)
    assert one[0][0] != pytest.approx(one[-1][0], rel=0.01)
    ours, other = (read_tensors(tmp_path / name / WEIGHTS, "augreg network")[0] for name in ("one", "two"))
    first = seeded_network(0, 2, 0.03).state_dict()
    for name, tensor in ours.items():
        moved = (tensor - first[name]).norm()
        assert (tensor - other[name]).norm() <= 0.02 * moved + 1e-6
