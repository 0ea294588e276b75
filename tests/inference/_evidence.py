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
