"""More draws for a finished run are those of a longer run."""

from __future__ import annotations

import json

import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo import store
from bnnzoo.errors import CorruptRunError, InputError
from bnnzoo.inference import extending, fitting

SIZES = {"chains": 2, "warmup": 60, "progress": False}


@pytest.fixture(scope="module")
def data():
    return bz.load_dataset("gap", n=20, seed=0)


def model():
    return bz.make_model(network_options={"widths": [3]})


def assert_identical(a, b):
    for group in ("posterior", "sample_stats", "warmup_sample_stats", "function_draws"):
        ours, theirs = a.tree[group].to_dataset(), b.tree[group].to_dataset()
        assert set(ours) == set(theirs)
        for name in ours:
            np.testing.assert_array_equal(
                ours[name].to_numpy(), theirs[name].to_numpy(), err_msg=f"{group}/{name}"
            )


@pytest.mark.parametrize(
    "settings",
    [
        {"backend": "hmc", "posterior_temperature": 0.3},
        pytest.param({"backend": "nuts", "dtype": "float64"}, marks=pytest.mark.validate),
        pytest.param({"backend": "mean-field-vi"}, marks=pytest.mark.validate),
    ],
    ids=lambda s: s["backend"],
)
def test_a_finished_run_goes_on_to_the_draws_of_a_longer_one(settings, data, tmp_path):
    folder, sizes = tmp_path / "run", {**SIZES, **settings}
    whole = bz.fit(model(), data, seed=3, draws=170, **sizes)
    first = bz.fit(model(), data, seed=3, draws=70, out=folder, **sizes)
    done = bz.resume(folder, draws=170, progress=False)
    assert done.origin == "resumed" and done.manifest["state"] == "complete"
    assert_identical(whole, done)
    assert_identical(whole, bz.load_run(folder))
    assert done.metrics() == whole.metrics()
    assert done.manifest["gradients"] == whole.manifest["gradients"]
    for name in ("sampling_seconds", "compile_seconds", "wall_seconds"):
        assert done.manifest[name] > first.manifest[name]
    assert not (folder / "checkpoint").exists()
    assert bz.resume(folder, draws=170).origin == "reused"
    # And once more, over sites that were kept unconstrained.
    again = bz.resume(folder, draws=171, progress=False).tree["posterior"]
    for name, values in whole.tree["posterior"].items():
        np.testing.assert_array_equal(again[name].to_numpy()[:, :170], values.to_numpy())


@pytest.mark.parametrize(
    "where",
    [
        "run_chains",
        *(pytest.param(w, marks=pytest.mark.validate) for w in ("reopen", "build_tree")),
    ],
)
def test_an_extension_that_is_stopped_resumes(where, data, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    whole = bz.fit(model(), data, "hmc", seed=4, draws=150, **SIZES)
    bz.fit(model(), data, "hmc", seed=4, draws=50, out=folder, **SIZES)
    real = getattr(fitting, where)

    def interrupt(*args, **kwargs):
        if where == "build_tree":
            real(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, where, interrupt)
    with pytest.raises(KeyboardInterrupt):
        bz.resume(folder, draws=150, progress=False)
    monkeypatch.undo()
    assert bz.load_run(folder).tree["posterior"].sizes["draw"] == 50
    if where == "reopen":  # nothing was changed yet
        assert bz.resume(folder).origin == "reused"
        assert_identical(whole, bz.resume(folder, draws=150, progress=False))
    else:
        assert_identical(whole, bz.resume(folder, progress=False))


def test_an_unfinished_run_may_be_given_more(data, tmp_path):
    folder = tmp_path / "run"
    whole = bz.fit(model(), data, "hmc", seed=5, draws=90, **SIZES)
    with pytest.raises(bz.errors.RunError, match="before the first draw"):
        bz.fit(model(), data, "hmc", seed=5, draws=60, out=folder, max_time=0.0, **SIZES)
    assert_identical(whole, bz.resume(folder, draws=90, progress=False))


def test_fewer_draws_than_there_are_is_refused(data, tmp_path):
    folder = tmp_path / "run"
    bz.fit(model(), data, "hmc", draws=30, out=folder, **SIZES)
    before = (folder / "manifest.json").read_bytes()
    for draws in (0, 20, -3, True):
        with pytest.raises(bz.errors.InputError, match="at least"):
            bz.resume(folder, draws=draws)
    assert (folder / "manifest.json").read_bytes() == before


def test_a_chain_that_turned_nan_does_not_go_on(data, tmp_path):
    folder = tmp_path / "run"
    run = bz.fit(model(), data, "hmc", draws=30, out=folder, **SIZES)
    flags = [{"chain": 1, "kind": "nan", "message": "the position is not finite"}]
    text = json.dumps({**run.manifest, "flags": flags})
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(bz.errors.RunError, match="chain 1 turned NaN"):
        bz.resume(folder, draws=60)


def test_a_folder_that_another_process_writes_to_is_left_alone(data, tmp_path):
    folder, sizes = tmp_path / "run", {**SIZES, "backend": "hmc", "draws": 20}
    with store.alone(folder):
        with pytest.raises(InputError, match="another process is at work in"):
            bz.fit(model(), data, out=folder, **sizes)
        assert list(folder.iterdir()) == []
    bz.fit(model(), data, out=folder, **sizes)
    with store.alone(folder):
        # Who only reads is not in the way.
        assert bz.fit(model(), data, out=folder, **sizes).origin == "reused"
        assert bz.resume(folder, progress=False).origin == "reused"
        with pytest.raises(InputError, match="another process is at work in"):
            bz.resume(folder, draws=30, progress=False)
    assert bz.resume(folder, draws=30, progress=False).tree["posterior"].sizes["draw"] == 30


def test_checkpoints_that_lack_draws_are_seen(data, tmp_path):
    folder, sizes = tmp_path / "run", {**SIZES, "backend": "hmc", "draws": 20}
    bz.fit(model(), data, out=folder, **sizes)
    run = bz.load_run(folder)
    extending.reopen(run, 30)
    arrays, meta = store.load_checkpoint(folder, "chain-1-piece-00000")
    store.save_checkpoint(folder, "chain-1-piece-00000", {**arrays, "u": arrays["u"][:-3]}, meta)
    with pytest.raises(CorruptRunError, match="of chain 1 hold 17 draws where they should hold 20"):
        bz.resume(folder, progress=False)


def test_checkpoints_of_an_earlier_version_are_refused_by_name(data, tmp_path):
    folder, sizes = tmp_path / "run", {**SIZES, "backend": "hmc", "draws": 20}
    extending.reopen(bz.fit(model(), data, out=folder, **sizes), 30)
    arrays, meta = store.load_checkpoint(folder, "chain-0")
    store.save_checkpoint(folder, "chain-0", arrays, {k: meta[k] for k in meta if k != "draws"})
    with pytest.raises(CorruptRunError, match="are of an earlier version of bnnzoo; fit again"):
        bz.resume(folder, progress=False)
