"""Draws that are read a few at a time are the draws, wherever they are kept."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import bnnzoo as bz
from bnnzoo import registry, store
from bnnzoo.inference import checkpoint, draws, evaluation
from bnnzoo.inference.backend import Flag
from bnnzoo.inference.chains import ChainResult, gather
from bnnzoo.inference.checkpoint import Checkpoint, StoredPiece
from bnnzoo.inference.draws import ArrayDraws, Draws, FlatDraws, PieceDraws, TreeDraws

CHAINS, DRAWS, DIMENSION = 3, 11, 4
VALUES = np.arange(CHAINS * DRAWS * DIMENSION, dtype=np.float32).reshape(CHAINS, DRAWS, DIMENSION)


def in_pieces(folder):
    """Each chain in pieces of other lengths, the first of them on the disk."""
    keeper = Checkpoint(folder)
    chains = []
    for chain, cuts in enumerate(([2, 7], [1], [4, 5, 9])):
        result = ChainResult(np.zeros(1))
        for number, part in enumerate(np.split(VALUES[chain], cuts)):
            result.u.append(part)
            if number == 0:
                keeper.save(chain, result)
        assert isinstance(result.u[0], StoredPiece) and isinstance(result.u[1], np.ndarray)
        chains.append(result.u)
    return PieceDraws(chains, DRAWS, DIMENSION, np.float32)


def in_a_tree(folder):
    variables = {
        "b": (("chain", "draw"), VALUES[..., 3]),
        "a": (("chain", "draw", "a_dim_0"), VALUES[..., :3]),
    }
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset(variables)})
    store.write_tree(folder, tree)
    group = store.open_tree(folder)["posterior"].to_dataset()
    sites = {name: group[name].variable for name in ("a", "b")}
    return FlatDraws(TreeDraws(sites), ("a", "b"))


@pytest.fixture(params=["memory", "pieces", "tree", "large tree"])
def kept(request, tmp_path, monkeypatch) -> Draws:
    if request.param == "large tree":
        monkeypatch.setattr(draws, "IN_MEMORY_BYTES", 0)
    if request.param == "memory":
        return ArrayDraws(VALUES)
    return in_pieces(tmp_path) if request.param == "pieces" else in_a_tree(tmp_path)


def test_any_part_is_that_of_the_array(kept):
    flat = VALUES.reshape(-1, DIMENSION)
    assert kept.shape == (CHAINS, DRAWS) and kept.count == len(flat)
    for start in range(kept.count):
        for stop in range(start + 1, kept.count + 1):
            np.testing.assert_array_equal(kept.read(start, stop), flat[start:stop])
    np.testing.assert_array_equal(kept.take(1, slice(2, 10, 3)), VALUES[1, 2:10:3])
    np.testing.assert_array_equal(kept.all(), VALUES)


@pytest.mark.parametrize("step", [1, 2, 3, 11, 20])
def test_a_selection_is_that_of_the_array(kept, step):
    part = kept.select([2, 0], step)
    np.testing.assert_array_equal(part.all(), VALUES[[2, 0]][:, ::step])
    again = part.select([1], 2)  # a selection of a selection
    np.testing.assert_array_equal(again.all(), VALUES[[0]][:, ::step][:, ::2])


def test_a_chain_that_ended_early_is_nan_after_its_end():
    made = PieceDraws([[VALUES[0]], [VALUES[1, :3]]], DRAWS, DIMENSION, np.float32).all()
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made[1, :3], VALUES[1, :3])
    assert np.isnan(made[1, 3:]).all() and np.isfinite(made[0]).all()


def test_a_chain_that_turned_nan_does_not_shorten_the_others():
    results = [ChainResult(None, DRAWS, u=[VALUES[0]]), ChainResult(None, 3, u=[VALUES[1, :3]])]
    results[1].flags.append(Flag("nan", "the position is not finite"))
    hmc = registry.get("backends", "hmc").build({}, "inference")
    found = gather(hmc, results, DRAWS, VALUES[0, 0], 0.0, 1)
    assert found.u.shape == (2, DRAWS) and found.complete


def test_what_a_checkpoint_has_leaves_the_memory(tmp_path, monkeypatch):
    keeper, result = Checkpoint(tmp_path), ChainResult(np.zeros(1))
    keeper.save(0, result)
    result.u.append(VALUES[0])
    keeper.save(0, result, every=1e6)
    assert isinstance(result.u[0], np.ndarray)  # little, and the last checkpoint is young
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", VALUES[0].nbytes)
    keeper.save(0, result, every=1e6)
    assert [len(piece) for piece in result.u] == [DRAWS]
    assert isinstance(result.u[0], StoredPiece)
    np.testing.assert_array_equal(np.asarray(result.u[0]), VALUES[0])


def test_a_piece_is_never_replaced_by_the_next(tmp_path, monkeypatch):
    """The state finds no room, once: the piece before it is there, and stays."""
    keeper, result = Checkpoint(tmp_path), ChainResult(np.zeros(1), u=[VALUES[0]])
    real = store.save_checkpoint

    def full(path, name, arrays, meta):
        if "piece" not in name:
            raise bz.errors.StorageError("no space left")
        real(path, name, arrays, meta)

    monkeypatch.setattr(store, "save_checkpoint", full)
    with pytest.raises(bz.errors.StorageError):
        keeper.save(0, result)
    monkeypatch.undo()
    result.u.append(VALUES[1])
    keeper.save(0, result)
    again = ChainResult(np.zeros(1))
    assert Checkpoint(tmp_path).load_into(0, again)
    both = PieceDraws([again.u], 2 * DRAWS, DIMENSION, np.float32).all()[0]
    np.testing.assert_array_equal(both, np.concatenate([VALUES[0], VALUES[1]]))


def test_a_piece_that_has_gone_is_an_error(tmp_path):
    with pytest.raises(bz.errors.CorruptRunError, match="has lost its checkpoint"):
        np.asarray(StoredPiece(tmp_path, "chain-0-piece-00000", 3))


@pytest.mark.validate
def test_small_and_large_draws_give_one_run(tmp_path, monkeypatch):
    """Everything a run keeps and predicts, with draws in memory and from the disk in pieces."""
    data = bz.load_dataset("gap", n=20, seed=0)
    model = bz.make_model(network_options={"widths": [3]})
    settings = {"chains": 2, "draws": 30, "warmup": 30, "progress": False}
    small = bz.fit(model, data, "hmc", **settings)
    monkeypatch.setattr(draws, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr("bnnzoo.inference.evaluation.IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 100)
    monkeypatch.setattr("bnnzoo.store._tree.CHUNK_BYTES", 64)
    large = bz.fit(model, data, "hmc", out=tmp_path / "run", **settings)
    assert len(list((large.path / "draws.zarr/posterior/layers.0.kernel").glob("c.*"))) > 2
    xr.testing.assert_equal(small.tree.load(), large.tree.load())
    again = bz.load_run(large.path)
    np.testing.assert_array_equal(again.predict(data.x).std, small.predict(data.x).std)
    left = [bz.drop_chains(run, [0]).tree.load() for run in (small, again)]
    xr.testing.assert_equal(*left)


def test_pieces_of_fewer_rows_predict_the_same(monkeypatch):
    """A wide network's pieces have fewer rows, and nothing but the drawn targets depends on it."""
    data = bz.load_dataset("gap", n=20, seed=0)
    wide = bz.Posterior(bz.make_model(network_options={"widths": [200_000]}), data)
    assert evaluation.piece_rows(wide) == evaluation.FEWEST_ROWS < len(data.x_test)
    model = bz.make_model(network_options={"widths": [3]})
    run = bz.fit(model, data, "hmc", chains=1, draws=10, warmup=10, progress=False)
    assert evaluation.piece_rows(run.posterior) == evaluation.ROWS
    whole = run.predict(data.x_test)
    wanted = whole.mean, whole.std, whole.log_prob(data.y_test)
    monkeypatch.setattr(evaluation, "piece_rows", lambda posterior: 16)
    parts = run.predict(data.x_test)
    found = parts.mean, parts.std, parts.log_prob(data.y_test)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_run_waits_for_the_disk_where_it_is_to_stay(tmp_path, monkeypatch):
    waits = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (waits.append(handle), real(handle))[1])
    data = bz.load_dataset("gap", n=20, seed=0)
    model = bz.make_model(network_options={"widths": [3]})
    sizes = {"chains": 1, "draws": 5, "warmup": 5, "progress": False}
    bz.drop_chains(bz.fit(model, data, "sgld", **sizes | {"chains": 2}), [0])
    assert not waits
    bz.fit(model, data, "sgld", out=tmp_path / "run", **sizes)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(waits) > len(files)


def test_a_tree_outlives_its_run():
    """The temporary folder of a run goes with the last thing that may read it."""
    data = bz.load_dataset("gap", n=20, seed=0)
    sizes = {"chains": 1, "draws": 5, "warmup": 5, "progress": False}
    run = bz.fit(bz.make_model(network_options={"widths": [3]}), data, "sgld", **sizes)
    folder, group = run.path, run.tree["posterior"].to_dataset()
    del run
    assert folder.exists()
    values = {name: array.to_numpy() for name, array in group.items()}
    assert all(np.isfinite(array).all() for array in values.values())
    del group
    gc.collect()
    assert not folder.exists()


MEMORY = """
import resource, sys
import numpy as np
import bnnzoo as bz
from bnnzoo.reports.diagnostics import diagnose

draws, out = int(sys.argv[1]), sys.argv[2]
x = np.random.default_rng(0).normal(size=(24, 500))
run = bz.fit(
    bz.make_model(network_options={"widths": [540]}), bz.make_dataset(x, x[:, 0]), "hmc",
    chains=2, draws=draws, warmup=20, max_steps=2, progress=False, out=out,
)
assert run.posterior.dimension > 270_000
bz.load_run(out).predict(x).std
diagnose(run.tree)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.validate
@pytest.mark.skipif(sys.platform == "win32", reason="resource is a module of Unix")
def test_memory_does_not_grow_with_the_number_of_draws(tmp_path):
    """200 and 2,000 draws of 270,000 parameters: under 10 % apart. 9 GB on the disk."""
    peaks = []
    for count in (200, 2000):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(count), str(tmp_path / str(count))],
            capture_output=True, text=True, check=True, env=os.environ,
        )  # fmt: skip
        peaks.append(int(done.stdout))
    print(f"peak memory {peaks[0] >> 10} and {peaks[1] >> 10} MiB")
    assert abs(peaks[1] / peaks[0] - 1) < 0.1


ROWS = """
import resource, sys
import numpy as np
import bnnzoo as bz

rows = int(sys.argv[1])
x = np.random.default_rng(0).normal(size=(rows, 2))
run = bz.fit(
    bz.make_model(network_options={"widths": [10]}), bz.make_dataset(x[:30], x[:30, 0]), "hmc",
    chains=2, draws=200, warmup=20, max_steps=2, progress=False,
)
prediction = run.predict(x)
assert prediction.std.shape == (rows,) and prediction.quantile([0.05, 0.95]).shape == (2, rows)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.validate
@pytest.mark.skipif(sys.platform == "win32", reason="resource is a module of Unix")
def test_memory_does_not_grow_with_the_number_of_rows():
    """Quantiles of 10,000 and 100,000 rows from 400 draws, whose values alone would be 160 MB."""
    peaks = []
    for count in (10_000, 100_000):
        done = subprocess.run(
            [sys.executable, "-c", ROWS, str(count)],
            capture_output=True, text=True, check=True, env=os.environ,
        )  # fmt: skip
        peaks.append(int(done.stdout))
    print(f"peak memory {peaks[0] >> 10} and {peaks[1] >> 10} MiB")
    assert peaks[1] / peaks[0] < 1.1
