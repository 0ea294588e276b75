"""The evidence from held Kronecker factors against the spectrum's, and what may be held."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bnnzoo as bz
from bnnzoo.inference import kfac_evidence
from bnnzoo.inference.curvature import output_roots
from bnnzoo.inference.hyper_parameters import grouped, make_groups, placed
from bnnzoo.inference.kfac import factors, numbers_a_row
from bnnzoo.inference.laplace_structures import Flavour, log_normaliser
from bnnzoo.inference.network_heads import heads, row_loss
from bnnzoo.inference.network_layers import find_layers, reads_data_alone
from bnnzoo.inference.precision import precision
from bnnzoo.inference.tuners.laplace import evidence_and_slope, inputs_once

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))
ROWS = 20


class Skipping(nnx.Module):
    """Two layers read the rows, one of them a cosine of them; the third what weights made."""

    def __init__(self, in_shape, out_shape, *, rngs):
        self.first = nnx.Linear(in_shape[0], 3, rngs=rngs)
        self.beside = nnx.Linear(in_shape[0], 3, use_bias=False, rngs=rngs)
        self.last = nnx.Linear(3, out_shape[0], rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.tanh(self.first(x)) + self.beside(jnp.cos(x)))


def prepared(network, likelihood, groups, shape=(3,), outputs=1, noise=True, **options):
    """A posterior with prior ``grouped-gaussian``, and a start away from the model's own widths."""
    random = np.random.default_rng([SEED, 5])
    x = 2.0 + random.normal(size=(ROWS, *shape))  # biases are far from orthogonal to inputs
    classes = likelihood in ("categorical", "curated", "bernoulli", "ordinal")
    y = np.arange(ROWS) % 3 if classes else random.normal(size=(ROWS, outputs)).squeeze()
    if likelihood == "bernoulli":
        y = y % 2
    y = np.abs(np.round(2 * y)) if likelihood == "poisson" else y
    task = "classification" if classes else "regression"
    data = bz.make_dataset(x, y, task=task, scale="none")
    model = bz.make_model(network, likelihood=likelihood, **options)
    bound = model.bind(data)
    chosen, start = make_groups(bound, bound.bound, groups, noise)
    posterior = bz.Posterior(grouped(model, chosen, start), data)
    moved = {name: v + 0.3 * (k + 1) for k, (name, v) in enumerate(sorted(start.items()))}
    u = 0.5 * jax.random.normal(jax.random.key(SEED), (posterior.dimension,))
    return posterior, chosen, moved, u


def mlp(**options):
    return {"network_options": {"widths": [4, 4]} | options}


FIXED = {"likelihood_options": {"noise": "fixed", "noise_std": 0.4}}
HEAVY = {"likelihood_options": {"noise": "fixed", "scale": 0.4, "df": 4.0}}
SHIFTED = {
    "augmentation": "shift",
    "augmentation_options": {"pixels": 1, "combine": "averaged-logits"},
}
IMAGES = {"shape": (4, 4, 1)}
CASES = {
    "layer": ("mlp", "categorical", "layer", {"network_options": {"widths": [3]}}),
    "layers": ("mlp", "categorical", "layer", mlp()),
    "input": ("mlp", "categorical", "input", mlp()),
    "global": ("mlp", "curated", "global", mlp()),
    "lone biases": ("mlp", "bernoulli", "layer", mlp(parameterisation="ntk")),
    "noise": ("mlp", "gaussian", "layer", {**mlp(), **FIXED}),
    "noise, input": ("mlp", "gaussian", "input", {**mlp(), **FIXED}),
    "two noisy targets": ("mlp", "gaussian", "layer", {**mlp(), **FIXED, "outputs": 2}),
    "heavy noise": ("mlp", "student-t", "layer", {**mlp(), **HEAVY}),
    "cutpoints": ("mlp", "ordinal", "layer", mlp()),
    "no bias": (Skipping, "categorical", "layer", {}),
    "images": ("cnn", "categorical", "layer", IMAGES),
    "images, reduce": ("cnn", "categorical", "layer", IMAGES),
    "copies": ("cnn", "categorical", "layer", {**IMAGES, **SHIFTED}),
}


@pytest.mark.validate
@pytest.mark.parametrize("case", list(CASES))
def test_value_and_gradient_are_those_of_the_spectrum(case):
    """To 1e-9: there eigenvectors are found anew, and differentiated, at every width.

    Blocks of seven rows of twenty, so that the last is padded.
    """
    network, likelihood, groups, given = CASES[case]
    sharing = "reduce" if "reduce" in case else "expand"
    with precision("float64"):
        posterior, chosen, hyper, u = prepared(network, likelihood, groups, **given)
        per_row = numbers_a_row(posterior, u, find_layers(posterior), "ggn")
        flavour = Flavour("kron", "ggn", sharing, 1, 2 * 7 * 8 * per_row)
        once = inputs_once(posterior, flavour)
        value, slope = evidence_and_slope(posterior, chosen, hyper, u, flavour, once)

        @jax.jit
        def wanted(hyper):
            return log_normaliser(placed(posterior, chosen, hyper), u, flavour)

        exact, exact_slope = jax.value_and_grad(wanted)(hyper)
    assert float(value) == pytest.approx(float(exact), rel=1e-9)
    for name, found in slope.items():
        scale = float(jnp.abs(exact_slope[name]).max())
        np.testing.assert_allclose(found, exact_slope[name], rtol=1e-7, atol=1e-9 * scale)


@pytest.mark.validate
def test_what_is_found_once_serves_other_weights_and_widths():
    """The same with and without it, at a point and widths that it was not found at."""
    with precision("float64"):
        posterior, chosen, hyper, u = prepared("mlp", "categorical", "layer", **mlp())
        flavour = Flavour("kron", "ggn", "expand", 1, 2**20)
        once = inputs_once(posterior, flavour)
        other = {name: v - 0.7 for name, v in hyper.items()}
        known = evidence_and_slope(posterior, chosen, other, -2.0 * u, flavour, once)
        plain = evidence_and_slope(posterior, chosen, other, -2.0 * u, flavour)
    assert float(known[0]) == pytest.approx(float(plain[0]), rel=1e-12)
    for name, slope in known[1].items():
        assert float(slope) == pytest.approx(float(plain[1][name]), rel=1e-9)


@pytest.mark.parametrize(
    ("network", "shape", "options", "alone"),
    [
        ("mlp", (3,), {"widths": [4, 4]}, [True, False, False]),
        pytest.param(
            *("mlp", (3,), {"widths": [4, 4], "residual": "1/blocks"}, None),
            marks=pytest.mark.validate,
        ),
        pytest.param("cnn", (4, 4, 1), {}, None, marks=pytest.mark.validate),
        (Skipping, (3,), {}, [True, True, False]),
    ],
)
def test_layers_that_read_the_rows_alone_are_known(network, shape, options, alone):
    """Against what moves where weights do, by differences: all inputs at two weights."""
    with precision("float64"):
        posterior, _, _, u = prepared(
            network, "categorical", "layer", shape, network_options=options
        )
        layers = find_layers(posterior)
        flavour = Flavour("kron", "ggn", "expand", 1, 2**20)
        at = jax.jit(lambda u: [a for a, _ in factors(posterior, u, layers, flavour)[0]])
        same = [bool(jnp.all(a == b)) for a, b in zip(at(u), at(2.0 * u), strict=True)]
        found = reads_data_alone(posterior, layers)
    assert found == same
    assert alone is None or found == alone


@pytest.mark.validate
@pytest.mark.parametrize("likelihood", ["categorical", "curated", "bernoulli", "poisson"])
def test_roots_that_are_written_down_are_roots_of_the_hessian(likelihood):
    with precision("float64"):
        posterior, _, _, u = prepared("mlp", likelihood, "layer", **mlp())
        batch = jnp.arange(ROWS)
        roots, clipped = jax.jit(lambda u: output_roots(posterior, u, batch, "ggn"))(u)
        second = jax.vmap(
            jax.hessian(lambda h, n: row_loss(posterior, u, h, n)),
        )(heads(posterior, u, batch), batch)
    np.testing.assert_allclose(roots @ roots.swapaxes(1, 2), second, atol=1e-12)
    np.testing.assert_allclose(clipped[1], np.trace(second, axis1=1, axis2=2), atol=1e-12)
    assert not np.any(clipped[0])


@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_a_bias_beside_large_inputs_costs_no_digits_that_a_has(mean):
    """In float32, against float64: no worse than A whose entries are off by 13 units of rounding.

    Of 13 inputs; a backward stable decomposition is allowed as much. Means of 30 deviations make
    A's last column all but one of the others', so that one unit is 1e-3 nats there.
    """
    random = np.random.default_rng(SEED)
    x = np.concatenate([mean + random.normal(size=(2_000, 12)), np.ones((2_000, 1))], 1)
    a, b = (x.T @ x).astype(np.float32), np.logspace(-6, 1, 8).astype(np.float32)
    rows = np.asarray([0.5] * 12 + [2.0], np.float32)
    with precision("float32"):
        posterior, _, _, _ = prepared("mlp", "categorical", "layer", (12,), **mlp())
        layer = find_layers(posterior)[0]
        held = kfac_evidence._prepared(posterior, layer, jnp.asarray(a))
        of = jax.jit(lambda b: kfac_evidence._uniform(layer, held, b[None], jnp.asarray(rows)))
        found = np.array([float(of(k)) for k in jnp.asarray(b)])

    def exact(a):
        return np.array(
            [np.linalg.slogdet(float(k) * a + np.diag(rows.astype(float)))[1] for k in b]
        )

    wanted, shifts = exact(a.astype(float)), []
    for _ in range(20):
        off = np.tril(random.uniform(-1.0, 1.0, a.shape))
        off = np.finfo(np.float32).eps * (off + np.tril(off, -1).T)
        shifts.append(np.abs(exact(a * (1.0 + off)) - wanted))
    rounding = np.finfo(np.float32).eps * np.abs(wanted)  # of the sum itself
    assert np.all(np.abs(found - wanted) <= 13 * (np.max(shifts, axis=0) + rounding + 1e-7))
