"""Chains spread over devices and rows split over them give what one device gives.

A CPU counts as several devices only if XLA is told so before it starts: the checks are in
_devices.py, and run in processes of their own. Draws are compared in float64 over few steps: a
sum in another order differs in its last bit, and a trajectory of HMC doubles that several times.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import bnnzoo as bz
from bnnzoo.errors import InputError, OptionError, RunError
from bnnzoo.inference import processes

CHECKS = Path(__file__).parent / "_devices.py"

BACKENDS = [
    *("hmc", "nuts", "adjusted-mclmc", "mclmc", "mile", "gibbs-hmc", "elliptical-slice", "smc"),
    *("mean-field-vi", 'mean-field-vi:{"batch_size": 7}', "low-rank-vi", "full-rank-vi", "flow-vi"),
    "last-layer-vi",
    *(
        "svgd",
        "pathfinder",
        "map",
        "sgld",
        'sgld:{"batch_size": 7}',
        'sghmc:{"batch_size": 7, "thin": 1}',
    ),
    *("psgld", "sgnht", "cyclical-sgld", "cyclical-sghmc", 'gg-mc:{"batch_size": 7}'),
]
"""Whose rows can be split; by minibatches too, which are gathered from the shards."""


def check(*arguments, flags=""):
    """Run a check in a process whose CPU counts as four devices."""
    flags += f" {os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-P", str(CHECKS), *map(str, arguments)],
        env={**os.environ, "XLA_FLAGS": flags.strip()},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_sums_over_shards_and_chains_over_devices_are_those_of_one_device():
    check("quick", flags="--xla_backend_optimization_level=0")  # its programs run once


@pytest.mark.validate
def test_what_cannot_be_laid_out_is_one_line():
    check("bad_input")


@pytest.mark.validate
@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_gives_the_same_chains_on_four_devices(name):
    check("backend", name)


@pytest.mark.validate
def test_every_backend_that_splits_rows_is_tested():
    able = {
        name
        for name in bz.registry.list_names("backends")
        if bz.registry.get("backends", name).build({}).splits_rows
    }
    assert able == {name.partition(":")[0] for name in BACKENDS}


@pytest.mark.validate
def test_the_memory_of_a_gradient_is_split_with_the_rows():
    taken = json.loads(check("memory"))
    (work, rows), *others = taken
    for shards, (own_work, own_rows) in zip((2, 4), others, strict=True):
        assert own_work < 1.1 * work / shards
        assert own_rows < 1.1 * rows / shards + 20_000  # weights, which every device has whole


@pytest.mark.validate
def test_a_run_on_devices_is_the_run_and_goes_on_with_others(tmp_path):
    check("fits", tmp_path)


@pytest.fixture
def unused_port():
    with socket.create_server(("", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def data():
    return bz.load_dataset("gap", n=20, seed=0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"devices": 64}, r"devices = 64: there .*give .*XLA_FLAGS=--xla_force_host_platform_dev"),
        ({"data_shards": 64}, r"devices = 64: there "),
        ({"devices": 0}, r"inference.devices = 0: should be greater than 0"),
        ({"data_shards": -2}, r"inference.data_shards = -2: should be greater than 0"),
    ],
)
def test_devices_that_there_are_not_are_refused(given, words, data, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(OptionError, match=words):
        bz.fit(bz.make_model(), data, "hmc", out=folder, progress=False, **given)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("127.0.0.1", 2, 1), "HOST:PORT is needed"),
        (("127.0.0.1:99999", 2, 1), "HOST:PORT is needed"),
        (("127.0.0.1:4100",), "needs processes"),
        (("127.0.0.1:4100", 0, 0), "processes = 0"),
        (("127.0.0.1:4100", 2, 2), "process_id = 2: of 2 processes it is 0 to 1"),
        ((None, 2, 0), "need a coordinator"),
    ],
)
def test_processes_that_make_no_sense_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        bz.start_distributed(*given)


def test_a_coordinator_that_is_not_there_is_one_line(unused_port):
    with pytest.raises(RunError, match=r"cannot be reached \(connection refused, 0.3 s long\)"):
        bz.start_distributed(f"127.0.0.1:{unused_port}", 2, 1, timeout=0.3)
    with pytest.raises(RunError, match=f"process 1, 2 of 3 did not come to port {unused_port}"):
        bz.start_distributed(f"127.0.0.1:{unused_port}", 3, 0, timeout=0.3)


def test_alone_a_process_leads_and_tells_itself():
    assert processes.leads() and not processes.several()
    assert processes.led(lambda: [1, 2]) == [1, 2]
    assert processes.tell(b"words") == b"words" and processes.tell_number(7) == 7
