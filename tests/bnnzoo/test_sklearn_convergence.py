"""The warning that a fit cannot be relied on: when it comes, what it says, and that it helps."""

from __future__ import annotations

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from sklearn.exceptions import ConvergenceWarning

import bnnzoo as bz
from bnnzoo.sklearn._convergence import DIVERGENT_SHARE, doubts
from bnnzoo.specs import InferenceSpec


def wave(rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (rows, 1))
    return x, 10 + 5 * np.sin(2 * x[:, 0]) + 0.5 * rng.normal(size=rows)


def said_by(model: bz.BNNRegressor) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(*wave())
    return [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]


@pytest.mark.validate
def test_a_short_run_is_warned_of_and_its_remedy_helps():
    model = bz.BNNRegressor(
        likelihood="gaussian", network_options={"widths": [8]}, draws=10, warmup=10, random_state=0
    )
    (line,) = said_by(model)
    assert "\n" not in line
    found = re.fullmatch(
        r"BNNRegressor did not converge: R-hat of function values is [\d.]+, above 1.05.*; "
        r"fit again with warmup=(\d+), draws=(\d+).*",
        line,
    )
    assert found is not None, line
    assert said_by(model.set_params(warmup=int(found[1]), draws=int(found[2]))) == []


@pytest.mark.validate
def test_time_that_is_up_is_warned_of():
    model = bz.BNNRegressor(
        likelihood="gaussian",
        network_options={"widths": [8]},
        chains=1,  # others would wait for a core until time is up
        draws=10_000_000,
        warmup=10,
        max_time=2,
        random_state=0,
    )
    (line,) = said_by(model)
    assert re.search(r"time was up after [1-9]\d* of 10000000 draws a chain", line)
    assert "max_time=None" in line
    assert np.isfinite(model.predict(wave()[0])).all()


def run(f, *, diverging=0, flags=(), draws=None, **asked):
    """A run with these function values ``(chain, draw)``, as far as :func:`doubts` looks."""
    chains, made = f.shape
    divergent = np.arange(f.size).reshape(f.shape) < diverging
    dims = ("chain", "draw")
    functions = {"f": ((*dims, "point", "output"), f[..., None, None])}
    tree = {
        "posterior": xr.Dataset({"w": (dims, f)}),
        "function_draws": xr.Dataset(functions),
        "sample_stats": xr.Dataset({"diverging": (dims, divergent)}),
    }
    asked = {"options": {"target_acceptance": 0.9}, "warmup": 1000} | asked
    spec = InferenceSpec(chains=chains, draws=draws or made, **asked)
    said = [{"chain": 0, "kind": kind, "message": message} for kind, message in flags]
    return SimpleNamespace(
        tree=xr.DataTree.from_dict(tree),
        spec=SimpleNamespace(inference=spec),
        manifest={"flags": said},
    )


def mixed(chains=4, draws=1000):
    return np.random.default_rng(0).normal(size=(chains, draws))


def apart(chains=4, draws=1000):
    return mixed(chains, draws) + np.arange(chains)[:, None]


def test_a_good_run_is_not_doubted():
    assert doubts(run(mixed())) is None
    assert doubts(run(mixed(), diverging=int(DIVERGENT_SHARE * 4000))) is None
    assert doubts(run(mixed(chains=1))) is None
    assert doubts(run(mixed(), flags=[("divergent", "3 of 1000"), ("warning", "cut")])) is None


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            run(apart()),
            r"R-hat of function values is \d\.\d{3}, above 1.05; "
            r"fit again with warmup=2000, draws=2000",
        ),
        (
            run(apart(draws=20), warmup=20),
            r"R-hat .*; fit again with warmup=500, draws=500",
        ),
        (
            run(mixed(), diverging=200),
            r"5% of the draws ended in a divergence; "
            r"fit again with backend_options=\{'target_acceptance': 0.967\}",
        ),
        (
            run(mixed(draws=3)),
            r"3 draws a chain are too few to judge it; fit again with warmup=2000, draws=500",
        ),
        (
            run(np.cumsum(mixed(chains=1), 1)),
            r"the chain has \d+ effective draws, fewer than 100; "
            r"fit again with warmup=2000, draws=2000",
        ),
        (
            run(mixed(), draws=1500),
            r"time was up after 1000 of 1500 draws a chain; fit again with max_time=None",
        ),
        (
            run(mixed(), flags=[("stuck", "the chain hardly moves")]),
            r"the chain hardly moves; fit again with warmup=2000",
        ),
        (
            run(mixed(), flags=[("unconverged", "the bound could rise")], options={}),
            r"the bound could rise; fit again with warmup=2000",
        ),
        (
            run(mixed(), flags=[("nan", "not finite")], draws=1500),
            r"not finite; fit again with dtype='float64'",
        ),
        (
            run(apart(), diverging=4000, flags=[("stuck", "hardly moves")]),
            r"R-hat .*; 100% of .*; hardly moves; fit again with warmup=2000, draws=2000, "
            r"backend_options=\{'target_acceptance': 0.967\}",
        ),
    ],
    ids=["apart", "short", "divergent", "few", "one", "time", "stuck", "vi", "nan", "all"],
)
def test_what_is_doubtful_is_named_with_its_remedy(given, text):
    assert re.fullmatch(text, doubts(given))
