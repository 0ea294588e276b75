"""The draws and the checkpoints of a run: what is read is what was written, and runs no code."""

import json
import pickle
import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from bnnzoo import store
from bnnzoo.errors import CorruptRunError, StorageError
from bnnzoo.store import _tree


def names(path):
    return sorted(p.name for p in path.iterdir())


def chunk(path):
    return path / "draws.zarr" / "posterior" / "noise" / "c.0.0"


@contextmanager
def files_limited_to(size):
    """A limit that the kernel enforces: writing beyond it fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_tree_comes_back_identical(run, make_tree):
    again = store.read_tree(run)
    xr.testing.assert_identical(again.load(), make_tree())
    for group in make_tree().subtree:
        for name, variable in group.to_dataset(inherit=False).variables.items():
            assert again[group.path].variables[name].dtype.kind == variable.dtype.kind


def test_a_tree_that_was_read_can_be_written_elsewhere(run, tmp_path, make_tree):
    store.write_tree(tmp_path, store.read_tree(run))
    store.write_manifest(tmp_path, {"files": store.file_hashes(tmp_path)})
    xr.testing.assert_identical(store.read_tree(tmp_path).load(), make_tree())


def test_large_arrays_are_cut_along_the_first_axes(run, monkeypatch, make_tree):
    monkeypatch.setattr(_tree, "CHUNK_BYTES", 80)
    store.write_tree(run, make_tree())
    store.write_manifest(run, {"files": store.file_hashes(run)})
    kernel = run / "draws.zarr" / "posterior" / "layers.0.kernel"
    assert sorted(p.name for p in kernel.glob("c.*")) == [
        "c.0.0.0",
        "c.0.1.0",
        "c.1.0.0",
        "c.1.1.0",
    ]
    xr.testing.assert_identical(store.read_tree(run).load(), make_tree())


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((), ()),
        ((0,), (1,)),
        ((4, 500, 601), (4, 500, 601)),
        ((4, 2000, 601), (1, 2000, 601)),
        ((4, 100_000, 601), (1, 3489, 601)),
        ((2, 3, 2**24), (1, 1, 2**21)),
    ],
)
def test_chunks_fill_their_size(shape, chunks):
    assert _tree._chunks(shape, 4) == chunks
    assert 4 * np.prod(chunks) <= _tree.CHUNK_BYTES


def test_a_chunk_that_goes_after_opening_is_an_error_not_nan(run):
    opened = store.read_tree(run)
    chunk(run).unlink()
    with pytest.raises(Exception, match="not found"):
        opened["posterior"]["noise"].load()


@pytest.mark.parametrize("after", [0, 5, 20])
def test_a_full_disk_while_writing_leaves_the_old_tree(run, full_disk, after, make_tree):
    before = names(run)
    full_disk(after)
    with pytest.raises(StorageError) as caught:
        store.write_tree(run, make_tree(draws=8))
    assert str(caught.value) == f"cannot write {run}: no space left on the device"
    assert names(run) == before
    xr.testing.assert_identical(store.read_tree(run).load(), make_tree())


def test_a_limit_of_the_kernel_is_a_storage_error(run):
    before = names(run)
    large = xr.DataTree.from_dict({"/g": xr.Dataset({"v": ("draw", np.ones(100_000))})})
    with files_limited_to(100_000), pytest.raises(StorageError, match="exceed the size limit"):
        store.write_tree(run, large)
    with files_limited_to(100_000), pytest.raises(StorageError, match="exceed the size limit"):
        store.save_checkpoint(run, "chain-0", {"v": np.ones(100_000)}, {})
    assert names(run) == sorted([*before, "checkpoint"])
    assert names(run / "checkpoint") == []
    store.read_tree(run)


def test_an_unfinished_run_has_no_tree(tmp_path):
    store.prepare(tmp_path / "a", "", {})
    with pytest.raises(CorruptRunError, match=r"draws\.zarr is missing: the run is not finished"):
        store.read_tree(tmp_path / "a")


class Exploit:
    """Touches a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_reading_a_hostile_tree_unpickles_nothing(run, tmp_path):
    array = run / "draws.zarr" / "posterior" / "evil"
    array.mkdir()
    metadata = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": None}
    metadata |= {"order": "C", "compressor": None, "filters": [{"id": "pickle", "protocol": 5}]}
    (array / ".zarray").write_text(json.dumps(metadata))
    (array / "0").write_bytes(pickle.dumps([[1], np.array([Exploit(tmp_path / "canary")])]))
    store.write_manifest(run, {"files": store.file_hashes(run)})
    with pytest.raises(CorruptRunError, match="older zarr format"):
        store.read_tree(run)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "the codec 'numcodecs.pickle'"),
        ({"codecs": [{"name": "bytes"}, {"name": "blosc"}]}, "the codec 'blosc'"),
        ({"codecs": "bytes"}, "is not the metadata"),
        ({"consolidated_metadata": {}}, "is not the metadata"),
        ({"data_type": "float99"}, "cannot be read"),
    ],
)
def test_metadata_of_another_kind_is_refused(run, change, words):
    file = chunk(run).parent / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    store.write_manifest(run, {"files": store.file_hashes(run)})
    with pytest.raises(CorruptRunError, match=words):
        store.read_tree(run)


# Checkpoints


def test_a_checkpoint_comes_back(run):
    rng = np.random.default_rng(0)
    arrays = {
        "file": rng.normal(size=(3, 2)).astype(np.float32),  # the name of an argument of savez
        "layers/0.kernel": np.arange(4),
        "meta": np.array(True),
        "empty": np.empty((0, 5)),
        "key": np.array([1, 2**32 - 1], np.uint32),
    }
    meta = {"step": 12, "state": {"rate": 0.1}, "name": "μ"}
    store.save_checkpoint(run, "chain-0", arrays, meta)
    again, read = store.load_checkpoint(run, "chain-0")
    assert read == meta
    assert list(again) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array, strict=True)
    assert store.load_checkpoint(run, "chain-1") is None
    store.remove_checkpoints(run)
    store.remove_checkpoints(run)
    assert store.load_checkpoint(run, "chain-0") is None


def test_a_failed_write_leaves_the_old_checkpoint(run, full_disk):
    store.save_checkpoint(run, "c", {"x": np.ones(3)}, {"step": 1})
    full_disk()
    with pytest.raises(StorageError, match="checkpoint: no space left"):
        store.save_checkpoint(run, "c", {"x": np.zeros(3)}, {"step": 2})
    assert names(run / "checkpoint") == ["c.npz"]
    assert store.load_checkpoint(run, "c")[1] == {"step": 1}


def test_a_damaged_checkpoint_is_named(run):
    store.save_checkpoint(run, "c", {"x": np.arange(1000.0)}, {})
    file = run / "checkpoint" / "c.npz"
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[4000] ^= 1  # one bit of one number
    for damaged in (whole[:-1], whole[:4000], bytes(flipped)):
        file.write_bytes(damaged)
        with pytest.raises(CorruptRunError, match=r"c\.npz is not a whole checkpoint"):
            store.load_checkpoint(run, "c")


def test_a_checkpoint_never_unpickles(run, tmp_path):
    store.save_checkpoint(run, "c", {"x": np.ones(2)}, {})
    hostile = np.array([Exploit(tmp_path / "canary")], object)
    np.savez(run / "checkpoint" / "c.npz", **{"array/x": hostile, "meta": np.ones(1)})
    with pytest.raises(CorruptRunError, match=r"c\.npz is not a whole checkpoint"):
        store.load_checkpoint(run, "c")
    assert not (tmp_path / "canary").exists()
    with pytest.raises(TypeError, match="'x' holds Python objects"):
        store.save_checkpoint(run, "c", {"x": hostile}, {})


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps({"x": 1})])
def test_a_file_that_is_no_checkpoint_is_named(run, content):
    store.save_checkpoint(run, "c", {}, {})
    (run / "checkpoint" / "c.npz").write_bytes(content)
    with pytest.raises(CorruptRunError, match="not a whole checkpoint"):
        store.load_checkpoint(run, "c")
