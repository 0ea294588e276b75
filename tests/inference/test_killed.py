"""SIGKILL at any moment: what resumes is, bit for bit, the run that nobody killed.

A child process makes a run; it is killed when it has reached a moment (some steps into warm-up or
sampling, while draws are written, while the tree is) and started again, over and over. The
moments of sampling are drawn at random from a fixed seed; where exactly the kill falls inside one
is chance, and must not matter.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import bnnzoo as bz

SCRIPT = textwrap.dedent(
    """
    import sys
    import bnnzoo as bz
    from bnnzoo.inference import loop
    loop.CHECKPOINT_SECONDS, loop.SEGMENT_STEPS = 0.0, 10  # write all the time
    folder, backend, draws = sys.argv[1], sys.argv[2], int(sys.argv[3])
    model = bz.make_model(network_options={"widths": [3]})
    data = bz.load_dataset("gap", n=20, seed=0)
    bz.fit(model, data, backend, seed=5, chains=2, warmup=200, draws=draws, out=folder,
           progress=False)
    """
)
DRAWS = 600

FAMILIES = ["hmc", "mclmc", "mean-field-vi", "elliptical-slice", "smc"]
"""One backend of each family."""


def whole(backend, draws=DRAWS):
    model = bz.make_model(network_options={"widths": [3]})
    data = bz.load_dataset("gap", n=20, seed=0)
    settings = {"chains": 2, "warmup": 200, "draws": draws, "seed": 5, "progress": False}
    return bz.fit(model, data, backend, **settings)


def pieces(folder):
    return len(list((folder / "checkpoint").glob("chain-*-piece-*.npz")))


def writing_the_tree(folder):
    return any(".tmp-" in p.name and "draws.zarr" in p.name for p in folder.glob(".tmp-*"))


def run_until(folder, backend, draws, reached):
    """Run the child until ``reached(folder)``, kill it; whether it was killed."""
    command = [sys.executable, "-c", SCRIPT, str(folder), backend, str(draws)]
    child = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    try:
        while not reached(folder):
            if child.poll() is not None:
                assert child.returncode == 0, child.stderr.read().decode()[-2000:]
                return False
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        child.kill()
        child.wait()
    return True


@pytest.mark.parametrize(
    ("backend", "kills", "draws"),
    [
        ("hmc", 1, 100),
        *(pytest.param(b, 10, DRAWS, marks=pytest.mark.validate) for b in FAMILIES),
    ],
)
def test_a_killed_run_resumes_to_the_same_draws(backend, kills, draws, tmp_path):
    folder = tmp_path / "run"
    rng = np.random.default_rng(kills)
    killed = 0
    for kill in range(kills):
        done = pieces(folder)
        more = int(rng.integers(1, max(2, (2 * (200 + draws) // 10) // kills)))
        wait = float(rng.uniform(0.0, 0.02))

        def reached(folder, target=done + more, wait=wait):
            if pieces(folder) < target:
                return False
            time.sleep(wait)
            return True

        until = writing_the_tree if kill == kills - 1 else reached
        killed += run_until(folder, backend, draws, until)
    assert killed == kills, "the run ended before it was killed"
    resumed = bz.resume(folder, progress=False)
    assert resumed.manifest["state"] == "complete"
    expected = whole(backend, draws)
    for group in ("posterior", "sample_stats", "warmup_sample_stats"):
        for name, values in expected.tree[group].items():
            np.testing.assert_array_equal(
                resumed.tree[group][name].to_numpy(), values.to_numpy(), err_msg=name
            )
    assert [p.name for p in folder.glob(".tmp-*")] == []


FULL = """
import resource, sys
limit = int(sys.argv.pop())
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # the kernel refuses what is beyond it
try:
    exec(sys.argv.pop().replace("0.0, 10 ", "0.0, 100 "))
except bz.errors.StorageError as error:
    sys.exit(str(error))
"""


@pytest.mark.validate
@pytest.mark.skipif(sys.platform == "win32", reason="resource is a module of Unix")
@pytest.mark.parametrize(
    ("limit", "kept"),
    [(6_000, "piece"), (45_000, "tree")],
    ids=["sampling", "tree"],
)
def test_a_disk_without_room_stops_with_a_line_and_a_run_that_goes_on(limit, kept, tmp_path):
    """The smaller limit refuses a piece of the draws, the larger one the tree of all of them."""
    folder = tmp_path / "run"
    command = [sys.executable, "-c", FULL, str(folder), "hmc", str(DRAWS), SCRIPT, str(limit)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=300)
    said = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and said.startswith(f"cannot write {folder}"), done.stderr
    assert said.endswith("the file would exceed the size limit")
    assert [p.name for p in folder.rglob(".tmp-*")] == []
    assert (pieces(folder) >= 2 * (200 + DRAWS) // 100) == (kept == "tree")
    resumed, expected = bz.resume(folder, progress=False), whole("hmc")
    for name, values in expected.tree["posterior"].items():
        np.testing.assert_array_equal(resumed.tree["posterior"][name].to_numpy(), values.to_numpy())


@pytest.mark.validate
def test_an_interrupt_saves_and_says_how_to_go_on(tmp_path):
    """SIGINT, as Ctrl-C sends it, to the command line in the middle of sampling."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "bnnzoo", "fit", "--dataset", "gap", "--backend", "hmc"]
    command += ["--set", "network.widths=[3]", "--set", "data.n=20", "--set", "data.seed=0"]
    command += ["--seed", "5", "--chains", "2", "--warmup", "200", "--draws", "200000"]
    child = subprocess.Popen(
        [*command, "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it starts in the background ignore SIGINT, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while pieces(out) < 1:  # the first checkpoint is ten seconds into the run
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.05)
    sent = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert said.strip().endswith(f"bnnzoo: interrupted; go on with: bnnzoo resume {out}")
    assert time.monotonic() - sent < 20, "a segment takes about two seconds"
    kept = bz.resume(out, progress=False, max_time=1e-6).tree["posterior"].sizes["draw"]
    assert kept > 1000, "what was drawn before is there"
