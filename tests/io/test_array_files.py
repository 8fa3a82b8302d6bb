"""Models, weights and shards that were damaged or made up are refused in one line, at little cost; nothing is unpickled."""

import io
import json
import os
import resource
import stat
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import safetensors.torch
import torch
from support.files import Bomb
from support.subjects import model

from augreg import read_model, write_model
from augreg.io import read_arrays, write_arrays
from augreg.networks import FlowNetS, read_network, write_network
from augreg.synthesis import AppearancePairs, read_shards, write_shards

HEAD = "{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def declared(shape, descr="<f8"):
    """The header of an array without the array."""
    text = HEAD.format(descr=descr, shape=shape).ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path, parts):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "m.npz"
    write_model(model(), path)
    return path


def refused(read, path):
    with pytest.raises(ValueError, match=path.name) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_archives_that_lie_are_refused_at_little_cost(model_file, tmp_path):
    parts, path = members(model_file), tmp_path / "m.npz"
    whole = model_file.read_bytes()
    about = json.loads(str(np.load(io.BytesIO(parts["description.json.npy"]))))
    cases = {
        "7 TB": {"gains.npy": declared("(1000000000000,)")},
        "negative": {"gains.npy": declared("(-1,)")},
        "deep JSON": {"description.json.npy": npy(np.array("[" * 100000))},
        "no JSON": {"description.json.npy": npy(np.array("{"))},
        "another version of .npy": {"gains.npy": b"\x93NUMPY\x09\x00" + bytes(100)},
        "a short array": {"gains.npy": parts["gains.npy"][:-3]},
        "a template of 10^12 pixels": {
            "description.json.npy": npy(
                np.array(json.dumps({**about, "template": {**about["template"], "shape": [10**6, 10**6]}}))
            )
        },
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for changed in cases.values():
        refused(read_model, zipped(path, {**parts, **changed}))
    for at, value, central in ((6, 1, 8), (8, 99, 10)):  # encrypted; a compression that is not known
        damaged = bytearray(whole)
        damaged[at] = damaged[damaged.find(b"PK\1\2") + central] = value
        path.write_bytes(damaged)
        refused(read_model, path)
    with (
        zipfile.ZipFile(zipped(path, parts), "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("extra.npy", "w", force_zip64=True) as file,
    ):
        file.write(declared("(67108864,)"))
        for _ in range(32):
            file.write(bytes(1 << 24))
    # an array that nobody asks for is not read, though it would be 512 MB
    np.testing.assert_array_equal(read_model(path).gains, model().gains)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def outcome(path):
    """The model, or why it was refused."""
    try:
        return read_model(path), ""
    except ValueError as error:
        return None, str(error)


def test_any_changed_byte_of_a_model_is_told_or_harmless(model_file, tmp_path):
    whole, path = model_file.read_bytes(), tmp_path / "m.npz"
    expected = model()
    for at in np.random.default_rng(0).integers(0, len(whole), 60):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        read, said = outcome(path)
        if read is None:
            assert "\n" not in said
            continue
        np.testing.assert_array_equal(read.textures, expected.textures)
        np.testing.assert_array_equal(read.shape.basis, expected.shape.basis)


def test_models_whose_parts_do_not_fit_are_refused(model_file, tmp_path):
    arrays, about = read_arrays(model_file, "appearance model")
    nan = np.full_like(arrays["appearance_variance"], np.nan)
    cases = {
        "gains": {"gains": np.array(["a"])},
        "label_maps": {"label_maps": np.zeros((1, 3), "u1")},
        "poses": {"poses": np.zeros(1)},
        "appearance_variance": {"appearance_variance": nan},
        "textures": {"textures": np.float64(3)},
        "shape_mean": {"shape_mean": arrays["shape_mean"][:-1]},
        "shape_variance": {"shape_variance": -arrays["shape_variance"]},
        "shape_basis": {"shape_basis": 1000 * arrays["shape_basis"]},
        "residuals": {"residuals": arrays["residuals"][:, :-1]},
    }
    path = tmp_path / "m.npz"
    for name, changed in cases.items():
        write_arrays(path, {**arrays, **changed}, about)
        with pytest.raises(ValueError, match=r"m\.npz") as caught:
            read_model(path)
        assert "\n" not in str(caught.value), name
    template = about["template"]
    for changed in (
        {"intensities": [1]},
        {"intensities": [2.0, 1.0]},
        {"intensities": [float("nan"), 1.0]},
        {"template": {**template, "spacing": [float("nan")] * 2}},
        {"template": {**template, "spacing": [0.0, 1.0]}},
        {"template": {**template, "shape": [5, 5]}},
        {"template": None},
        {"locality": {}},
        {"maps": []},
    ):
        write_arrays(path, arrays, {**about, **changed})
        refused(read_model, path)


def test_pickles_in_an_archive_are_not_opened(model_file, tmp_path):
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb(tmp_path / "exploded")
    buffer = io.BytesIO()
    np.save(buffer, bomb, allow_pickle=True)
    for name in ("gains.npy", "description.json.npy"):
        refused(read_model, zipped(tmp_path / "m.npz", {**members(model_file), name: buffer.getvalue()}))
    assert not (tmp_path / "exploded").exists()


def network():
    torch.manual_seed(0)
    return FlowNetS(2, width=1 / 16)


def test_equal_networks_are_equal_bytes_with_the_mode_of_other_files(tmp_path):
    mask = os.umask(0o027)
    try:
        for name in "abcd":
            write_network(network(), (1.0, 2.0), tmp_path / f"{name}.safetensors")
    finally:
        os.umask(mask)
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 1
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o640
    theirs = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(theirs[name], tensor) for name, tensor in network().state_dict().items())


def test_any_changed_byte_of_weights_is_told(tmp_path):
    path = tmp_path / "w.safetensors"
    write_network(network(), (1.0, 2.0), path)
    whole = path.read_bytes()
    for at in [*range(0, 400, 23), *np.random.default_rng(0).integers(400, len(whole), 40)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 2]) + whole[at + 1 :])
        refused(read_network, path)


def unsealed(path, tensors, **about):
    """Weights without a checksum, as before."""
    described = {**network().description, "spacing": [1.0, 2.0], **about}
    metadata = {"kind": "augreg network", "about": json.dumps(described)}
    safetensors.torch.save_file(tensors, path, metadata=metadata)


def test_weights_that_do_not_fit_their_description_are_refused(tmp_path):
    path, state = tmp_path / "w.safetensors", network().state_dict()
    unsealed(path, state)
    assert read_network(path).spacing == (1.0, 2.0)
    name = "encoder.stages.0.0.weight" if "encoder.stages.0.0.weight" in state else next(iter(state))
    nan = state[name].clone()
    nan.view(-1)[0] = torch.nan
    for changed in ({name: nan}, {name: state[name].to(torch.int32)}, {name: state[name][:1].clone()}, {"more": torch.zeros(2)}):
        unsealed(path, {**state, **changed})
        refused(read_network, path)
    unsealed(path, {key: tensor for key, tensor in state.items() if key != name})
    refused(read_network, path)
    for about in (
        {"width": 1e6},
        {"ndim": 3},
        {"ndim": "2"},
        {"channels": 10**9},
        {"spacing": [0.0, 1.0]},
        {"spacing": [float("nan"), 1.0]},
        {"spacing": [1.0]},
        {"spacing": None},
        {"architecture": ["FlowNetS"]},
    ):
        unsealed(path, state, **about)
        refused(read_network, path)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    list(write_shards(AppearancePairs(model()), folder, 1))
    return folder


def rewritten(shards, folder, change):
    """The shard with other entries, its checksum renewed; `change` takes and gives (name, content, type)."""
    folder.mkdir()
    (folder / "dataset.json").write_bytes((shards / "dataset.json").read_bytes())
    with tarfile.open(shards / "pairs-000000.tar") as tar:
        entries = [(entry.name, tar.extractfile(entry).read(), tarfile.REGTYPE) for entry in tar.getmembers()]
    *arrays, (name, last, _) = [change(*entry) for entry in entries]
    about = json.loads(last)
    del about["crc32"]
    crc = zlib.crc32(json.dumps(about, sort_keys=True).encode())
    for _, content, _ in arrays:
        crc = zlib.crc32(content, crc)
    with tarfile.open(folder / "pairs-000000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name_, content, kind in [*arrays, (name, json.dumps({**about, "crc32": crc}).encode(), tarfile.REGTYPE)]:
            entry = tarfile.TarInfo(name_)
            entry.size, entry.type, entry.linkname = (len(content) if kind == tarfile.REGTYPE else 0), kind, "nowhere"
            tar.addfile(entry, io.BytesIO(content))
    return folder


def test_shards_that_were_made_up_are_left_out_and_write_nothing(shards, tmp_path):
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb(tmp_path / "exploded")
    buffer = io.BytesIO()
    np.save(buffer, bomb, allow_pickle=True)
    pickled = buffer.getvalue()

    def at(part, content=None, name=None, kind=None):
        def change(name_, content_, kind_):
            if f".{part}." not in name_:
                return name_, content_, kind_
            return name or name_, content_ if content is None else content, kind or kind_

        return change

    same = rewritten(shards, tmp_path / "same", lambda *entry: entry)
    assert len(next(read_shards(same)).fixed) == 1
    changes = {
        "pickle": at("mask", pickled),
        "traversal": at("mask", name="../../outside"),
        "absolute": at("mask", name=str(tmp_path / "outside")),
        "link": at("mask", kind=tarfile.SYMTYPE),
        "hard link": at("mask", kind=tarfile.LNKTYPE),
        "7 TB": at("fixed", declared("(1000000000000,)", "<f4")),
        "another shape": at("fixed", npy(np.zeros((3, 4), np.float32))),
        "no array": at("fixed", b"abc"),
        "renamed": at("reverse", name="000000000.something.npy"),
    }
    for name, change in changes.items():
        folder = rewritten(shards, tmp_path / name, change)
        with pytest.warns(UserWarning, match="1 of 1 pairs are left out") as warned:
            assert list(read_shards(folder)) == []
        assert "\n" not in str(warned[0].message)
        assert sorted(os.listdir(folder)) == ["dataset.json", "pairs-000000.tar"]
    assert not (tmp_path / "exploded").exists()
    assert not (tmp_path / "outside").exists()


def test_a_data_set_is_not_cleaned_while_another_process_writes_it(tmp_path):
    first = write_shards(AppearancePairs(model()), tmp_path, 4, shard_size=2)
    next(first)
    other = tmp_path / ".1@elsewhere.partial.pairs-000001.tar"
    other.write_bytes(b"half")
    list(write_shards(AppearancePairs(model()), tmp_path, 4, shard_size=2))
    assert other.exists()
    list(first)
    assert not other.exists()
