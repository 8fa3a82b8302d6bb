"""The command for a graphics card: it needs no more than such a machine has, and measures what it says."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from support import subjects

from augreg import Chained, DisplacementField, Grid, Image, Labels, write_model
from augreg.synthesis import AppearancePairs, PairBatch, SmoothField, make_pairs
from augreg.training import FlowRegistration, seeded_network
from benchmarks.card import learning
from benchmarks.card.ahead import DrawnAhead
from benchmarks.card.overlap import overlap, registered
from benchmarks.card.pack_files import People, write_people
from benchmarks.card.parts import OutOfTime, Part, hard_stop, run_parts, tried
from benchmarks.experiments.measures import measured
from benchmarks.experiments.people import Pair, Subject
from benchmarks.harness.record import read_record

ROOT = Path(__file__).resolve().parents[1]
ABSENT = ("SimpleITK", "highspy", "nibabel", "pydicom", "imagecodecs", "matplotlib", "nilearn", "pooch", "requests", "monai")
SETTINGS = {"appearance": "shared", "amplitude": 1.0, "pose": 1.0, "rest": [[24.0, 2.0]], "intensity": 0.05}


def packed(folder):
    """Simulated people in the place of real ones."""
    people = {}
    for name, ndim in (("z08", 2), ("z20", 2), ("volumes", 3)):
        images, labels, _ = subjects.people(ndim)
        values = [np.stack([one.values for one in many]) for many in (images, labels)]
        people[name] = People(values[0].astype(np.int16), values[1].astype(np.int16), np.arange(8) >= 6)
    write_people(folder, people, {**SETTINGS, "likeness": 10.0, "smoothness": 0.5, "refining": 2})
    write_model(subjects.model("landmarks"), folder / "slices-model.npz")
    write_model(subjects.model("landmarks3d"), folder / "volumes-model.npz")


def rows_of(value):
    """All dictionaries somewhere in a record."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from rows_of(part)


@pytest.mark.slow
def test_the_whole_command_runs_where_readers_and_solvers_are_absent(tmp_path):
    packed(tmp_path)
    # every process of the command, the workers too
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nsys.modules |= dict.fromkeys({ABSENT!r})\n"
        "import augreg, augreg.synthesis, augreg.networks, augreg.training, benchmarks.card\n",
        encoding="utf-8",
    )
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "run",
        "card",
        "--data",
        tmp_path,
        "--output",
        tmp_path / "out",
        "--minutes",
        "4",
    ]
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    ran = subprocess.run(
        [*map(str, command), "--device", "cpu", "--tiny"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    record = read_record(tmp_path / "out" / "card.json")
    assert list(record["parts"]) == ["networks", "inference", "pairs", "rendering", "slices", "volumes"]
    assert [row["error"] for row in rows_of(record) if "error" in row] == []
    for row in record["parts"]["rendering"]["rows"]:
        assert row["images, share of the range"] < 1e-4
        assert max(row["flow, voxels"], row["reverse, voxels"]) < 1e-4
    # one process on one device: the same numbers
    assert {row["flow"] for row in record["parts"]["networks"]["rows"]} == {0.0}
    assert record["parts"]["slices"]["tests"]["nothing"]["z08"]["without"]["folding"] == 0
    weights, about = learning.read_pieces(tmp_path / "out")
    assert weights.keys() == seeded_network(0, 2, about["width"]).state_dict().keys()
    assert (tmp_path / "out" / "card.md").read_text(encoding="utf-8").count("\n### ") == 6


def bent(shape, seed):
    """A flow (1, D, *shape) of some voxels, smooth."""
    return torch.nn.functional.interpolate(
        3 * torch.randn(1, len(shape), *[4] * len(shape), generator=torch.Generator().manual_seed(seed)),
        size=shape,
        mode="bicubic",
        align_corners=True,
    )


def test_overlaps_are_those_of_the_experiments():
    images, labels, _ = subjects.people(2)
    grid = Grid(images[0].grid.shape)
    maps = [Labels(one.values, grid) for one in labels[:2]]
    people = [Subject(str(i), "", Image(np.zeros(grid.shape, np.float32), grid), one) for i, one in enumerate(maps)]
    for seed in range(3):
        flow = bent(grid.shape, seed)
        phi = DisplacementField(flow[0].movedim(0, -1).double().numpy(), grid)
        wanted = measured(Pair("people", *people), phi, contours=False)
        found = overlap(maps[0].values, maps[1].values, flow)
        assert 0.2 < wanted["jaccard"] < 0.95
        # places half way between two voxels may be rounded to either
        assert found["jaccard"] == pytest.approx(wanted["jaccard"], abs=3e-3)
        assert found["dice"] == pytest.approx(wanted["dice"], abs=3e-3)


def test_flow_that_folds_is_counted():
    x = torch.arange(40.0)[:, None].expand(40, 30)
    flow = torch.zeros(1, 2, 40, 30)
    # from 10 to 19 the map goes backwards: x + u = 30 - x
    flow[0, 0] = torch.where((x >= 10) & (x < 20), 30 - 2 * x, 0.0)
    share = overlap(np.ones((40, 30), int), np.ones((40, 30), int), flow)["folding"]
    assert 8 / 40 <= share <= 12 / 40


def test_a_network_used_again_sees_what_it_has_left():
    images, _, _ = subjects.people(2)
    grid = Grid((56, 48))
    pair = [Image(np.ascontiguousarray(one.values[2:58]), grid) for one in images[:2]]
    network = seeded_network(3, 2, 1 / 16).eval()
    for head in network.decoder.heads:
        torch.nn.init.normal_(head.weight, std=0.003, generator=torch.Generator().manual_seed(1))
    flow = FlowRegistration(network, (1.0, 1.0))
    tensors = [torch.from_numpy(one.values)[None, None] for one in pair]
    middle = np.s_[8:-8, 8:-8]
    for count, method in ((1, flow), (2, Chained(flow, flow))):
        found = registered([network] * count, *tensors)[0].movedim(0, -1).numpy()[middle]
        wanted = (method(*pair)(grid.points()) - grid.points())[middle]
        assert np.abs(wanted).max() > 0.3
        assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


def test_pairs_drawn_ahead_are_the_same_pairs():
    generator = AppearancePairs(subjects.model("landmarks"), rest=(SmoothField(24.0, (0.0, 2.0)),), amplitude=2.5)
    with DrawnAhead(generator, 3, 7, "cpu", 1, together=2) as drawn:
        for step in (0, 1, 5, 2):
            found, wanted = drawn(step), make_pairs(generator, 7, range(3 * step, 3 * step + 3))
            assert torch.equal(found.flow, wanted.flow)
            assert torch.equal(found.moving, wanted.moving)
            assert torch.equal(found.rejected, wanted.rejected)


def test_weights_in_pieces_are_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "_PIECE", 20_000)
    network = seeded_network(0, 2, 1 / 16)
    names = learning.write_pieces(network, (1.0, 1.0), tmp_path)
    assert len(names) > 3
    assert max((tmp_path / name).stat().st_size for name in names) < 40_000
    found, about = learning.read_pieces(tmp_path)
    assert about["width"] == 1 / 16
    for name, wanted in network.state_dict().items():
        assert torch.equal(found[name], wanted.half())


def test_pairs_without_a_truth_have_an_objective_of_their_own():
    unsure = learning.Unsure(lambda *_: torch.tensor(1.0), lambda *_: torch.tensor(2.0), 10.0)
    image = torch.zeros(2, 1, 8, 8)
    unknown = PairBatch.without_truth(image, image)
    known = make_pairs(AppearancePairs(subjects.model("landmarks")), 0, range(2))
    assert [float(unsure([], batch)) for batch in (known, unknown)] == [1.0, 20.0]


def test_only_training_people_are_learned_from():
    images = np.arange(6, dtype=np.int16)[:, None, None] * np.ones((6, 4, 4), np.int16)
    tested = np.array([False, True, False, False, True, False])
    batches = learning.from_people(People(images, images, tested), 5, "cpu")
    for step in range(20):
        batch = batches(step)
        seen = set(batch.fixed.unique().tolist()) | set(batch.moving.unique().tolist())
        assert seen <= {0.0, 2.0, 3.0, 5.0}
        assert not (batch.fixed == batch.moving).any()


def test_a_part_that_fails_or_takes_too_long_costs_no_other_part(tmp_path):
    kept = []

    def fails(found, end):
        found["rows"] = [1]
        raise RuntimeError("two\nlines")

    def lasts(found, end):
        kept.append(read_record(tmp_path / "card.json")["parts"])
        tried(found.setdefault("rows", []), {"a": 1}, lambda: 1 / 0)
        time.sleep(60)

    def works(found, end):
        kept.append(read_record(tmp_path / "card.json")["parts"])
        found["end"] = end

    parts = [Part("fails", 0.5, fails), Part("lasts", 0.25, lasts), Part("works", 0.25, works)]
    record = {"parts": {}}
    begin = time.monotonic()
    assert run_parts(parts, record, tmp_path / "card.json", begin + 4)
    assert time.monotonic() - begin < 4
    first, second = kept
    assert first["fails"]["error"] == "RuntimeError: two lines"
    assert first["fails"]["rows"] == [1]
    assert second["lasts"]["error"].startswith("OutOfTime")
    assert second["lasts"]["rows"][0]["error"].startswith("ZeroDivisionError")
    # what others have left is for the last
    assert record["parts"]["works"]["end"] == pytest.approx(begin + 4, abs=0.1)


def stopped_after(begin, seconds, within=10.0):
    """Seconds since `begin` at which a stop comes."""
    with pytest.raises(OutOfTime), hard_stop(seconds):
        time.sleep(within)
    return time.monotonic() - begin


def test_stops_in_each_other_keep_their_order():
    begin = time.monotonic()
    inner = []

    def both():
        inner.append(stopped_after(begin, 0.2))
        time.sleep(10)

    with pytest.raises(OutOfTime), hard_stop(1.0):
        both()
    assert 0.2 <= inner[0] < 0.9
    assert 0.9 <= time.monotonic() - begin < 3.0
    with hard_stop(0.2):
        pass
    time.sleep(0.3)


def test_rates_and_steps_of_a_stage_follow_from_its_time(monkeypatch):
    calls = []

    def slow(step):
        calls.append(step)
        time.sleep(0.02)
        image = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(step))
        return PairBatch.without_truth(image, image)

    from augreg.training import Likeness
    from benchmarks.card.sizes import FULL

    network = seeded_network(0, 2, 1 / 32)
    end = time.monotonic() + 6
    found = learning.stage(network, slow, Likeness(), 1e-3, FULL, "cpu", end, start=100)
    assert abs(time.monotonic() - end) < 4
    assert calls[0] == 100
    assert all(b == a + 1 for a, b in pairwise(calls[:20]))
    assert 0 < found["waiting"] < 1
    assert found["steps_per_second"] < 50


def test_the_curve_of_a_stage_has_a_truth_where_there_is_one():
    from augreg.training import Likeness
    from benchmarks.card.sizes import FULL

    known = make_pairs(AppearancePairs(subjects.model("landmarks")), 0, range(2))
    unknown = PairBatch.without_truth(known.fixed, known.moving)
    both = learning.Unsure(Likeness(), Likeness(), 1.0)
    sizes = replace(FULL, steps=61, batch=2)
    batches = learning.in_turns(lambda _: known, lambda _: unknown)
    curve = learning.stage(seeded_network(0, 2, 1 / 32), batches, both, 1e-3, sizes, "cpu", time.monotonic() + 60)["curve"]
    assert len(curve) > 10
    errors = [row["epe"] for row in curve]
    assert None in errors
    assert any(error is not None and error > 0 for error in errors)
    # no NaN, which only Python reads
    json.dumps(curve, allow_nan=False)
