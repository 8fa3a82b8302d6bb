"""The experiments with agents: cases whose truth is known, lessons that are the same for all, and their tables."""

import numpy as np
import pytest
import torch
from support import realdata
from support.agents import grids, places

from augreg import Affine, LPRegistration
from augreg.agents import Known, Lesson, Offsets, PosePairs, QNet, View
from augreg.networks.warping import warped
from benchmarks.agent import brains, prostates, table
from benchmarks.agent.taught import as_pairs, flow_left
from benchmarks.experiments import glands

ABOUT = {
    "machine": {"processor": "X", "cores": 2, "system": "Linux", "python": "3.11"},
    "threads": 1,
    "versions": {"numpy": "2"},
    "date": "2026-01-01",
}


@pytest.mark.parametrize("ndim", [2, 3])
def test_maps_learn_from_the_states_that_agents_see(ndim):
    view = {2: View((16, 18), (4.5, 4.0), 25.0), 3: View((12, 12, 10), (6.0, 5.0, 6.0), 22.0)}[ndim]
    grid = grids(ndim)[1]
    image = places(grid)
    network = QNet(view, channels=ndim)
    network.prepared = lambda images, moving: images
    pairs = PosePairs.of([Known(image, image, Affine.identity(ndim), grid.points().reshape(-1, ndim)[::50])], network)
    states = Lesson(Offsets(6.0, 10.0))
    batch = as_pairs(pairs, states, network, 8, 0)(5)
    # images of places: what the flow leads to is what is seen
    seen = warped(batch.moving, batch.flow)
    inner = (slice(None), slice(None), *[slice(4, -4)] * ndim)
    assert seen[inner].numpy() == pytest.approx(batch.fixed[inner].numpy(), abs=0.05)
    assert batch.flow.abs().max() > 0.5
    still = flow_left(view, torch.eye(ndim + 1, dtype=torch.float64)[None])
    assert not still.any()


def test_cases_of_brains_show_the_person_where_the_truth_says():
    realdata.path("brain2d")
    training, test = brains.people(choosing=False)
    assert len(test) == brains.CASES
    assert not {one.person for one in training} & {one.person for one in test}
    pair = brains.case(test[3], 3)
    back = pair.truth(pair.points)
    assert pair.moving.grid.contains(back).all()
    angle = np.rad2deg(np.arctan2(pair.truth.matrix[1, 0], pair.truth.matrix[0, 0]))
    assert abs(angle) <= 45
    found = LPRegistration(transform="rigid", criterion="mi", rotation=45.0)(pair.fixed, pair.moving)
    assert np.linalg.norm(found(pair.points) - back, axis=1).mean() < 0.2
    chosen, tested = brains.people(choosing=True)
    assert not {one.person for one in [*chosen, *tested]} & set(brains.TEST_BRAINS)


def test_starts_of_prostates_are_as_far_off_as_they_may_be():
    realdata.path("prostate")
    study = glands.read_glands()
    scans = study.training[:3]
    for scan, pair in zip(scans, prostates.known(scans), strict=True):
        assert glands.measured(scan, pair.truth)["centroid"] < 1e-6
        for start in prostates.starts(scan, pair.truth):
            off = np.linalg.norm(start(scan.fixed.grid.center) - pair.truth(scan.fixed.grid.center))
            assert off <= 20
            angle = np.rad2deg(np.arccos((np.trace(pair.truth.matrix.T @ start.matrix) - 1) / 2))
            assert angle <= 20 + 1e-6


def test_tables_say_how_often_and_how_near():
    gland = {"subject": "prostates", "method": "agent-alone", "points": 3.0, "dice": 0.8, "tre": 6.0, "cpu_ms": 100.0}
    rows = [{**gland, "centroid": 2.0, "moves": 7}, {**gland, "centroid": 6.0, "moves": 9}]
    rows.append({"subject": "brains", "method": "program", "error": 0.021, "cpu_ms": 56.0})
    trained = [{"subject": "prostates", "method": "agent-alone", "cpu_seconds": 90}]
    text = table.rendered({**ABOUT, "rows": rows, "trainings": trained})
    assert "| agent, gains, marks alone | 50 % | 4.0 | 3.0 | 0.800 | 6.0 | 8, 9 | 100 | 1.5 |" in text
    assert "| 1 of 1 | 0.021 | 0.02 |  | 56 |  |" in text
