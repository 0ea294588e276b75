"""A finished run to damage, and a disk that is full."""

import errno
import os
import shutil

import numpy as np
import pytest
import xarray as xr
from hypothesis import settings

from bnnzoo import store

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
