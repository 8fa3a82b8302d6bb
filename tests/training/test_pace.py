"""How long a training takes is measured without changing it."""

import copy
import time

import pytest
import torch

from augreg.recipes.shapes import network_as
from augreg.synthesis import PairBatch
from augreg.training import FlowLearner, Likeness, Machine, Pace, TrainingOptions, pace_of


def test_the_pace_is_that_of_steps_and_the_network_stays():
    asked = []

    def batch_of(step):
        asked.append(step)
        time.sleep(1.0 if step == 0 else 0.2)
        return PairBatch.without_truth(*torch.rand(2, 1, 1, 16, 16, generator=torch.Generator().manual_seed(step)))

    network = network_as("displacement", "UNet", (1,), 2, 0.125)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.random.get_rng_state()
    learner = FlowLearner(copy.deepcopy(network), batch_of, (1.0, 1.0), objective=Likeness())
    pace = pace_of(learner, TrainingOptions(machine=Machine("cpu", threads=1)))
    assert asked == list(range(len(asked)))
    # the first step, which is slower, does not count
    assert 0.2 <= pace.seconds < 0.45
    assert pace.memory > 1 << 20
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(random, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("seconds", "steps", "said"), [(0.5, 20, "about 10 seconds, 2.0 GiB"), (0.5, 1200, "about 10 minutes"), (18, 1200, "6 hours")]
)
def test_how_long_is_said_in_units_that_people_use(seconds, steps, said):
    assert said in Pace(seconds, 2**31, "cpu").said(steps)


def test_so_many_steps_fit():
    assert Pace(0.5, 0.0, "cpu").steps(10) == 1200
    assert Pace(90.0, 0.0, "cpu").steps(1) == 1
