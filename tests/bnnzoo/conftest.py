"""A run to damage, a disk that is full, and a tiny run made through the command line."""

import contextlib
import errno
import io
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from hypothesis import settings

from bnnzoo import store
from bnnzoo.cli import main

# The same examples every time, and no time limit on a machine that is busy with something else.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

SPEC = '[prior]\nname = "gaussian"\nstd = 1.0\n\n[inference]\nseed = 0\n'
MARKS = {"data": "d1", "model": "m1"}


@pytest.fixture
def make_tree():
    """A function that makes a tree of all the types a run holds."""
    return tree


def tree(draws=6):
    rng = np.random.default_rng(0)
    coords = {"chain": [0, 1], "draw": np.arange(draws), "unit": ["a", "b", "ç"]}
    posterior = xr.Dataset(
        {
            "layers.0.kernel": (("chain", "draw", "unit"), rng.normal(size=(2, draws, 3))),
            "noise": (("chain", "draw"), rng.normal(size=(2, draws)).astype(np.float32)),
        },
        coords=coords,
        attrs={"posterior_temperature": 0.1, "name": "μ"},
    )
    stats = xr.Dataset(
        {
            "diverging": (("chain", "draw"), np.zeros((2, draws), bool)),
            "n_steps": (("chain", "draw"), np.zeros((2, draws), np.int64)),
            "lp": (("chain", "draw"), np.full((2, draws), np.nan)),
        },
        coords={"chain": [0, 1], "draw": np.arange(draws)},
    )
    scalar = xr.Dataset({"T": ((), 0.5)})
    return xr.DataTree.from_dict(
        {"/posterior": posterior, "/sample_stats": stats, "/constant_data": scalar}
    )


@pytest.fixture(scope="session")
def pristine_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("pristine") / "a"
    assert store.prepare(path, SPEC, MARKS) == "new"
    store.write_tree(path, tree())
    store.write_manifest(path, {"state": "complete", "files": store.file_hashes(path)})
    return path


@pytest.fixture
def run(pristine_run, tmp_path):
    """A finished run, to do anything to."""
    return shutil.copytree(pristine_run, tmp_path / "runs" / "a")


@pytest.fixture
def full_disk(monkeypatch):
    """Make the disk full from the n-th file that is synced on."""

    def fill(after=0, code=errno.ENOSPC):
        count = iter(range(10_000))
        real = os.fsync

        def fsync(handle):
            if next(count) >= after:
                raise OSError(code, os.strerror(code))
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)

    return fill


TINY = ["--backend", "hmc", "--chains", "1", "--draws", "20", "--warmup", "20"]
TINY += ["--set", "network.widths=[3]", "--no-progress"]


def write_table(path: Path, rows: int = 40, seed: int = 0) -> Path:
    """A regression of two features, with a third that is constant."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, rows))
    lines = [f"{x:.4f},{z:.4f},7,{x + 0.1 * z:.4f}" for x, z in zip(a, b, strict=True)]
    path.write_text("\n".join(["a,b,c,y", *lines]) + "\n")
    return path


def fit_arguments(csv: Path, out: Path) -> list[str]:
    return ["fit", "--dataset", str(csv), "--target", "y", "--out", str(out), *TINY]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> SimpleNamespace:
    """One real run a session, as each compilation costs seconds: its ``folder``, its ``csv``, the
    ``arguments`` it was made with, and what that printed, ``stdout``."""
    home = tmp_path_factory.mktemp("tiny")
    csv, folder = write_table(home / "table.csv"), home / "run"
    arguments = fit_arguments(csv, folder)
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = main(arguments)
    assert code == 0, stderr.getvalue()
    return SimpleNamespace(folder=folder, csv=csv, arguments=arguments, stdout=stdout.getvalue())
