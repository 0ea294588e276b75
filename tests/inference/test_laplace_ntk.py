"""Bounds of Laplace's evidence by blocks of rows: where they are equal to it, and below it."""

from __future__ import annotations

import functools
import os
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.errors import InputError
from bnnzoo.inference.climbing import ascend
from bnnzoo.inference.curvature import network_coordinates
from bnnzoo.inference.estimators.laplace_ntk import total_of
from bnnzoo.inference.hyper_parameters import grouped, make_groups
from bnnzoo.inference.laplace_ntk import Blocks, log_dets, output_count, partition, without_data
from bnnzoo.inference.laplace_structures import Flavour, log_normaliser
from bnnzoo.inference.network_heads import heads, row_loss
from bnnzoo.inference.precision import precision
from bnnzoo.inference.tuners._following import value_and_slope
from bnnzoo.inference.tuners.laplace_ntk import BlockBound

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))
ROWS = 12
BUDGET = 2**26
SMALL = {"modes": 1, "steps": 300, "seed": SEED, "dtype": "float64"}


@pytest.fixture(autouse=True)
def double():
    with precision("float64"):
        yield


def case(likelihood="categorical", widths=(3,), **noise):
    """Twelve rows, a small network with widths of the prior that differ."""
    random = np.random.default_rng([SEED, 5])
    x = random.normal(size=(ROWS, 2))
    if likelihood == "categorical":
        data = bz.make_dataset(x, np.arange(ROWS) % 3, task="classification", scale="none")
    else:
        y = np.column_stack([np.sin(2 * x[:, 0]), x.sum(1)]) + 0.3 * random.normal(size=(ROWS, 2))
        data = bz.make_dataset(x, y, task="regression", scale="none")
        noise = noise or {"noise": "fixed", "noise_std": 0.3}
    model = bz.make_model(
        "mlp",
        "gaussian",
        likelihood,
        network_options={"widths": list(widths)},
        prior_options={"std": 1.7, "bias_std": 0.6},
        likelihood_options=noise,
    )
    return model, data


def point(model, data):
    posterior = bz.Posterior(model, data)
    u = 0.7 * jax.random.normal(jax.random.key(SEED), (posterior.dimension,))
    return posterior, u


def whole_kernel(posterior, u):
    """K of all rows ``(row, output, row, output)`` with symmetric roots, by whole Jacobians."""
    where = network_coordinates(posterior)
    batch = jnp.arange(posterior.rows)

    @jax.jit
    def parts(u):
        h = heads(posterior, u, batch)
        second = jax.vmap(jax.hessian(lambda h, n: row_loss(posterior, u, h, n)))(h, batch)
        prior = jax.grad(lambda u: -posterior.log_prior(u))
        widths = jax.jvp(prior, (u,), (jnp.ones_like(u),))[1]
        return jax.jacfwd(lambda u: heads(posterior, u, batch))(u), second, widths

    J, second, widths = map(np.asarray, parts(u))
    values, vectors = np.linalg.eigh(second)
    root = np.einsum("nhe,ne,nce->nhc", vectors, np.sqrt(np.maximum(values, 0)), vectors)
    K = np.einsum("nhc,nhp->ncp", root, J[:, :, where]) / np.sqrt(widths[where])
    return np.einsum("ncp,mdp->ncmd", K, K)


def naive(kernel, rows, outputs):
    """log|I + K| of some rows, jointly or output by output."""
    own = kernel[rows][:, :, rows]
    side = len(rows) * own.shape[1]
    if outputs == "joint":
        return np.linalg.slogdet(np.eye(side) + own.reshape(side, side))[1]
    each = [own[:, c, :, c] for c in range(own.shape[1])]
    return sum(np.linalg.slogdet(np.eye(len(rows)) + k)[1] for k in each)


@functools.partial(jax.jit, static_argnames=("outputs", "memory"))
def evaluated(posterior, u, blocks, columns, outputs, memory):
    base, widths = without_data(posterior, u, memory)
    return base, log_dets(posterior, u, widths, blocks, columns, outputs, memory)


def ours(posterior, u, blocks, outputs="joint", columns=None, memory=BUDGET):
    return np.asarray(evaluated(posterior, u, blocks, columns, outputs, memory)[1])


@pytest.mark.validate
@pytest.mark.parametrize(
    ("likelihood", "memory", "outputs"),
    [
        ("categorical", 4_000, "joint"),
        pytest.param("categorical", BUDGET, "independent", marks=pytest.mark.validate),
        pytest.param("categorical", BUDGET, "random", marks=pytest.mark.validate),
        pytest.param("gaussian", BUDGET, "joint", marks=pytest.mark.validate),
        pytest.param("gaussian", 1, "random", marks=pytest.mark.validate),
        pytest.param("gaussian", 1, "independent", marks=pytest.mark.validate),
    ],
)
def test_blocks_equal_whole_jacobians(likelihood, memory, outputs):
    """Of unequal blocks, every way to treat outputs; to 1e-8 nats, whatever the memory."""
    posterior, u = point(*case(likelihood))
    kernel = whole_kernel(posterior, u)
    blocks = partition(ROWS, 5, np.random.default_rng(SEED))
    rows = [np.asarray(r)[np.asarray(w) > 0] for r, w in zip(*blocks, strict=True)]
    assert sorted(np.concatenate(rows)) == list(range(ROWS))
    assert [len(r) for r in rows] == [4, 4, 4]
    blocks = Blocks(blocks.rows, blocks.weights.at[1, 2].set(0.0))  # as padding is
    rows[1] = np.delete(rows[1], 2)
    columns = jnp.array([0, 1, 1]) if outputs == "random" else None
    if outputs == "random":
        count = output_count(posterior)
        wanted = [
            count * naive(kernel[:, c : c + 1, :, c : c + 1], r, "joint")
            for c, r in zip((0, 1, 1), rows, strict=True)
        ]
    else:
        wanted = [naive(kernel, r, outputs) for r in rows]
    found = ours(posterior, u, blocks, outputs, columns, memory)
    np.testing.assert_allclose(found, wanted, 1e-8)


@pytest.mark.validate
@pytest.mark.parametrize("likelihood", ["categorical", "gaussian", "learned"])
def test_with_all_rows_in_one_block_it_is_the_laplace_evidence(likelihood):
    """Structure full, curvature ggn, the same climb; to 1e-4 nats. Noise may be learned."""
    learned = {"noise": "learned"} if likelihood == "learned" else {}
    model, data = case("gaussian" if learned else likelihood, **learned)
    full = bz.log_evidence(model, data, "laplace", noise="joint", **SMALL)
    said = bz.log_evidence(model, data, "laplace-ntk", batch=ROWS, **SMALL)
    assert said.value == pytest.approx(full.value, abs=1e-4)
    assert (said.kind, said.standard_error) == ("approximation-bound", 0.0)
    assert said.diagnostics["blocks"] == 1
    diagonal = bz.log_evidence(model, data, "laplace", structure="diagonal", **SMALL)
    assert said.diagnostics["diagonal"] == pytest.approx(diagonal.value, abs=1e-4)


@pytest.mark.validate
def test_without_blocks_the_integral_is_laplaces():
    """The same identity at any point, without the climb; to 1e-8 nats."""
    posterior, u = point(*case("gaussian", noise="learned"))
    flavour = Flavour("full", "ggn", "expand", 1, BUDGET)
    full = jax.jit(log_normaliser, static_argnums=2)(posterior, u, flavour)
    blocks = partition(ROWS, ROWS, np.random.default_rng(SEED))
    base, terms = evaluated(posterior, u, blocks, None, "joint", BUDGET)
    assert float(base - 0.5 * terms.sum()) == pytest.approx(float(full), abs=1e-8)


@pytest.mark.validate
@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
def test_bounds_rise_with_the_blocks_and_never_pass_the_evidence(likelihood):
    """Nested partitions of one order of rows; at 20 points, so no rounding decides."""
    model, data = case(likelihood)
    for number in range(20):
        posterior, _ = point(model, data)
        u = jax.random.normal(jax.random.key(1000 * SEED + number), (posterior.dimension,))
        sums = {}
        for outputs in ("joint", "independent"):
            sums[outputs] = [
                ours(posterior, u, partition(ROWS, m, np.random.default_rng(number)), outputs).sum()
                for m in (1, 2, 4, 12)
            ]
            assert (np.diff(sums[outputs]) < 0).all()
        assert (np.subtract(sums["independent"], sums["joint"]) > 0).all()
        whole = naive(whole_kernel(posterior, u), np.arange(ROWS), "joint")
        assert sums["joint"][-1] == pytest.approx(whole, abs=1e-8)


def test_a_nested_partition_only_splits_blocks():
    """Halving a block that divides the rows: the order is the seed's alone."""
    whole = [{*map(int, b)} for b in partition(24, 6, np.random.default_rng(1)).rows]
    half = [{*map(int, b)} for b in partition(24, 3, np.random.default_rng(1)).rows]
    assert all(any(h <= w for w in whole) for h in half)


def test_the_total_of_drawn_blocks_is_unbiased_and_its_error_honest():
    """Over every draw of 3 of 6 blocks: the mean is the sum, the squared error its variance."""
    terms = np.random.default_rng(SEED).gamma(2.0, size=6)
    found = [total_of(terms[list(c)], 6, True) for c in combinations(range(6), 3)]
    values = np.array([f.value for f in found])
    assert values.mean() == pytest.approx(terms.sum())
    squares = np.mean([f.standard_error**2 for f in found])
    assert squares == pytest.approx(values.var())
    assert total_of(terms, 6, True) == (pytest.approx(terms.sum()), 0.0)
    assert total_of(terms, 6, False).standard_error > 0


@pytest.mark.validate
@pytest.mark.parametrize("outputs", ["joint", "random"])
def test_random_blocks_are_unbiased_for_the_partitions_bound(outputs):
    """2,000 draws of 2 of 4 blocks, an output each where they are random.

    The mean is within 4 of its standard errors (false alarm 6e-5). For joint outputs the error
    said is the draws' own to 10 %; for random ones not smaller.
    """
    posterior, u = point(*case())
    random = np.random.default_rng([SEED, 9])
    blocks = partition(ROWS, 3, random)
    count = output_count(posterior)
    if outputs == "joint":
        terms = ours(posterior, u, blocks)[:, None]
    else:
        terms = np.stack(
            [ours(posterior, u, blocks, "random", jnp.full(4, c)) for c in range(count)], 1
        )
    truth = terms.mean(1).sum()
    if outputs == "random":
        assert truth == pytest.approx(ours(posterior, u, blocks, "independent").sum())
    found = []
    for _ in range(2000):
        chosen = random.choice(4, 2, replace=False)
        columns = random.integers(terms.shape[1], size=2)
        found.append(total_of(terms[chosen, columns], 4, outputs == "joint"))
    values, errors = np.array(found).T
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(2000)
    ratio = np.sqrt((errors**2).mean()) / values.std()
    assert ratio > 0.9 and (outputs == "random" or ratio < 1.1)


@pytest.mark.validate
def test_the_estimator_draws_blocks_without_bias():
    """36 seeds against the mean over partitions, from 400 of them; at 5 standard errors.

    The climbs of all seeds end in one mode of a linear model, so that blocks alone differ.
    """
    model, data = case(widths=())
    options = {"modes": 1, "steps": 60, "dtype": "float64"}
    said = [
        bz.log_evidence(model, data, "laplace-ntk", seed=s, batch=3, batches=2, **options)
        for s in range(1000 * SEED, 1000 * SEED + 36)
    ]
    values = np.array([e.value for e in said])
    whole = bz.log_evidence(model, data, "laplace-ntk", seed=0, batch=ROWS, **options)
    posterior = bz.Posterior(model, data)
    u, _ = jax.jit(lambda u: ascend(posterior.log_density, u, 60))(jnp.zeros(posterior.dimension))
    base, _ = jax.jit(without_data, static_argnums=2)(posterior, u, BUDGET)
    kernel = whole_kernel(posterior, u)
    random = np.random.default_rng([SEED, 11])
    truth = []
    for _ in range(400):
        pieces = np.array_split(random.permutation(ROWS), 4)
        truth.append(float(base) - 0.5 * sum(naive(kernel, p, "joint") for p in pieces))
    error = np.hypot(values.std(ddof=1) / 6, np.std(truth) / 20)
    assert abs(values.mean() - np.mean(truth)) < 5 * error
    assert np.mean(truth) < whole.value
    assert all(e.standard_error > 0 and e.diagnostics["blocks_drawn"] == 2 for e in said)


# -- tuning --------------------------------------------------------------------------------------


def tuned_posterior(likelihood, groups):
    model, data = case(likelihood)
    bound = model.bind(data)
    chosen, start = make_groups(bound, bound.bound, groups, True)
    posterior = bz.Posterior(grouped(model, chosen, start), data)
    return posterior, chosen, start, 0.7 * posterior.initial(jax.random.key(SEED))


@pytest.mark.validate
@pytest.mark.parametrize(
    ("likelihood", "groups", "outputs"),
    [
        ("gaussian", "input", "joint"),
        ("gaussian", "layer", "random"),
        ("categorical", "unit", "independent"),
    ],
)
def test_the_gradient_is_that_of_differences(likelihood, groups, outputs):
    """By the logarithms of widths and noise, with the blocks held: to 1e-6."""
    posterior, chosen, start, u = tuned_posterior(likelihood, groups)
    objective, key = BlockBound(5, outputs, BUDGET, False), jax.random.key(SEED)
    _, slope = value_and_slope(posterior, chosen, start, u, key, objective)
    flat, unflatten = jax.flatten_util.ravel_pytree(start)
    found = []
    for k in range(flat.size):
        sides = [
            float(
                value_and_slope(posterior, chosen, unflatten(flat.at[k].add(h)), u, key, objective)[
                    0
                ]
            )
            for h in (1e-5, -1e-5)
        ]
        found.append((sides[0] - sides[1]) / 2e-5)
    np.testing.assert_allclose(jax.flatten_util.ravel_pytree(slope)[0], found, 1e-6, 1e-6)


@pytest.mark.validate
def test_a_random_blocks_gradient_is_that_of_the_partitions_bound_on_average():
    """3,000 blocks of 4 of 12 rows against 3,000 partitions: within 5 standard errors each.

    Five gradients, so that a false alarm has probability 3e-6. Both are below the evidence's by
    the common factor of all widths.
    """
    posterior, chosen, start, u = tuned_posterior("gaussian", "layer")
    keys = jax.random.split(jax.random.key(SEED), 3000)
    mean, error = {}, {}
    for whole in (False, True):
        objective = BlockBound(4, "joint", BUDGET, whole)

        def slope(key, objective=objective):
            found = value_and_slope(posterior, chosen, start, u, key, objective)[1]
            return jax.flatten_util.ravel_pytree(found)[0]

        slopes = np.asarray(jax.jit(lambda k, slope=slope: jax.lax.map(slope, k))(keys))
        mean[whole], error[whole] = slopes.mean(0), slopes.std(0) / np.sqrt(3000)
    assert (np.abs(mean[True] - mean[False]) < 5 * np.hypot(*error.values())).all()
    one = BlockBound(ROWS, "joint", BUDGET, True)
    _, exact = value_and_slope(posterior, chosen, start, u, keys[0], one)
    common = sum(float(v) for name, v in exact.items() if name != "noise")
    names = sorted(exact)  # as ravel_pytree has them
    blocks = sum(m for name, m in zip(names, mean[True], strict=True) if name != "noise")
    assert blocks < common


@pytest.mark.validate
def test_one_block_finds_the_widths_of_the_exact_evidence():
    """A linear model, whose evidence is known: to 3 %, the last steps of Adam. Float32."""
    random = np.random.default_rng(SEED)
    x = random.normal(size=(40, 3))
    y = x @ [1.0, -0.5, 0.2] + 0.5 + 0.3 * random.normal(size=40)
    data = bz.make_dataset(x, y, task="regression")
    model = bz.make_model(
        network_options={"widths": []}, likelihood_options={"noise": "fixed", "noise_std": 0.5}
    )
    exact = bz.tune(model, data, "exact", groups="layer")
    quick = {"restarts": 1, "rounds": 60, "steps": 20}
    found = bz.tune(model, data, "laplace-ntk", groups="layer", batch=40, **quick)
    assert found.value == pytest.approx(exact.value, abs=0.05)
    assert found.noise_std == pytest.approx(exact.noise_std, rel=0.03)
    kernel = "layers.0.kernel"
    assert found.widths[kernel] == pytest.approx(exact.widths[kernel], rel=0.03)
    few = bz.tune(model, data, "laplace-ntk", groups="layer", batch=10, **quick)
    assert few.value < exact.value
    assert few.noise_std == pytest.approx(exact.noise_std, rel=0.25)


def test_a_block_too_large_to_tune_by_is_refused():
    model, data = case("gaussian")
    with pytest.raises(InputError, match=r"tune: a block of 12 rows.*lower tuner.batch"):
        bz.tune(model, data, "laplace-ntk", memory_bytes=100)


# -- what it takes, and refuses ------------------------------------------------------------------


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


def test_no_array_is_larger_than_a_few_tangents():
    """800 weights and blocks of 4 rows with 3 outputs: neither 800 x 800 nor 12 x 800 numbers."""
    model, data = case(widths=(20, 32))
    posterior, u = point(model, data)
    blocks = partition(ROWS, 4, np.random.default_rng(0))

    def of(u):
        base, widths = without_data(posterior, u, 30_000)
        return base, log_dets(posterior, u, widths, blocks, None, "joint", 30_000)

    size = largest(jax.make_jaxpr(of)(u).jaxpr)
    assert posterior.dimension > 800
    assert size < 6 * posterior.dimension


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch": 0}, "estimator.batch = 0"),
        ({"batches": 1}, "estimator.batches = 1"),
        ({"outputs": "one"}, "estimator.outputs = 'one'"),
        ({"outputs": "random"}, "leaves one block"),
        ({"batch": 12, "memory_bytes": 1000}, "12 rows with 3 outputs.*lower estimator.batch"),
        ({"prior": "student-t"}, "'layers.0.kernel' is no fixed Gaussian"),
        ({"prior": "hierarchical-gaussian"}, "is no fixed Gaussian"),
    ],
)
def test_what_it_cannot_do_is_said(options, said):
    model, data = case()
    if "prior" in options:
        model = bz.make_model("mlp", options["prior"], "categorical")
    given = {k: v for k, v in options.items() if k != "prior"}
    with pytest.raises(InputError, match=said):
        bz.log_evidence(model, data, "laplace-ntk", **given)


def test_a_hand_written_model_has_no_kernel():
    _, data = case()

    def model(x, y=None):
        import numpyro
        import numpyro.distributions as dist

        w = numpyro.sample("w", dist.Normal(jnp.zeros((2, 3)), 1.0).to_event(2))
        numpyro.sample("y", dist.Categorical(logits=x @ w), obs=y)

    with pytest.raises(InputError, match="no network whose tangents"):
        bz.log_evidence(model, data, "laplace-ntk")
