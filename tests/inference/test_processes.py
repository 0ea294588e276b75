"""Two processes on one machine make the run that one makes; one is killed, and the run resumes.

They speak over 127.0.0.1, as those of a cluster do over its network.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.cli import main

pytestmark = pytest.mark.validate

COMMON = [
    *("fit", "--dataset", "gap", "--set", "data.n=21", "--set", "network.widths=[4]"),
    *("--backend", "hmc", "--chains", "2", "--dtype", "float64", "--no-progress"),
]

LAYOUTS = {"chains": ["--devices", "2"], "rows": ["--data-shards", "2"]}


@pytest.fixture
def together():
    """Start a command in two processes; whatever still runs at the end is killed."""
    begun = []

    def start(command, port=None):
        if port is None:
            with socket.create_server(("", 0)) as probe:
                port = probe.getsockname()[1]
        for number in range(2):
            join = ["--coordinator", f"127.0.0.1:{port}", "--processes", "2"]
            join += ["--process-id", str(number)]
            begun.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "bnnzoo", *command, *join],
                    env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return begun[-2:]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def both(started):
    """What the two print; both must end well."""
    said = [process.communicate(timeout=500) for process in started]
    for process, (_, errors) in zip(started, said, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [out for out, _ in said]


def same(a, b, steps=None):
    for group in ("posterior", "sample_stats", "log_likelihood", "function_draws"):
        for name in a.tree[group].data_vars:
            x, y = (r.tree[group][name].to_numpy().astype(float)[:, :steps] for r in (a, b))
            np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-6, err_msg=f"{group}/{name}")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_make_the_run_of_one(layout, together, tmp_path):
    sizes = ["--warmup", "10", "--draws", "20", "--json"]
    command = [*COMMON, *LAYOUTS[layout], *sizes, "--out", str(tmp_path / "two")]
    first, second = both(together(command))
    assert json.loads(first)["reused"] is False
    assert second == ""  # the other says nothing
    assert main([*COMMON, *sizes, "--out", str(tmp_path / "one")]) == 0
    one, two = bz.load_run(tmp_path / "one"), bz.load_run(tmp_path / "two")
    same(one, two)
    found = two.manifest["layout"]
    assert found["processes"] == 2 and found["devices"] == 2
    assert (found["chain"], found["data"]) == ((2, 1) if layout == "chains" else (1, 2))
    assert found["padding"] == (1 if layout == "rows" else 0)
    first, second = both(together(command))
    assert json.loads(first)["reused"] is True


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_stopped_run_of_two_processes_resumes_in_two(layout, together, tmp_path):
    sizes = ["--warmup", "0", "--draws", "40"]
    folder = str(tmp_path / "two")
    both(together([*COMMON, *LAYOUTS[layout], *sizes, "--out", folder, "--max-time", "0.001"]))
    stopped = bz.load_run(folder)
    assert stopped.manifest["state"] == "stopped"
    assert 0 < stopped.tree["posterior"].sizes["draw"] < 40
    both(together(["resume", folder]))
    assert main([*COMMON, *sizes, "--out", str(tmp_path / "one")]) == 0
    resumed = bz.load_run(folder)
    assert resumed.manifest["state"] == "complete"
    same(bz.load_run(tmp_path / "one"), resumed, steps=20)


def test_a_killed_process_ends_the_other_and_the_run_resumes_without(together, tmp_path):
    folder = tmp_path / "two"
    sizes = ["--warmup", "0", "--draws", "1000000"]
    first, second = together([*COMMON, *LAYOUTS["rows"], *sizes, "--out", str(folder)])
    kept = folder / "checkpoint" / "chain-1.npz"
    end = time.monotonic() + 300
    while not kept.is_file():
        assert time.monotonic() < end and first.poll() is None, first.stderr.read()
        time.sleep(0.5)
    os.kill(second.pid, signal.SIGKILL)
    _, errors = first.communicate(timeout=120)
    assert first.returncode != 0
    assert "process 0 of 2 lost another" in errors and f"bnnzoo resume {folder}" in errors
    # By one process, with one device, from where it was.
    run = bz.resume(folder, devices=1, data_shards=1, progress=False, max_time=0.5)
    assert run.manifest["state"] == "stopped"
    assert run.tree["posterior"].sizes["draw"] > 10
    short = [*COMMON, "--warmup", "0", "--draws", "10", "--out", str(tmp_path / "one")]
    assert main(short) == 0
    for name, ours in bz.load_run(tmp_path / "one").tree["posterior"].data_vars.items():
        np.testing.assert_allclose(
            run.tree["posterior"][name].to_numpy()[:, :10], ours.to_numpy(), rtol=1e-5, atol=1e-6
        )


def test_a_folder_that_holds_another_run_is_refused_by_both(together, tmp_path):
    sizes = ["--warmup", "0", "--draws", "5"]
    assert main([*COMMON, *sizes, "--out", str(tmp_path / "run")]) == 0
    started = together([*COMMON, *LAYOUTS["chains"], *sizes, "--out", str(tmp_path / "run")])
    for process in started:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 2
        assert "holds a different run: inference.devices is not set there and 2 here" in errors
