"""The functions that priors make of networks, against theory, and fits of every network.

Random: second moments at 6 standard errors of the draws' own (below 1e-6 each under normality; the
squares here have tails, which hundreds of draws leave below 1e-4), about 15 of them in all.
"""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.datasets import make_dataset
from bnnzoo.models import make_model
from bnnzoo.models.activations import ACTIVATIONS, SCALED_RELU
from tests.models._tools import SEED, key, rng

X = rng(80).normal(size=(6, 3))
TABLE = make_dataset(X, X[:, 0], task="regression", scale="none")


def second_moments(network, draws, outputs=8, number=81, **prior):
    """Mean square of the outputs at one input, a value a draw; NumPy has the reference."""
    options, bias_std = dict(network), prior.pop("bias_std", 1.0)
    name = options.pop("name", "mlp")
    model = make_model(name, network_options=options, prior_options=prior | {"bias_std": bias_std})
    y = np.zeros((len(X), outputs))
    bound = model.bind(make_dataset(X, y, task="regression", scale="none")).bound
    x = jnp.asarray(X[:1], jnp.float32)
    laws = [model.prior.distribution(i) for i in bound.infos]
    assert not any(np.any(law.mean) for law in laws)
    std = [np.sqrt(law.variance) for law in laws]
    ends = np.cumsum([s.size for s in std])

    def one(key):
        # All weights from one call, whose program is small.
        parts = jnp.split(jax.random.normal(key, (int(ends[-1]),)), ends[:-1])
        pairs = zip(bound.infos, parts, std, strict=True)
        return jnp.mean(bound.apply({i.path: z.reshape(s.shape) * s for i, z, s in pairs}, x) ** 2)

    run = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=25))
    return np.asarray(run(jax.random.split(key(number), draws)), float)


def assert_mean(values, wanted):
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - wanted) < 6 * error, (values.mean(), wanted, error)
    return error / wanted


INPUT = float((X[0] ** 2).mean())
"""Second moment of a kernel's sum of the inputs, at std 1."""

DEPTH = 20


@pytest.mark.validate
@pytest.mark.parametrize(
    ("activation", "growth"),
    # Independent weights pass on the second moment, of which scaled ReLU keeps half of alpha^2.
    [("relu", 1.0), ("identity", 1.0), ("scaled-relu", SCALED_RELU**2 / 2)],
)
def test_twenty_layers_at_criticality_keep_the_second_moment(activation, growth):
    """Weights 2 % too wide change it 2.3-fold in 21 layers, which is caught."""
    network = {"widths": [100] * DEPTH, "activation": activation, "bias": False}
    found = second_moments(network, 600)
    # Relu's gain is in the first kernel too, whose inputs nothing has halved.
    wanted = ACTIVATIONS[activation].gain ** 2 * INPUT * growth**DEPTH
    relative = assert_mean(found, wanted)
    with pytest.raises(AssertionError):
        assert_mean(found, wanted * 1.02 ** (2 * (DEPTH + 1)))
    assert relative < 0.1


def test_scaled_relu_has_unit_variance_where_rows_sum_to_zero():
    """One layer, wide: independent weights see the second moment, centred ones the variance."""
    assert round(SCALED_RELU, 3) == 1.713
    width, random = 4_000, rng(82)
    h = random.normal(size=(width, 1))
    phi = np.asarray(ACTIVATIONS["scaled-relu"].function(jnp.asarray(h))).ravel()
    kernel = random.normal(size=(width, 1_000)) / math.sqrt(width)
    centred = kernel - kernel.mean(0)
    # Of 1,000 independent outputs of variance v, the mean square is v within 6 sqrt(2/1000); the
    # 4,000 units add 6 sqrt(3 / 4000), the variance of phi^2 being under 6 and its mean over 1.4.
    allowed = 6 * math.sqrt(2 / 1_000 + 3 / width)
    assert np.mean((phi @ centred) ** 2) == pytest.approx(1.0, rel=allowed)
    assert np.mean((phi @ kernel) ** 2) == pytest.approx(SCALED_RELU**2 / 2, rel=allowed)
    assert 1.0 + 2 * allowed < SCALED_RELU**2, "the two are told apart"


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def moments(activation, variance):
    """E phi(z)^2 and E phi'(z)^2, z ~ N(0, variance), by quadrature."""
    with jax.enable_x64(True):
        z = jnp.asarray(NODES * math.sqrt(variance))
        phi, slope = jax.jvp(ACTIVATIONS[activation].function, (z,), (jnp.ones_like(z),))
    return float(WEIGHTS @ np.asarray(phi) ** 2), float(WEIGHTS @ np.asarray(slope) ** 2)


@pytest.mark.parametrize(
    ("activation", "std", "bias_std", "fixed_point"),
    [
        ("relu", 1.0, 0.0, None),
        ("identity", 1.0, 0.0, None),
        ("tanh", 1.0, 0.0, 0.0),
        ("sin", 1.0, 0.0, 0.0),
        ("erf", 0.886, 0.0, 0.0),
        ("gelu", 0.9958, 0.4158, (3 + math.sqrt(17)) / 2),
        ("silu", 0.9970, 0.7451, 14.32017),
    ],
)
def test_the_cards_criticality(activation, std, bias_std, fixed_point):
    """Both susceptibilities of the kernel's recursion are 1 at K* (Roberts et al. 2022, ch. 5).

    K' = C_b + C_W E phi^2; chi_parallel = dK'/dK and chi_perp = C_W E phi'^2.
    """
    gain = ACTIVATIONS[activation].gain
    c_w, c_b = (std * gain) ** 2, bias_std**2
    notes = registry.describe("networks", "mlp").notes
    for number in (std, bias_std):
        assert number in (0.0, 1.0) or f"{number:g}" in notes or f"{number:.4f}" in notes

    def next_kernel(k):
        return c_b + c_w * moments(activation, k)[0]

    points = (0.3, 2.0, 9.0) if fixed_point is None else (fixed_point or 1e-6,)
    kernel = points[0]
    for _ in range(DEPTH):
        kernel = next_kernel(kernel)
    assert kernel == pytest.approx(points[0], rel=2e-3 * DEPTH), "kept over 20 layers"
    for k in points:
        step = 1e-3 * k
        parallel = (next_kernel(k + step) - next_kernel(k - step)) / (2 * step)
        perpendicular = c_w * moments(activation, k)[1]
        assert next_kernel(k) == pytest.approx(k, rel=2e-3)
        assert perpendicular == pytest.approx(1.0, abs=5e-3)
        assert parallel == pytest.approx(1.0, abs=5e-3)


BLOCKS = 8


@pytest.mark.parametrize(
    ("residual", "share"),
    [
        pytest.param("1", 1.0, marks=pytest.mark.validate),
        ("1/sqrt(blocks)", BLOCKS**-0.5),
        pytest.param("1/blocks", 1 / BLOCKS, marks=pytest.mark.validate),
    ],
)
def test_residual_scalings_grow_as_theory_says(residual, share):
    """Linear blocks of independent weights multiply the second moment by 1 + share^2 each."""
    network = {"widths": [32] * (BLOCKS + 1), "activation": "identity", "residual": residual}
    found = second_moments(network | {"bias": False}, 1_000, number=83)
    growth = (1 + share**2) ** BLOCKS
    relative = assert_mean(found, INPUT * growth)
    assert growth == pytest.approx(
        {"1": 256.0, "1/sqrt(blocks)": 2.566, "1/blocks": 1.132}[residual], rel=1e-3
    )
    assert relative < 0.05, "the three are far apart"


@pytest.mark.validate
def test_deep_linear_networks_show_their_depth_in_the_tails_alone():
    """E f^2 = |x|^2/d, and E f^4 / (E f^2)^2 = 3 prod (1 + 2/n), of one output, at 6 errors."""
    widths = [6, 8, 10]
    network = {"name": "deep-linear", "widths": widths}
    f2 = second_moments(network, 40_000, outputs=1, number=84)
    assert_mean(f2, INPUT)
    wanted = 3 * math.prod(1 + 2 / n for n in widths)
    fourth = (f2 / INPUT) ** 2
    assert_mean(fourth, wanted)
    assert wanted > 5.9
    with pytest.raises(AssertionError):
        assert_mean(fourth, 3.0)


@pytest.mark.parametrize("average", [True, pytest.param(False, marks=pytest.mark.validate)])
def test_variance_of_additive_functions(average):
    """Linear parts without hidden layers: each x_j^2, their mean or sum, plus 1 of the bias."""
    network = {"name": "additive", "widths": [], "average": average}
    found = second_moments(network, 20_000, outputs=1, number=85)
    assert_mean(found, (INPUT if average else 3 * INPUT) + 1.0)


# -- both parameterisations ----------------------------------------------------------------------

SMALL = {
    "mlp": ({"widths": [4]}, (3,)),
    "deep-linear": ({"widths": [4]}, (3,)),
    "additive": ({"widths": [4]}, (3,)),
    "cnn": ({"channels": [2], "dense": [3]}, (4, 4, 2)),
    "resnet20": ({"width": 2, "depth": 8}, (4, 4, 2)),
    "lstm": ({"units": 3}, (4, 2)),
    "transformer": ({"width": 4, "heads": 2, "hidden": 3, "depth": 1}, (4, 4, 2)),
}


def test_every_network_is_here():
    assert set(SMALL) == set(registry.list_names("networks"))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "lstm" else pytest.mark.validate) for name in SMALL],
)
def test_ntk_gives_the_functions_of_standard(name):
    """The same base draws, each times its prior's width, give the same functions of all rows.

    So the two parameterisations have one law of functions, variances included.
    """
    options, shape = SMALL[name]
    x = jnp.asarray(rng(86).normal(size=(3, *shape)), jnp.float32)
    functions, widths = [], []
    for parameterisation in ("standard", "ntk"):
        network = registry.get("networks", name)
        bound = network.build(options | {"parameterisation": parameterisation}).bind(shape, 2)
        prior = make_model(prior="gaussian").prior
        random = rng(87)
        laws = [prior.distribution(i) for i in bound.infos]
        w = {
            i.path: law.mean + jnp.sqrt(law.variance) * random.normal(size=i.shape)
            for i, law in zip(bound.infos, laws, strict=True)
        }
        widths.append([float(law.variance.max()) for law in laws])
        functions.append(jax.jit(bound.apply)({p: v.astype(x.dtype) for p, v in w.items()}, x))
    assert np.std(functions[0]) > 0.01 and widths[0] != widths[1]
    np.testing.assert_allclose(functions[0], functions[1], rtol=2e-4, atol=2e-4)


# -- fits ----------------------------------------------------------------------------------------


@functools.cache
def data(name):
    _, shape = SMALL[name]
    random = np.random.default_rng([SEED, 88])
    x = random.normal(size=(12, *shape))
    return make_dataset(
        x, x.reshape(12, -1)[:, 0], x[:3], x[:3].reshape(3, -1)[:, 0], task="regression"
    )


def runs(model, of):
    run = bz.fit(model, of, "hmc", chains=2, draws=5, warmup=5, progress=False)
    assert run.manifest["state"] == "complete"
    assert all(np.isfinite(v).all() for v in run.tree["posterior"].data_vars.values())
    assert np.isfinite(list(run.metrics().values())).all()


@pytest.mark.validate
@pytest.mark.parametrize("name", SMALL)
def test_every_network_can_be_fitted(name):
    runs(make_model(name, network_options=SMALL[name][0]), data(name))


@pytest.mark.validate
@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_words_can_be_fitted(name):
    words = np.random.default_rng([SEED, 89]).integers(0, 6, (12, 5))
    of = make_dataset(
        words, np.arange(12) % 2, words[:3], [0, 1, 0], task="classification", scale="none"
    )
    options = {k: v for k, v in SMALL[name][0].items()} | {"vocabulary": 6, "padding": 0}
    runs(make_model(name, likelihood="categorical", network_options=options), of)


@pytest.mark.validate
def test_digits_go_to_an_image_network_by_their_shape():
    digits = bz.load_dataset("digits")
    rows = slice(60, 70)
    few = make_dataset(
        digits.x[:60], digits.y[:60], digits.x[rows], digits.y[rows], task="classification"
    )
    for name, small in (
        ("cnn", {"channels": [4]}),
        ("transformer", {"patch": 4, "width": 4, "depth": 1}),
    ):
        options = {"shape": [8, 8]} | small
        runs(make_model(name, likelihood="categorical", network_options=options), few)


def test_numbers_of_the_card_are_numbers():
    """The card's growth of scaled-relu and its gains are those that are used."""
    notes = registry.describe("networks", "mlp").notes
    assert re.search(r"grows by ([\d.]+) a layer", notes).group(1) == f"{SCALED_RELU**2 / 2:.3f}"
