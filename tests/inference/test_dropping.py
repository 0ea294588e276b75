"""Leaving chains out, when the user says so and not before."""

from __future__ import annotations

import json

import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.cli.main import main

SIZES = {"chains": 3, "draws": 40, "warmup": 40, "progress": False}


@pytest.fixture(scope="module")
def data():
    return bz.load_dataset("gap", n=20, seed=0)


@pytest.fixture
def run(data, tmp_path):
    model = bz.make_model(network_options={"widths": [3]})
    return bz.fit(model, data, "hmc", out=tmp_path / "whole", **SIZES)


def flagged(run):
    """The same run with a NaN chain, as one that turned NaN in its middle is kept."""
    flags = [{"chain": 1, "kind": "nan", "message": "not finite"}]
    flags.append({"chain": 2, "kind": "divergent", "message": "1 of 40"})
    text = json.dumps({**run.manifest, "flags": flags})
    (run.path / "manifest.json").write_text(text, encoding="utf-8")
    return bz.load_run(run.path)


def test_what_is_left_is_a_run_of_its_own(run, data, tmp_path):
    whole = flagged(run)
    left = bz.drop_chains(whole, [1], tmp_path / "left")
    for kept in (left, bz.load_run(tmp_path / "left")):
        for name, values in whole.tree["posterior"].items():
            np.testing.assert_array_equal(
                kept.tree["posterior"][name].to_numpy(), values.to_numpy()[[0, 2]]
            )
        assert kept.manifest["dropped_chains"] == [1]
        assert [f["chain"] for f in kept.manifest["flags"]] == [1], "chain 2 is chain 1 now"
        assert "without chain 1" in kept.label
        f = kept.predict(data.x_test, raw=True)
        np.testing.assert_array_equal(f, whole.predict(data.x_test, raw=True)[[0, 2]])
    # Scores are of what is left: those of a prediction from it, and not those of the whole.
    scored = left.predict(data.x_test)
    assert left.metrics()["nll"] == pytest.approx(-scored.log_prob(data.y_test).mean(), rel=1e-5)
    assert left.metrics()["nll"] != whole.metrics()["nll"]
    bz.write_report([whole, left], tmp_path / "report.html")


def test_chains_that_are_not_there_are_refused(run, tmp_path):
    for chains, words in (([3], "chains 0 to 2"), ([-1], "chains 0 to 2"), ([], "no chain")):
        with pytest.raises(bz.errors.InputError, match=words):
            bz.drop_chains(run, chains, tmp_path / "left")
    with pytest.raises(bz.errors.InputError, match="all 3 chains"):
        bz.drop_chains(run, [0, 1, 2], tmp_path / "left")
    assert not (tmp_path / "left").exists()


def test_what_is_left_is_not_taken_for_the_whole(run, data, tmp_path):
    left = bz.drop_chains(run, [0], tmp_path / "left")
    model = bz.make_model(network_options={"widths": [3]})
    with pytest.raises(bz.errors.RunExistsError, match="dropped chains"):
        bz.fit(model, data, "hmc", out=tmp_path / "left", **SIZES)
    with pytest.raises(bz.errors.RunError, match="ends of its chains"):
        bz.resume(left.path, draws=80)
    with pytest.raises(bz.errors.RunExistsError):
        bz.drop_chains(run, [1], tmp_path / "left")


def test_from_the_shell(run, tmp_path, capsys):
    assert main(["drop-chains", str(run.path), "0", "2", "-o", str(tmp_path / "left")]) == 0
    assert "left" in capsys.readouterr().out
    assert bz.load_run(tmp_path / "left").tree["posterior"].sizes["chain"] == 1
