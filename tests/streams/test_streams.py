import shutil
from collections import Counter
from dataclasses import replace

import pytest
import torch
from support.subjects import model
from torch.utils.data import DataLoader

from augreg.synthesis import AppearancePairs, PairStream, ShardStream, make_pairs, read_shards, write_shards

SEED, COUNT = 3, 11


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    list(write_shards(AppearancePairs(model()), folder, COUNT, seed=SEED, shard_size=4))
    return folder


@pytest.fixture(params=["generator", "shards"])
def stream(request, folder):
    """A function of ranks that gives a stream of the same eleven pairs."""
    if request.param == "shards":
        return lambda ranks=None: ShardStream(folder, ranks=ranks)
    return lambda ranks=None: PairStream(AppearancePairs(model()), SEED, COUNT, together=2, ranks=ranks)


def loaded(dataset, workers, **options):
    """Batches of a DataLoader; the index of each pair with its values."""
    context = "spawn" if workers else None
    loader = DataLoader(dataset, batch_size=3, num_workers=workers, multiprocessing_context=context, **options)
    items = {}
    for batch in loader:
        assert batch["fixed"].shape[1:] == (1, *model().template.shape)
        for i, index in enumerate(batch.pop("index").tolist()):
            assert index not in items
            items[index] = {name: part[i] for name, part in batch.items()}
    return items


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_every_pair_comes_once_and_is_the_same_whoever_makes_it(stream, workers):
    items = loaded(stream(), workers)
    assert sorted(items) == list(range(COUNT))
    expected = make_pairs(AppearancePairs(model()), SEED, range(COUNT))
    assert {"reverse", "reverse_mask"} < expected.parts.keys()
    for name, part in expected.parts.items():
        for index, item in items.items():
            assert item[name].dtype == part.dtype
            assert torch.allclose(item[name].double(), part[index].double(), atol=1e-3)


@pytest.mark.parametrize("size", [2, 3, 12])
def test_ranks_share_the_pairs_evenly(stream, size):
    shares = [[int(item["index"]) for item in stream((rank, size))] for rank in range(size)]
    assert Counter(index for share in shares for index in share) == Counter(range(COUNT))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == [len(stream((rank, size))) for rank in range(size)]


def test_ranks_are_those_of_the_launcher_or_of_torch_also_in_workers(stream, monkeypatch, tmp_path):
    whole = stream()
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        expected = sorted(int(item["index"]) for item in stream((rank, 2)))
        assert sorted(int(item["index"]) for item in whole) == expected
    monkeypatch.delenv("RANK")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        # a group of one, and an environment that says otherwise: the group counts, though workers do not know of it
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
        assert sorted(loaded(whole, 1)) == expected
    finally:
        torch.distributed.destroy_process_group()


def test_a_stream_without_end_goes_on_from_its_start():
    generator = AppearancePairs(model())
    stream = PairStream(generator, SEED, start=7, together=2, ranks=(1, 3))
    with pytest.raises(TypeError, match="no end"):
        len(stream)
    items = [item for item, _ in zip(stream, range(5), strict=False)]
    assert [int(item["index"]) for item in items] == [8, 11, 14, 17, 20]
    assert torch.allclose(items[0]["flow"], make_pairs(generator, SEED, [8]).flow[0], atol=1e-3)
    # the same in each epoch, and fresh ones from another start
    assert torch.equal(next(iter(stream))["flow"], items[0]["flow"])


def test_damaged_shards_are_left_out_with_a_warning(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "pairs")
    path = tmp_path / "pairs" / "pairs-000001.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(UserWarning, match="of 4 pairs are left out"):
        indices = [int(item["index"]) for item in ShardStream(tmp_path / "pairs")]
    # its first pairs, before the damage, are there
    assert set(range(COUNT)) - set(indices) in ({6, 7}, {5, 6, 7})
    # a share that ends before the damage does not see it
    assert [int(item["index"]) for item in ShardStream(tmp_path / "pairs", ranks=(0, 3))] == [0, 1, 2]
    assert sum(len(batch) for batch in read_shards(folder)) == COUNT


@pytest.mark.parametrize("wrong", [{"count": 0}, {"start": -1}, {"together": 0}, {"ranks": (2, 2)}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PairStream(AppearancePairs(model()), **wrong)


@pytest.mark.parametrize("kind", ["generator", "shards"])
def test_items_have_the_parts_that_are_named(kind, folder):
    wanted = ("fixed", "moving", "flow", "mask")
    plain = PairStream(AppearancePairs(model()), SEED, COUNT) if kind == "generator" else ShardStream(folder)
    some, whole = (next(iter(replace(plain, parts=parts))) for parts in (wanted, None))
    assert some.keys() == {*wanted, "index"}
    assert {"reverse", "moving_labels"} < whole.keys()
    for name in wanted:
        assert torch.equal(some[name], whole[name])
    with pytest.raises(ValueError, match=r"parts: expected some of fixed, moving, flow, .*, got ddf"):
        next(iter(replace(plain, parts=("ddf",))))
