"""One tiny run, made through the command line once a session: each compilation costs seconds."""

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bnnzoo.cli import main

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
    """``folder``, ``csv``, ``arguments`` and what fit printed, ``stdout``."""
    home = tmp_path_factory.mktemp("tiny")
    csv, folder = write_table(home / "table.csv"), home / "run"
    arguments = fit_arguments(csv, folder)
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = main(arguments)
    assert code == 0, stderr.getvalue()
    return SimpleNamespace(folder=folder, csv=csv, arguments=arguments, stdout=stdout.getvalue())
