"""Models whose evidence is known, for every estimator to find."""

import numpy as np
from scipy import stats

import bnnzoo as bz

NOISE = 0.5


def linear(features, seed, rows=50):
    """A linear regression drawn from its own prior, and its log evidence.

    Args:
        features: inputs.
        seed: of the data.
        rows: of the data.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features))
    weights, offset = rng.normal(size=features) / np.sqrt(features), rng.normal()
    y = x @ weights + offset + NOISE * rng.normal(size=rows)
    data = bz.make_dataset(x, y, task="regression", scale="none")
    covariance = x @ x.T / features + 1.0 + NOISE**2 * np.eye(rows)
    truth = stats.multivariate_normal(np.zeros(rows), covariance).logpdf(y)
    return linear_model(), data, float(truth)


def linear_model(**prior):
    """Linear, weights N(0, 1 / features), offset N(0, 1), noise of known std."""
    return bz.make_model(
        "mlp",
        "gaussian",
        "gaussian",
        network_options={"widths": []},
        prior_options=prior,
        likelihood_options={"noise": "fixed", "noise_std": NOISE},
    )


def scores(method, features, seeds, **options):
    """Of an estimator on linear models: z of every seed, and the standard errors."""
    found = []
    for seed in seeds:
        model, data, truth = linear(features, seed)
        said = bz.log_evidence(model, data, method, seed=seed, **options)
        found.append(((said.value - truth) / said.standard_error, said.standard_error))
    return np.array(found).T


def tanh_unit_pair(seed, rows=20):
    """A network of two tanh units without biases, and its log evidence by quadrature.

    Given the ingoing weights the targets are Gaussian; the two integrals over these are sums on a
    grid of 241 x 241 points within 8 standard deviations, right to 1e-6 nats.

    Args:
        seed: of the data.
        rows: of the data.
    """
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(-2, 2, rows))
    y = np.tanh(2.0 * x) - 0.7 * np.tanh(0.5 * x) + NOISE * rng.normal(size=rows)
    data = bz.make_dataset(x[:, None], y, task="regression", scale="none")
    grid = np.linspace(-8.0, 8.0, 241)
    units = np.tanh(grid[:, None] * x)
    one, two = np.meshgrid(np.arange(241), np.arange(241), indexing="ij")
    features = np.stack([units[one], units[two]], -1).reshape(-1, rows, 2) / np.sqrt(2)
    # Woodbury: y ~ N(0, F F' + s^2 I) by 2 x 2 matrices
    inner = features.transpose(0, 2, 1) @ features / NOISE**2 + np.eye(2)
    projected = features.transpose(0, 2, 1) @ y / NOISE**2
    solved = np.linalg.solve(inner, projected[..., None])[..., 0]
    quadratic = y @ y / NOISE**2 - (projected * solved).sum(-1)
    log_det = np.linalg.slogdet(inner)[1] + rows * np.log(NOISE**2)
    logs = -0.5 * (quadratic + log_det + rows * np.log(2 * np.pi))
    logs += stats.norm.logpdf(grid)[one.ravel()] + stats.norm.logpdf(grid)[two.ravel()]
    truth = np.logaddexp.reduce(logs) + 2 * np.log(grid[1] - grid[0])
    model = bz.make_model(
        "mlp",
        network_options={"widths": [2], "activation": "tanh", "bias": False},
        likelihood_options={"noise": "fixed", "noise_std": NOISE},
    )
    return model, data, float(truth)


def left_out_truth(data):
    """Each log p(y_i | other rows) of :func:`linear_model`, by its covariance.

    Args:
        data: of that model.
    """
    x, y = data.x, data.y
    covariance = x @ x.T / x.shape[1] + 1.0 + NOISE**2 * np.eye(len(y))
    inverse = np.linalg.inv(covariance)
    variance = 1.0 / np.diag(inverse)
    return stats.norm.logpdf(inverse @ y * variance, 0.0, np.sqrt(variance))
