"""The evidence of estimator `laplace` against one that is written out densely, in float64.

The reference knows nothing of the library but where the mode is: the network, the loss and the
prior are written by hand, every Jacobian and Hessian is formed whole by automatic differentiation,
Kronecker factors by loops over rows.
"""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.inference.backends.laplace import Laplace
from bnnzoo.inference.hyper_parameters import grouped, make_groups
from bnnzoo.inference.laplace_structures import Flavour, log_normaliser
from bnnzoo.inference.loop import run_chains
from bnnzoo.inference.precision import precision
from bnnzoo.inference.tuners.laplace import evidence_and_slope

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))
ROWS, WIDTH, NOISE, STD, BIAS_STD = 12, 3, 0.4, 2.0, 1.3
STEPS, RANK = 300, 4
CLOSE = 1e-4
"""Nats."""


def flavour(structure, curvature):
    return Flavour(structure, curvature, "expand", RANK, 2**26)


@pytest.fixture(autouse=True)
def double():
    with precision("float64"):
        yield


class Case(NamedTuple):
    """A model at a point, written out.

    Attributes:
        posterior: for the library, as ``model`` and ``data``.
        u: the point ``(dim,)``.
        places: by path, where a parameter stands in it, and its shape.
        loss: of each row ``(row,)`` from outputs ``(row, output)``.
        prior: precision of each coordinate ``(dim,)``.
    """

    posterior: bz.Posterior
    model: object
    data: bz.Dataset
    u: np.ndarray
    places: dict
    loss: object
    prior: np.ndarray

    def layers(self, u):
        """Kernel and bias of both layers."""
        taken = {name: u[index].reshape(shape) for name, (index, shape) in self.places.items()}
        return [(taken[f"layers.{k}.kernel"], taken[f"layers.{k}.bias"]) for k in range(2)]

    def outputs(self, u):
        (first, b), (last, c) = self.layers(u)
        return jnp.tanh(self.data.x @ first + b) @ last + c

    def log_joint(self, u):
        prior = 0.5 * jnp.sum(jnp.log(self.prior / (2 * np.pi)) - self.prior * u**2)
        return prior - self.loss(self.outputs(u)).sum()


@functools.cache
def case_of(likelihood, at_mode=True):
    random = np.random.default_rng([SEED, 3])
    x = random.normal(size=(ROWS, 2))
    if likelihood == "gaussian":
        y = np.column_stack([np.sin(2 * x[:, 0]), x.sum(1)]) + NOISE * random.normal(size=(ROWS, 2))
        data = bz.make_dataset(x, y, task="regression", scale="none")
        given = {"noise": "fixed", "noise_std": NOISE}
    else:
        bent = x[:, 0] + x[:, 1] ** 2  # so that the mode uses its hidden units
        y = np.argsort(np.argsort(bent)) * 3 // ROWS
        data = bz.make_dataset(x, y, task="classification", scale="none")
        given = {}
    model = bz.make_model(
        "mlp",
        "gaussian",
        likelihood,
        network_options={"widths": [WIDTH]},
        prior_options={"std": STD, "bias_std": BIAS_STD},
        likelihood_options=given,
    )

    def loss(h):
        if likelihood == "gaussian":
            squares = jnp.sum((y - h) ** 2, 1) / NOISE**2
            return 0.5 * squares + np.log(NOISE**2 * 2 * np.pi)  # two targets a row
        return jax.nn.logsumexp(h, 1) - h[jnp.arange(ROWS), y]

    posterior = bz.Posterior(model, data)
    if at_mode:  # the climb is the same whatever Gaussian is put at its end
        climb = Laplace(flavour("diagonal", "ggn"), "sampled").planned(STEPS)
        sizes = {"chains": 1, "draws": 1, "warmup": STEPS, "seed": SEED, "dtype": "float64"}
        u = np.asarray(run_chains(climb, posterior, **sizes).states[0].mode)
    else:
        u = 0.7 * random.normal(size=posterior.dimension)
    places, prior = {}, np.zeros(len(u))
    for site in posterior.sites:
        index = np.arange(site.offset, site.offset + site.size)
        places[site.name] = (index, site.shape)
        prior[index] = (
            BIAS_STD if site.name.endswith("bias") else STD / site.shape[0] ** 0.5
        ) ** -2
    return Case(posterior, model, data, u, places, loss, prior)


def likelihood_curvature(case, curvature):
    """Dense, of the log-likelihood alone ``(dim, dim)``."""
    u = jnp.asarray(case.u)
    if curvature == "hessian":
        return np.asarray(jax.hessian(lambda u: case.loss(case.outputs(u)).sum())(u))
    J = np.asarray(jax.jacfwd(case.outputs)(u))
    h = case.outputs(u)
    if curvature == "empirical-fisher":
        rows = np.asarray(jax.jacfwd(lambda u: case.loss(case.outputs(u)))(u))
        return rows.T @ rows
    second = np.asarray(jax.hessian(lambda h: case.loss(h).sum())(h))
    return sum(J[n].T @ second[n, :, n, :] @ J[n] for n in range(ROWS))


def kronecker_precisions(case, curvature):
    """A kron B + prior of both layers, factors summed row by row."""
    (first, b), (last, _) = case.layers(case.u)
    A = [np.zeros((n + 1, n + 1)) for n in (2, WIDTH)]
    B = [np.zeros((m, m)) for m in (WIDTH, last.shape[1])]
    h = case.outputs(case.u)
    slopes = np.asarray(jax.grad(lambda h: case.loss(h).sum())(h))
    second = np.asarray(jax.hessian(lambda h: case.loss(h).sum())(h))
    for n in range(ROWS):
        hidden = np.tanh(case.data.x[n] @ first + b)
        middle = second[n, :, n, :] if curvature == "ggn" else np.outer(slopes[n], slopes[n])
        back = (1 - hidden**2)[:, None] * last  # of the outputs in the hidden layer's result
        for k, x in enumerate((case.data.x[n], hidden)):
            x = np.append(x, 1.0)
            A[k] += np.outer(x, x)
        B[0] += back @ middle @ back.T / ROWS
        B[1] += middle / ROWS
    made = []
    for k in range(2):
        own = np.concatenate([case.places[f"layers.{k}.{n}"][0] for n in ("kernel", "bias")])
        made.append((own, np.kron(A[k], B[k]) + np.diag(case.prior[own])))
    return made


def evidence(case, structure, curvature):
    """log lik + log prior - log|H / 2 pi| / 2 with H of the structure, dense."""
    dense = np.diag(case.prior) + likelihood_curvature(case, curvature)
    if structure == "full":
        precisions = [dense]
    elif structure == "diagonal":
        precisions = [np.diag(np.diag(dense))]
    elif structure == "last-layer":
        own = np.concatenate([case.places[f"layers.1.{n}"][0] for n in ("kernel", "bias")])
        precisions = [dense[np.ix_(own, own)]]
    elif structure == "low-rank":
        root = np.sqrt(case.prior)
        values, vectors = np.linalg.eigh((dense - np.diag(case.prior)) / np.outer(root, root))
        values, vectors = np.maximum(values[-RANK:], 0.0), vectors[:, -RANK:]
        precisions = [np.outer(root, root) * (np.eye(len(root)) + vectors * values @ vectors.T)]
    else:
        precisions = [H for _, H in kronecker_precisions(case, curvature)]
    logs = sum(np.linalg.slogdet(H / (2 * np.pi))[1] for H in precisions)
    return float(case.log_joint(case.u)) - 0.5 * logs


CASES = [
    (likelihood, structure, curvature)
    for likelihood in ("gaussian", "categorical")
    for structure in ("full", "kron", "diagonal", "last-layer", "low-rank")
    for curvature in ("ggn", "empirical-fisher", "hessian")
    if (structure, curvature) != ("kron", "hessian")  # no Kronecker product: refused
]


@pytest.mark.validate
@pytest.mark.parametrize(("likelihood", "structure", "curvature"), CASES)
def test_the_evidence_is_that_of_the_dense_matrices(likelihood, structure, curvature):
    """To 1e-4 nats, at the same mode; deterministic."""
    case = case_of(likelihood)
    slope = jax.grad(case.log_joint)(jnp.asarray(case.u))
    assert float(jnp.abs(slope).max()) < 1e-6
    options = {"structure": structure, "curvature": curvature, "modes": 1, "steps": STEPS}
    options |= {"rank": RANK} if structure == "low-rank" else {}
    said = bz.log_evidence(case.model, case.data, "laplace", seed=SEED, dtype="float64", **options)
    assert said.diagnostics["flat_directions"] == 0
    assert said.value == pytest.approx(evidence(case, structure, curvature), abs=CLOSE)


@pytest.mark.parametrize(
    ("likelihood", "structure", "curvature"),
    [
        ("gaussian", "kron", "ggn"),
        pytest.param("categorical", "full", "ggn", marks=pytest.mark.validate),
    ],
)
def test_the_integral_at_any_point_is_that_of_the_dense_matrices(likelihood, structure, curvature):
    """The same formula without the climb, which takes most of the time; to 1e-8 nats."""
    case = case_of(likelihood, at_mode=False)
    found = jax.jit(log_normaliser, static_argnums=2)(
        case.posterior, jnp.asarray(case.u), flavour(structure, curvature)
    )
    assert float(found) == pytest.approx(evidence(case, structure, curvature), abs=1e-8)


@pytest.mark.validate
@pytest.mark.parametrize("curvature", ["ggn", "empirical-fisher"])
@pytest.mark.parametrize("likelihood", ["gaussian", "categorical"])
@pytest.mark.parametrize("noise", [False, True])
def test_what_tuning_climbs_is_that_of_the_dense_matrices(likelihood, curvature, noise):
    """From factors held for all widths; to 1e-6 nats, for widths are written in nine digits."""
    case = case_of(likelihood, at_mode=False)
    bound = case.model.bind(case.data)
    chosen, start = make_groups(bound, bound.bound, "layer", noise)
    posterior = bz.Posterior(grouped(case.model, chosen, start), case.data)
    kron = flavour("kron", curvature)
    value, _ = evidence_and_slope(posterior, chosen, start, jnp.asarray(case.u), kron)
    assert float(value) == pytest.approx(evidence(case, "kron", curvature), abs=1e-6)


@pytest.mark.validate
@pytest.mark.parametrize("likelihood", ["gaussian", "categorical"])
def test_the_structures_differ_by_more_than_the_tolerance(likelihood):
    """Else agreement would say nothing of which was computed.

    But for a last layer, in which outputs are linear: there the exact Hessian is the Gauss-Newton
    matrix.
    """
    case = case_of(likelihood)
    same = (likelihood, "last-layer", "hessian")
    found = [evidence(case, *w[1:]) for w in CASES if w[0] == likelihood and w != same]
    assert np.diff(np.sort(found)).min() > 10 * CLOSE
