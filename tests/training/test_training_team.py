"""Two processes that learn together, started by torchrun, are one process with the whole batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from support.flows import pairs
from support.learners import Agent, TwoPlayers

from augreg.networks import Critic, seeded
from augreg.networks.files import read_tensors
from augreg.synthesis import PairBatch
from augreg.training import (
    ALONE,
    CHECKPOINT,
    Alignment,
    FlowLearner,
    JudgedLearner,
    Machine,
    TrainingOptions,
    learn,
    pairs_from_memory,
    seeded_network,
)
from augreg.training.checkpoints import named_state

OPTIONS = TrainingOptions(steps=8, learning_rate=1e-3, look_every=3, machine=Machine("cpu", threads=1))
SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from training.test_training_team import *
from augreg.training import joined
with joined("cpu") as team:
    for name, make in LEARNERS.items():
        for state in learn(make(team), Path(sys.argv[2], name), OPTIONS, team=team):
            if team.rank == 0:
                print(json.dumps([name, state.numbers]), flush=True)
"""


def flows(team):
    pool = PairBatch.concatenate([pairs(step) for step in range(3)])
    return FlowLearner(seeded_network(0, 2, 0.03), pairs_from_memory(pool, 4, part=team.part(4)), (1.0, 1.0), held_out=pairs(99))


def judged(team):
    pool = PairBatch.concatenate([pairs(step) for step in range(3)])
    shown, real = (pairs_from_memory(pool, 4, seed, part=team.part(4)) for seed in (0, 1))
    critic = seeded(0, lambda: Critic(2, 2, 0.05))
    settings = {"sees": Alignment(real), "weight": 0.1, "warm_up": 4}
    return JudgedLearner(seeded_network(0, 2, 0.03), critic, shown, (1.0, 1.0), **settings)


LEARNERS = {"flows": flows, "judged": judged, "two players": lambda team: TwoPlayers(), "agent": lambda team: Agent()}


def torchrun(folder, processes, *command):
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=120)


def test_two_processes_have_the_numbers_and_the_state_of_one_with_the_whole_batch(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    run = torchrun(tmp_path, 2, "script.py", str(Path(__file__).parents[1]), str(tmp_path))
    assert run.returncode == 0, run.stderr
    told = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[")]
    for name, make in LEARNERS.items():
        alone, theirs = make(ALONE), [numbers for who, numbers in told if who == name]
        first = {key: tensor.clone() for key, tensor in named_state(alone).items()}
        ours = [dict(state.numbers) for state in learn(alone, tmp_path / "one" / name, OPTIONS)]
        assert [numbers.keys() for numbers in theirs] == [numbers.keys() for numbers in ours]
        # sums over half batches round differently in float32 (1e-7); eight steps of Adam, which divides by small numbers, add
        two, one = (torch.tensor([number for numbers in rows for number in numbers.values()]) for rows in (theirs, ours))
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
        other, _ = read_tensors(tmp_path / name / CHECKPOINT, "augreg checkpoint")
        state = named_state(alone)
        assert other.keys() == state.keys()
        moved = {key: (tensor - first.get(key, 0 * tensor)).float().norm() for key, tensor in state.items()}
        assert max(moved[key] for key in first) > 1e-3
        for key, tensor in state.items():
            assert (tensor - other[key]).float().norm() <= 0.02 * moved[key] + 1e-6, (name, key)
