"""A study over dask.distributed: two workers, one killed in the middle of a cell."""

from __future__ import annotations

import errno
import json
import re
import sys
from pathlib import Path

import pytest

from bnnzoo.errors import InputError
from bnnzoo.reports import study_workers
from bnnzoo.reports.study_runner import run_study

sys.path.insert(0, str(Path(__file__).parent))
from _toy_study import registered

distributed = pytest.importorskip("distributed")
HERE = str(Path(__file__).parent)


@pytest.fixture
def cluster(monkeypatch):
    """Two worker processes on this machine, which find the toy study."""
    monkeypatch.setenv("PYTHONPATH", HERE)
    with (
        registered(),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as made,
    ):
        yield made


def cells(folder):
    found = [json.loads(p.read_text()) for p in sorted((folder / "cells").glob("*.json"))]
    return [(f["cell"], f["measured"]) for f in found]


def test_why_no_scheduler_answers_is_said_in_words(monkeypatch):
    monkeypatch.setattr(study_workers, "TIMEOUT", 3)
    said = {
        "tcp://127.0.0.1:1": "(connection refused|timed out after 3 s)",  # on a busy machine
        "foo://x:1": "unknown address scheme 'foo' .*",
    }
    for address, why in said.items():
        line = f"no dask scheduler answers at {address}: {why}; --workers runs cells in .*"
        with pytest.raises(InputError) as caught:
            study_workers.executor(1, address)
        assert re.fullmatch(line, str(caught.value)), str(caught.value)
    refused = OSError("Timed out trying to connect")
    refused.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    assert study_workers._why(refused) == "connection refused"
    assert study_workers._why(OSError("Timed out trying to connect")) == "timed out after 3 s"


@pytest.mark.validate
def test_a_killed_worker_loses_nothing_and_versions_are_compared(cluster, tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    trap.write_text("die")

    def set_trap(path):
        import os

        os.environ["TOY_TRAP"] = path

    with distributed.Client(cluster) as client:
        client.run(set_trap, str(trap))
    address, folder = cluster.scheduler_address, tmp_path / "s"
    found = run_study("toy", "small", folder, scheduler=address, progress=False)
    assert not trap.exists(), "no worker died"
    run_study("toy", "small", tmp_path / "alone", progress=False)
    assert found.verdicts["warm"] == "reproduced" and cells(folder) == cells(tmp_path / "alone")

    monkeypatch.setattr(study_workers, "versions", lambda: {"jax": "0.0.1"})
    monkeypatch.setattr(study_workers, "_compare", _with_other_versions(study_workers._compare))
    with pytest.raises(InputError, match=r"worker tcp://.* has jax .*, this process 0.0.1"):
        run_study("toy", "small", tmp_path / "t", scheduler=address, progress=False)


def _with_other_versions(plain):
    """The workers say what they have, not what this process was patched to say."""
    real = {"jax": "0.12"}
    return lambda address, found: plain(address, dict.fromkeys(found, real))
