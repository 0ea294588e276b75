"""Every flavour of the Laplace precision against explicit Jacobians and Hessians, in float64."""

from __future__ import annotations

import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.inference import curvature, laplace_structures, spectra
from bnnzoo.inference.laplace_structures import Flavour, blocks, coordinates
from bnnzoo.inference.precision import precision

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))
ROWS, NOISE, BIAS_STD = 7, 0.4, 1.3
BUDGET = 2**26


class Case(NamedTuple):
    """A posterior, a point, and what its density is made of, written out."""

    posterior: bz.Posterior
    u: jax.Array
    head: object
    loss: object
    prior: np.ndarray


def flavour(structure, kind="ggn", sharing="expand", rank=3, memory=BUDGET):
    return Flavour(structure, kind, sharing, rank, memory)


def regression(T=1.0, L=1.0):
    return _case("gaussian", {"noise": "fixed", "noise_std": NOISE}, T, L)


def classes(T=1.0, L=1.0):
    return _case("categorical", {}, T, L)


def _case(likelihood, options, T, L):
    random = np.random.default_rng(SEED)
    x = random.normal(size=(ROWS, 2))
    if likelihood == "gaussian":
        data = bz.make_dataset(x, random.normal(size=(ROWS, 2)), task="regression", scale="none")
    else:
        data = bz.make_dataset(x, np.arange(ROWS) % 3, task="classification", scale="none")
    model = bz.make_model(
        "mlp",
        "gaussian",
        likelihood,
        network_options={"widths": [3, 2]},
        prior_options={"std": 0.8, "bias_std": BIAS_STD},
        likelihood_options=options,
    )
    posterior = bz.Posterior(model, data, T, L)
    u = 0.7 * jax.random.normal(jax.random.key(SEED), (posterior.dimension,))
    sites = {s.name: s for s in posterior.sites}

    def head(u):
        h = posterior.x
        for layer in range(3):
            kernel, bias = (sites[f"layers.{layer}.{n}"].take(u) for n in ("kernel", "bias"))
            h = h @ kernel + bias
            h = jnp.tanh(h) if layer < 2 else h
        return h

    def loss(h):
        """Of each row."""
        if likelihood == "gaussian":
            return 0.5 * jnp.sum((posterior.y - h) ** 2, 1) / NOISE**2
        return jax.nn.logsumexp(h, 1) - h[jnp.arange(ROWS), posterior.y]

    prior = np.zeros(posterior.dimension)
    for site in posterior.sites:
        std = BIAS_STD if site.name.endswith("bias") else 0.8 / np.sqrt(site.shape[0])
        prior[site.offset : site.offset + site.size] = 1.0 / std**2
    return Case(posterior, u, head, loss, prior)


def reference(case, kind):
    """The likelihood's curvature, with every Jacobian written out."""
    if kind == "hessian":
        return np.asarray(jax.hessian(lambda u: case.loss(case.head(u)).sum())(case.u))
    J = np.asarray(jax.jacobian(case.head)(case.u))
    h = case.head(case.u)
    if kind == "empirical-fisher":
        g = np.asarray(jax.grad(lambda h: case.loss(h).sum())(h))
        rows = np.einsum("nc,ncp->np", g, J)
        return rows.T @ rows
    second = np.asarray(jax.jacobian(jax.grad(lambda h: case.loss(h).sum()))(h))
    total = np.zeros((case.u.size,) * 2)
    for n in range(ROWS):
        total += J[n].T @ second[n, :, n, :] @ J[n]
    return total


_blocks = jax.jit(blocks, static_argnums=2)


def precision_matrix(spectrum, size):
    """H of a spectrum, column by column."""
    root = np.sqrt(np.asarray(spectrum.precision))
    columns = np.asarray(spectrum.apply(lambda t: t, jnp.eye(size)))
    return root[:, None] * columns * root


@pytest.fixture(autouse=True)
def double():
    with precision("float64"):
        yield


@pytest.mark.parametrize(
    ("T", "L"),
    [(0.3, 0.5), *(pytest.param(*c, marks=pytest.mark.validate) for c in ((1.0, 1.0), (0.1, 2.0)))],
)
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (classes, "ggn"),
        pytest.param(regression, "empirical-fisher", marks=pytest.mark.validate),
        pytest.param(regression, "ggn", marks=pytest.mark.validate),
        pytest.param(classes, "empirical-fisher", marks=pytest.mark.validate),
        pytest.param(classes, "hessian", marks=pytest.mark.validate),
        pytest.param(regression, "hessian", marks=pytest.mark.validate),
    ],
)
@pytest.mark.validate
def test_dense_diagonal_and_last_layer_equal_explicit_jacobians(make, kind, T, L):
    """To 1e-8 of the largest entry, at every temperature; deterministic.

    Where an exact Hessian is not positive definite the directions that are not are counted, and
    have the precision of the prior.
    """
    case = make(T, L)
    exact = reference(case, kind) / (T * L) + np.diag(case.prior) / T
    size = case.u.size
    last = [s for s in case.posterior.sites if s.name.startswith("layers.2")]
    ours = np.concatenate([np.arange(s.offset, s.offset + s.size) for s in last])
    wanted = {"full": exact, "diagonal": np.diag(np.diag(exact))}
    wanted["last-layer"] = exact[np.ix_(ours, ours)]
    for structure, matrix in wanted.items():
        found = _blocks(case.posterior, case.u, flavour(structure, kind))
        where, rest = coordinates(case.posterior, flavour(structure, kind))
        assert len(rest) == 0 and len(where) == len(matrix)
        if structure == "last-layer":
            assert set(where) == set(ours)
            order = np.argsort(ours)
            matrix = matrix[np.ix_(order, order)][np.ix_(*[np.argsort(np.argsort(where))] * 2)]
        whiten = np.sqrt(case.prior[where] / T)
        relative = matrix / np.outer(whiten, whiten)
        values, vectors = np.linalg.eigh(relative)
        assert int(found.flat) == (values <= spectra.LEAST).sum()
        if kind != "hessian":
            assert found.flat == 0
        kept = np.where(values <= spectra.LEAST, 1.0, values)
        matrix = np.outer(whiten, whiten) * (vectors * kept @ vectors.T)
        np.testing.assert_allclose(
            precision_matrix(found.network, len(where)), matrix, atol=1e-8 * np.abs(matrix).max()
        )
        covariance = np.linalg.inv(matrix)
        np.testing.assert_allclose(
            np.asarray(spectra.solve(found.network, jnp.eye(len(where)))),
            covariance,
            atol=1e-8 * np.abs(covariance).max(),
        )
        half = np.asarray(spectra.draw(found.network, jnp.eye(len(where))))
        np.testing.assert_allclose(half.T @ half, covariance, atol=1e-8 * np.abs(covariance).max())
        np.testing.assert_allclose(
            float(spectra.log_det(found.network)), np.linalg.slogdet(matrix)[1], rtol=1e-9
        )
    assert size == 23 if make is regression else 26


@pytest.mark.parametrize(
    ("kind", "dtype", "tolerance"),
    [("ggn", "float64", 1e-9), ("empirical-fisher", "float64", 1e-9), ("ggn", "float32", 2e-3)],
)
def test_few_rows_are_the_matrix_they_make(kind, dtype, tolerance, monkeypatch):
    """Their eigenvectors against those of the dense matrix in float64, relative to the prior.

    Eigenvalues reach 3e4, so that half would be lost in float32 if rows were multiplied; its error
    is that of the rows themselves. Covariances and log-determinants of three outputs and one.
    """
    random = np.random.default_rng(SEED)
    x = random.normal(size=(100, 8))
    likelihood = {"noise": "fixed", "noise_std": 0.1}
    model = bz.make_model(network_options={"widths": [60]}, likelihood_options=likelihood)
    data = bz.make_dataset(x, random.normal(size=(100, 2)), task="regression", scale="none")
    given = flavour("full", kind)
    drawn = None
    found = {}
    for each, few in (("float64", False), (dtype, True)):
        with precision(each):
            posterior = bz.Posterior(model, data, 0.3, 0.5)
            drawn = np.asarray(posterior.initial(jax.random.key(SEED))) if drawn is None else drawn
            assert laplace_structures.has_few_rows(posterior, given)
            with monkeypatch.context() as patch:
                if not few:
                    patch.setattr(laplace_structures, "has_few_rows", lambda *_: False)
                program = jax.jit(lambda p, u: blocks.__wrapped__(p, u, given))  # of this patch
                made = program(posterior, jnp.asarray(drawn, posterior.x.dtype))
            assert isinstance(made.network, spectra.LowRank if few else spectra.Dense)
            assert made.flat == 0
            root = jnp.sqrt(made.network.precision)
            covariance = root[:, None] * spectra.solve(made.network, jnp.eye(len(root))) * root
            found[few] = np.asarray(covariance), float(spectra.log_det(made.network))
            largest = float(made.network.values.max())
    assert kind != "ggn" or largest > 1e4
    np.testing.assert_allclose(found[True][0], found[False][0], atol=tolerance)
    np.testing.assert_allclose(found[True][1], found[False][1], rtol=1e-2 * tolerance)


@pytest.mark.parametrize(
    ("prior", "width", "few"),
    [("gaussian", 1300, True), ("laplace", 1300, False), ("gaussian", 16, True),
     ("gaussian", 15, False)],
)  # fmt: skip
def test_memory_is_asked_for_what_is_held(prior, width, few):
    """20 rows under 3 width + 1 weights: a matrix of 3,901 would be 122 MB; of 46 it is less."""
    data = bz.load_dataset("gap", n=20)
    posterior = bz.Posterior(bz.make_model("mlp", prior, network_options={"widths": [width]}), data)
    weights = len(coordinates(posterior, flavour("full"))[0])
    assert weights == 3 * width + 1
    needed = laplace_structures.bytes_held(posterior, flavour("full"))
    assert needed == 8 * (20 * (2 * weights + 20) if few else weights**2)


def test_a_tuner_holds_the_matrix_whatever_the_rows():
    data = bz.load_dataset("gap", n=20)
    model = bz.make_model(network_options={"widths": [8000]})
    with pytest.raises(
        bz.errors.InputError, match=r"24001 coordinates takes .* give tuner\.struct"
    ):
        bz.tune(model, data, "laplace", structure="full")


@pytest.mark.validate
@pytest.mark.parametrize(
    "kind",
    [
        "ggn",
        *(pytest.param(k, marks=pytest.mark.validate) for k in ("empirical-fisher", "hessian")),
    ],
)
def test_low_rank_is_the_dense_one_with_its_smallest_eigenvalues_left_out(kind):
    """Relative to the prior; to 1e-8. Of an exact Hessian the positive ones alone are kept."""
    case = classes(0.3, 0.5)
    root = np.sqrt(case.prior / 0.3)
    relative = reference(case, kind) / 0.15 / np.outer(root, root)
    values, vectors = np.linalg.eigh(relative)
    values[:-3] = 0.0
    wanted = np.outer(root, root) * (
        np.eye(len(root)) + vectors * np.maximum(values, 0) @ vectors.T
    )
    found = _blocks(case.posterior, case.u, flavour("low-rank", kind)).network
    assert found.values.shape == (3,)
    np.testing.assert_allclose(
        precision_matrix(found, len(root)), wanted, atol=1e-8 * np.abs(wanted).max()
    )
    np.testing.assert_allclose(float(spectra.log_det(found)), np.linalg.slogdet(wanted)[1])


def largest(jaxpr):
    """Elements of the largest array anywhere in a program."""
    sizes = [v.aval.size for e in jaxpr.eqns for v in e.outvars if hasattr(v.aval, "size")]
    inner = []
    for equation in jaxpr.eqns:
        for value in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns")):
            value = getattr(value, "jaxpr", value)
            if hasattr(value, "eqns"):
                inner.append(largest(value))
    return max([0, *sizes, *inner])


def test_no_jacobian_of_all_rows_beyond_the_budget():
    """The largest array of a program is that of a block of rows, and its result is the same."""
    random = np.random.default_rng(SEED)
    data = bz.make_dataset(random.normal(size=(300, 2)), np.arange(300) % 3, task="classification")
    model = bz.make_model(likelihood="categorical", network_options={"widths": [5]})
    posterior = bz.Posterior(model, data)
    u = jax.random.normal(jax.random.key(SEED), (posterior.dimension,))
    where = curvature.network_coordinates(posterior)
    whole, jacobian = {}, 300 * 3 * len(where)
    for memory in (2**26, 40_000):

        def of(u, memory=memory):
            return curvature.likelihood_diagonal(posterior, u, where, "ggn", memory)[0]

        sizes = largest(jax.make_jaxpr(of)(u).jaxpr)
        assert (sizes >= jacobian) == (memory > 40_000), (sizes, jacobian)
        assert memory > 40_000 or sizes * 8 <= memory
        whole[memory] = np.asarray(jax.jit(of)(u))
    np.testing.assert_allclose(whole[2**26], whole[40_000], rtol=1e-10)


def test_a_loss_that_is_not_convex_is_clipped_and_counted():
    """A Student-t loss bends down beyond |r| = scale sqrt(df): such rows count for nothing."""
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    y = np.array([0.1, -0.1, 5.0, 0.0])
    data = bz.make_dataset(x, y, task="regression", scale="none")
    model = bz.make_model(
        likelihood="student-t",
        network_options={"widths": []},
        likelihood_options={"noise": "fixed", "scale": 1.0, "df": 3.0},
    )
    posterior = bz.Posterior(model, data)
    u = jnp.zeros(posterior.dimension)
    found = _blocks(posterior, u, flavour("full"))
    second = 4.0 * (3.0 - y**2) / (3.0 + y**2) ** 2
    assert found.clipped == pytest.approx(-second[second < 0].sum() / np.abs(second).sum())
    kept = np.maximum(second, 0.0)
    order = [s.name for s in posterior.sites]
    columns = np.column_stack([x[:, 0] if "kernel" in n else np.ones(4) for n in order])
    wanted = columns.T @ (kept[:, None] * columns) + np.eye(2)
    np.testing.assert_allclose(precision_matrix(found.network, 2), wanted, rtol=1e-8)
