"""Data and fits of the study of variational bounds: linear models, and a network on a sine."""

from __future__ import annotations

from typing import Any

import numpy as np

from bnnzoo.datasets import Dataset, make_dataset
from bnnzoo.inference import InfiniteNetwork, fit, log_evidence
from bnnzoo.models import make_model

FAMILIES = ("mean-field-vi", "low-rank-vi", "full-rank-vi")

ROWS, FEATURES, RANK = 30, 10, 2
"""Of the linear models; the rank of the low-rank family's covariance beyond its diagonal."""

POINTS, NOISE = 40, 0.5
"""Rows of the sine; standard deviation of the noise of linear models, and of the noisy sine."""


def linear(seed: int, correlation: float, stds: list[float], steps: int) -> dict[str, Any]:
    """Exact evidence and three bounds of a linear model, by its prior's standard deviation.

    Args:
        seed: of the data set and the fits.
        correlation: of any two features.
        stds: of the prior.
        steps: of the optimiser.

    Returns:
        A value a std: of ``evidence`` and of every family, nats; and in ``remaining``, by family,
        the nats that a fit had left to gain.
    """
    random = np.random.default_rng([1, seed])
    spread = correlation * np.ones((FEATURES, FEATURES)) + (1 - correlation) * np.eye(FEATURES)
    x = random.normal(size=(ROWS, FEATURES)) @ np.linalg.cholesky(spread).T
    y = x @ random.normal(size=FEATURES) + NOISE * random.normal(size=ROWS)
    data = make_dataset(x, y, task="regression", scale="none")
    found: dict[str, Any] = {name: [] for name in ("evidence", *FAMILIES)}
    found["remaining"] = {name: [] for name in FAMILIES}
    for std in stds:
        model = make_model(
            network_options={"widths": [], "bias": False},
            prior_options={"std": std, "absolute": True},
            likelihood_options={"noise": "fixed", "noise_std": NOISE},
        )
        found["evidence"].append(log_evidence(model, data, "exact").value)
        for family in FAMILIES:
            options = {"rank": RANK} if family == "low-rank-vi" else {}
            value, remaining = _bound(model, data, family, seed, 1, steps, options)
            found[family].append(value)
            found["remaining"][family].append(remaining)
    return found


def sine(seed: int, units: int, noise: float, priors: list[float], steps: int) -> dict[str, Any]:
    """Mean-field bounds of a network on a noisy sine, beside its infinitely wide partner.

    Args:
        seed: of the data set and the fits.
        units: in the hidden layer.
        noise: standard deviation, known.
        priors: standard deviations of weights (before fan-in) and biases.
        steps: of the optimiser; twice as many where the prior is narrower than 0.03.

    Returns:
        A value a prior: exact ``evidence`` of infinite width, ``bound`` and what its fit had left
        to gain (``remaining``), nats; and at a prior of 1 the root mean square over the training
        rows of the mean-field predictive mean (``size``) and of the exact one (``exact_size``).
    """
    data = _noisy_sine(seed, noise)
    found: dict[str, Any] = {"evidence": [], "bound": [], "remaining": []}
    for std in priors:
        model = _network(units, std, noise)
        found["evidence"].append(_infinite(model, data))
        # Where all weights are of the order of std, steps of the default size would jump over them.
        small = min(1.0, std)
        rates = {"learning_rate": 0.02 * small**0.5, "initial_std": 0.05 * small}
        longer = 2 * steps if std < 0.03 else steps
        value, remaining = _bound(model, data, "mean-field-vi", seed, 2, longer, rates)
        found["bound"].append(value)
        found["remaining"].append(remaining)
    model = _network(units, 1.0, noise)
    size: dict[str, Any] = {
        "chains": 1,
        "draws": 1000,
        "warmup": steps,
        "seed": seed,
        "progress": False,
    }
    run = fit(model, data, "mean-field-vi", **size)
    found["size"] = _root_mean_square(run.predict(data.x).mean)
    found["exact_size"] = _root_mean_square(InfiniteNetwork(model, data).predict(data.x).mean)
    return found


def finite(seed: int, units: int, priors: list[float], particles: int) -> dict[str, Any]:
    """The evidence of the network itself, by SMC, beside that of infinite width.

    Args:
        seed: of the data set and the particles.
        units: in the hidden layer.
        priors: standard deviations of weights (before fan-in) and biases.
        particles: of each of four repeats.

    Returns:
        A value a prior, nats: ``evidence`` with its standard ``error``, and ``infinite``.
    """
    data = _noisy_sine(seed, NOISE)
    found: dict[str, Any] = {"evidence": [], "error": [], "infinite": []}
    for std in priors:
        model = _network(units, std, NOISE)
        said = log_evidence(model, data, "smc", seed=seed, particles=particles, repeats=4)
        found["evidence"].append(said.value)
        found["error"].append(said.standard_error)
        found["infinite"].append(_infinite(model, data))
    return found


def _bound(
    model: Any, data: Dataset, family: str, seed: int, restarts: int, steps: int, options: Any
) -> tuple[float, float]:
    """The bound, and the nats that its fit had left to gain."""
    said = log_evidence(
        model, data, "elbo", seed=seed, family=family, restarts=restarts, steps=steps,
        draws=2000, options=options,
    )  # fmt: skip
    return said.value, float(said.diagnostics["remaining"])


def _noisy_sine(seed: int, noise: float) -> Dataset:
    random = np.random.default_rng([2, seed])
    x = random.uniform(-2.0, 2.0, size=(POINTS, 1))
    y = np.sin(2.5 * x[:, 0]) + noise * random.normal(size=POINTS)
    return make_dataset(x, y, task="regression", scale="none")


def _network(units: int, std: float, noise: float) -> Any:
    return make_model(
        network_options={"widths": [units], "activation": "erf"},
        prior_options={"std": std, "bias_std": std},
        likelihood_options={"noise": "fixed", "noise_std": noise},
    )


def _infinite(model: Any, data: Dataset) -> float:
    return float(log_evidence(model, data, "exact", over="infinite-width").value)


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=float))))
