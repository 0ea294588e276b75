"""What every entry of the registry must do, with every other.

Models: each allowed prior x network x likelihood has a finite log density and gradient, shapes that
NumPyro's Predictive agrees with, and one compiled program a structure. Backends: a tiny run of
each (`make validate`: on combinations in which every pair of levels meets).

A new entry is tested with its default options; what makes it small, and variants of it worth
testing, are named in _rows.py.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer import Predictive

from bnnzoo import registry
from bnnzoo.errors import InputError
from bnnzoo.inference import fit
from bnnzoo.inference.draws import ArrayDraws
from bnnzoo.inference.linearised import read_vectors
from bnnzoo.inference.precision import precision
from bnnzoo.models import Posterior

sys.path.insert(0, str(Path(__file__).parent))
from _pairs import all_pairs
from _rows import (
    CLASSES,
    ROWS,
    SEED,
    SMALL,
    TEST_ROWS,
    dataset,
    label,
    make,
    parts,
    rows_of,
    target_of,
)

CHAINS, DRAWS, WARMUP = 2, 20, 20

LONG = (
    *("adjusted-mclmc", "mile", "smc", "laplace", "pathfinder", "flow-vi", "low-rank-vi"),
    *("full-rank-vi", "last-layer-vi", "sgnht", "psgld", "cyclical-sgld", "cyclical-sghmc"),
    *("gg-mc", "gibbs-hmc", "map", "deep-ensemble", "swag", "svgd", "nuts", "mclmc", "sghmc"),
    *("mean-field-vi", "hmc", "sgld"),
)
"""Backends whose programs take long to compile, or are variants of another: `make validate` runs
them here; `make test` has files of their own for them."""

# -- models ------------------------------------------------------------------------------------

TRACES: list[str] = []


@jax.jit
def value_and_gradient(post, points):
    TRACES.append("traced")
    return jax.vmap(jax.value_and_grad(post.log_density))(points)


def check_model(row):
    target = target_of(row)
    model = make(row)
    try:
        model.bind(dataset(target))
    except InputError as error:
        # A prior of axes that some layers do not have: said before anything is compiled.
        assert row["network"][0] != "mlp" or "has no convolution" in str(error)
        assert "\n" not in str(error)
        way_out = ("a rule", "prior.", "nearest:")
        assert any(words in str(error) for words in way_out), "it names the way out"
        return None
    post = Posterior(model, dataset(target))
    u = jax.random.normal(jax.random.key(SEED), (post.dimension,))
    points = jnp.stack([u, 5 * u])
    values, gradients = value_and_gradient(post, points)
    assert jnp.isfinite(values).all() and jnp.isfinite(gradients).all()
    assert jnp.all(jnp.any(gradients != 0, axis=0)), "every parameter matters"
    traced = len(TRACES)
    other = Posterior(make(row, bias_std=0.5), dataset(target, seed=1), 0.7, 1.3)
    assert jax.tree.structure(post) == jax.tree.structure(other)
    assert hash(jax.tree.structure(post)) == hash(jax.tree.structure(other))
    assert not np.array_equal(value_and_gradient(other, points)[0], values)
    assert len(TRACES) == traced, "other data, temperatures and scales compile nothing"

    given = {name: v[None] for name, v in post.constrain(u).items()}
    bound = model.bind(dataset(target))
    y = Predictive(bound, given)(jax.random.key(SEED), post.x[:4])["y"]
    assert y.shape == (1, 4) and jnp.isfinite(y).all()
    assert post.predict(u, post.x[:4]).shape == (4, CLASSES if target == "classes" else 1)
    return post, bound


def check_draws(post, bound):
    """Draws from the prior; apart, as compiling a family's sampler takes seconds."""
    u = post.initial(jax.random.key(SEED))
    assert u.shape == (post.dimension,)
    values, gradients = value_and_gradient(post, jnp.stack([u, u]))
    assert jnp.isfinite(values).all() and jnp.isfinite(gradients).all()
    drawn = Predictive(bound, num_samples=1)(jax.random.key(SEED), post.x)
    assert drawn.pop("y").shape == (1, ROWS)
    assert {name: v.shape for name, v in drawn.items()} == {
        **{site.name: (1, *site.shape) for site in post.sites},
        **{info.path: (1, *info.shape) for info in post.derived},
    }


def each_once(variants=False):
    """Rows in which every entry appears: as many as the longest kind has entries."""
    kinds = parts(variants)
    count = max(map(len, kinds.values()))
    return [{name: levels[k % len(levels)] for name, levels in kinds.items()} for k in range(count)]


MLP = ("mlp", SMALL["networks", "mlp"])


def quick_models():
    """On one network, every likelihood: other programs take long, and priors have own files."""
    rows, count = each_once(), len(parts(False)["likelihood"])
    return [
        pytest.param(
            row | {"network": MLP}, id=label(row), marks=pytest.mark.validate if k >= count else ()
        )
        for k, row in enumerate(rows)
    ]


@pytest.mark.parametrize("row", quick_models())
def test_every_prior_and_likelihood_of_the_registry(row):
    check_model(row)


@pytest.mark.validate
@rows_of(each_once())
def test_every_model_of_the_registry(row):
    if made := check_model(row):
        check_draws(*made)


@pytest.mark.validate
@rows_of(each_once(variants=True))
def test_every_variant(row):
    check_model(row)


@pytest.mark.validate
@rows_of(all_pairs(parts(variants=True)))
def test_every_pair_of_variants(row):
    if made := check_model(row):
        check_draws(*made)


# -- backends ----------------------------------------------------------------------------------

FACTORS = {
    "backend": registry.list_names("backends"),
    **parts(variants=False),
    "posterior_temperature": (1.0, 0.3),
    "likelihood_temperature": (1.0, 0.5),
    "dtype": ("float32", "float64"),
}
GROUPS = {
    "posterior",
    "sample_stats",
    "warmup_sample_stats",
    "log_likelihood",
    "observed_data",
    "constant_data",
    "posterior_predictive",
    "predictions",
    "predictions_constant_data",
    "test_scores",
    "function_draws",
}


def check_run(row):
    data = dataset(target_of(row))
    settings = ("backend", "posterior_temperature", "likelihood_temperature", "dtype")
    if refused := refusal(row, data):
        assert "\n" not in refused
        able = set(registry.list_names("backends", exact=True)) - {row["backend"]}
        assert any(name in refused for name in able), "it names a backend that can"
        with pytest.raises(InputError):
            fit(make(row), data, progress=False, **{name: row[name] for name in settings})
        return
    warmup = min(WARMUP, registry.get("backends", row["backend"]).build({}).default_warmup)
    run = fit(
        make(row),
        data,
        chains=CHAINS,
        draws=DRAWS,
        warmup=warmup,
        seed=SEED,
        progress=False,
        **{name: row[name] for name in settings},
        **SMALL.get(("backends", row["backend"]), {}),
    )
    tree = run.tree
    bound = [site.name for site in run.posterior.sites if not site.free]
    wanted = GROUPS if warmup else GROUPS - {"warmup_sample_stats"}
    wanted = wanted | ({"unconstrained_posterior"} if bound else set())
    assert set(tree.children) == wanted | ({"mode"} if row["backend"] == "laplace" else set())
    assert not bound or set(tree["unconstrained_posterior"].data_vars) == set(bound)
    assert tree["posterior"].attrs["posterior_temperature"] == row["posterior_temperature"]
    assert tree["posterior"].attrs["likelihood_temperature"] == row["likelihood_temperature"]

    moved = set()
    for site in run.posterior.sites:
        drawn = tree["posterior"][site.name]
        assert drawn.dims[:2] == ("chain", "draw")
        assert drawn.shape == (CHAINS, DRAWS, *site.shape) and drawn.dtype == row["dtype"]
        assert np.isfinite(drawn).all()
        first, second = drawn.to_numpy()
        assert not np.array_equal(first, second), "chains differ"
        if len(np.unique(first.reshape(DRAWS, -1), axis=0)) > 1:
            moved.add(site.name)
    for info in run.posterior.derived:
        drawn = tree["posterior"][info.path]
        assert drawn.shape == (CHAINS, DRAWS, *info.shape) and drawn.dtype == row["dtype"]
    every, tags = (
        {s.name for s in run.posterior.sites},
        registry.describe("backends", row["backend"]).tags,
    )
    if tags["family"] == "dropout":  # a mask leaves biases and the first layer as trained
        kernels = {i.path for i in run.posterior.network.infos if i.role == "kernel"}
        assert moved and moved < kernels, "the masks change"
        assert row["network"][0] != "mlp" or moved == {"layers.1.kernel"}
    else:
        assert moved and (moved == every or tags.get("points", False)), "the chain moves"
    assert set(tree["sample_stats"].data_vars) == {*_stats(row["backend"]), "virial"}
    assert tree["sample_stats"]["lp"].shape == (CHAINS, DRAWS)
    assert not warmup or tree["warmup_sample_stats"]["lp"].shape == (CHAINS, warmup)

    sizes = {"chain": CHAINS, "draw": DRAWS}
    terms = tree["log_likelihood"]["y"]
    assert dict(terms.sizes) == {**sizes, "row": ROWS} and np.isfinite(terms).all()
    outputs = len(data.class_names) or 1
    f = tree["function_draws"]["f"]
    assert dict(f.sizes) == {**sizes, "point": TEST_ROWS, "output": outputs}
    assert np.isfinite(f).all()
    total = tree["function_draws"]["log_likelihood"]
    np.testing.assert_allclose(terms.sum("row"), total, rtol=1e-3, atol=1e-2)
    first = {s.name: tree["posterior"][s.name].to_numpy()[0, 0] for s in run.posterior.sites}
    with precision(row["dtype"]):
        u = run.posterior.unconstrain(first)
        points = None
        if "mode" in tree.children:
            centre = {s.name: tree["mode"][s.name].to_numpy()[0] for s in run.posterior.sites}
            points = np.asarray(run.posterior.unconstrain(centre))[None]
        reading, draws = read_vectors(run.posterior, ArrayDraws(np.asarray(u)[None, None]), points)
        modelled = float(reading.log_likelihood(jnp.asarray(draws.read(0, 1)[0])))
    volume = ROWS * np.log(run.posterior.scaling.y_std)  # the tree is in the target's own units
    np.testing.assert_allclose(total[0, 0], modelled - volume, rtol=1e-3, atol=1e-2)
    assert dict(tree["posterior_predictive"]["y"].sizes) == {**sizes, "row": ROWS}
    assert dict(tree["predictions"]["y"].sizes) == {**sizes, "test_row": TEST_ROWS}
    assert tree["test_scores"]["log_density"].shape == (TEST_ROWS,)

    classes, numbers = {"accuracy", "nll", "brier", "ece"}, {"rmse", "nll", "crps", "coverage_90"}
    wanted = classes if data.task == "classification" else numbers
    metrics = run.metrics()
    assert wanted <= set(metrics) and np.isfinite(list(metrics.values())).all()
    uses_gradients = registry.describe("backends", row["backend"]).tags["gradients"] != "none"
    assert (run.manifest["gradients"] > 0) == uses_gradients and run.manifest["state"] == "complete"
    assert not [flag for flag in run.manifest["flags"] if flag["kind"] == "nan"]


def refusal(row, data):
    """The line with which a backend refuses a model; None where it can treat it."""
    with precision(row["dtype"]):
        temperatures = row["posterior_temperature"], row["likelihood_temperature"]
        post = Posterior(make(row), data, *temperatures)
        try:
            registry.get("backends", row["backend"]).build({}).check(post)
        except InputError as error:
            return str(error)
    return None


def _stats(backend):
    return registry.get("backends", backend).build({}).stats


def quick_rows():
    """Every backend where densities are hardest; one of them, and one that refuses, at ease.

    A backend sees a log density. What differs between those is whether sites depend on each other,
    the temperatures and the precision; networks, likelihoods and priors of independent weights look
    alike to it. One model for all of them: its other programs are compiled once.
    """
    easy = ("gaussian", "categorical", 1.0, 1.0, "float32")
    hard = ("hierarchical-gaussian", "gaussian", 0.3, 0.5, "float64")
    names = ("prior", "likelihood", "posterior_temperature", "likelihood_temperature", "dtype")
    pairs = [(backend, hard) for backend in FACTORS["backend"]]
    pairs += [("hmc", easy), ("elliptical-slice", easy), ("mc-dropout", easy)]
    rows = []
    for backend, (prior, likelihood, *others) in pairs:
        given = ((prior, {}), (likelihood, {}), *others)
        row = {"backend": backend, "network": MLP}
        rows.append(row | dict(zip(names, given, strict=True)))
    return rows


@pytest.mark.parametrize("backend", FACTORS["backend"])
def test_a_backend_can_be_compared(backend):
    """Its card has every fact of the table in the docs, and the paper it is from."""
    card = registry.describe("backends", backend)
    assert tuple(card.facts) == registry.FACTS["backends"] and card.references
    assert {"exact", "family", "gradients"} <= set(card.tags)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row,
            id=label(row),
            marks=pytest.mark.validate
            if row["backend"] in LONG or row["dtype"] == "float32"
            else (),
        )
        for row in quick_rows()
    ],
)
def test_every_backend(row):
    check_run(row)


@pytest.mark.validate
@rows_of(all_pairs(FACTORS))
def test_every_pair_of_backend_model_and_temperature(row):
    check_run(row)


# -- the covering set --------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3, 2, 1, 2, 2, 2), (1, 4), (4, 3, 5, 2), (2,) * 10])
def test_every_pair_of_levels_appears(sizes):
    factors = {f"factor {n}": list(range(size)) for n, size in enumerate(sizes)}
    rows = all_pairs(factors)
    for a, b in itertools.combinations(factors, 2):
        met = {(row[a], row[b]) for row in rows}
        assert met == set(itertools.product(factors[a], factors[b]))
    largest, second = sorted(sizes)[-1], sorted(sizes)[-2]
    assert len(rows) <= 3 * largest * second, "far fewer than the full product"
    assert all(row.keys() == factors.keys() for row in rows)


def test_a_single_factor_or_none():
    assert all_pairs({"a": [1, 2]}) == [{"a": 1}, {"a": 2}]
    assert all_pairs({}) == []


def test_the_registry_is_covered():
    """Each backend runs quickly; in full, it meets each prior, each network, each likelihood."""
    assert {row["backend"] for row in quick_rows()} == set(registry.list_names("backends"))
    rows = all_pairs(FACTORS)
    for factor in ("prior", "network", "likelihood"):
        met = {(row["backend"], row[factor][0]) for row in rows}
        levels = {name for name, _ in FACTORS[factor]}
        names = itertools.product(registry.list_names("backends"), levels)
        assert met == set(names)
