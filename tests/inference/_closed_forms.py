"""Posteriors with known moments at every temperature, as hand-written NumPyro models."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy import special

import bnnzoo as bz

FEATURES = 5
ROWS = 30
NOISE = 0.5
PRIOR_STD = 1.5
SHAPE, RATE = 3.0, 2.0


class Moments(NamedTuple):
    """Exact mean and covariance of the quantities ``draws`` extracts."""

    mean: np.ndarray
    covariance: np.ndarray


def regression_data():
    """Correlated features, so that the posterior is not a sphere."""
    rng = np.random.default_rng(20)
    x = rng.normal(size=(ROWS, FEATURES)) @ (np.eye(FEATURES) + 0.3)
    y = x @ rng.normal(size=FEATURES) + NOISE * rng.normal(size=ROWS)
    return bz.make_dataset(x, y, task="regression")


def known_noise(x, y=None):
    """w ~ N(0, s^2), y ~ N(x w, noise^2)."""
    w = numpyro.sample("w", dist.Normal(0.0, PRIOR_STD).expand([FEATURES]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)


def unknown_noise(x, y=None):
    """The normal-inverse-gamma model: w | v ~ N(0, v s^2), v ~ InverseGamma(a, b)."""
    v = numpyro.sample("v", dist.InverseGamma(SHAPE, RATE))
    scale = PRIOR_STD * jnp.sqrt(v)
    w = numpyro.sample("w", dist.Normal(0.0, scale).expand([FEATURES]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, jnp.sqrt(v)), obs=y)


def known_noise_moments(data, T, L) -> Moments:
    """Gaussian with precision X'X/(noise^2 T L) + I/(s^2 T)."""
    x, y = data.x, data.y
    precision = x.T @ x / (NOISE**2 * T * L) + np.eye(FEATURES) / (PRIOR_STD**2 * T)
    covariance = np.linalg.inv(precision)
    return Moments(covariance @ (x.T @ y) / (NOISE**2 * T * L), covariance)


def unknown_noise_moments(data, T, L) -> Moments:
    """Moments of (w, log v) under the tempered normal-inverse-gamma posterior.

    w | v is tempered and renormalised to N(0, T v s^2); v is a root site, so its density is raised
    to 1/T: shape (a + 1)/T - 1, rate b/T. The likelihood adds n/(2 T L) to the shape.
    """
    x, y = data.x, data.y
    precision = x.T @ x / (T * L) + np.eye(FEATURES) / (PRIOR_STD**2 * T)
    scale = np.linalg.inv(precision)
    mean = scale @ (x.T @ y) / (T * L)
    shape = (SHAPE + 1.0) / T - 1.0 + len(y) / (2.0 * T * L)
    rate = RATE / T + 0.5 * (y @ y / (T * L) - mean @ precision @ mean)
    covariance = np.zeros((FEATURES + 1, FEATURES + 1))
    covariance[:-1, :-1] = rate / (shape - 1.0) * scale
    covariance[-1, -1] = special.polygamma(1, shape)  # w and log v are uncorrelated
    return Moments(np.append(mean, np.log(rate) - special.digamma(shape)), covariance)


def known_noise_draws(run) -> np.ndarray:
    """``(chain, draw, coordinate)``."""
    return run.tree["posterior"]["w"].to_numpy()


def unknown_noise_draws(run) -> np.ndarray:
    """``(chain, draw, coordinate)`` of (w, log v)."""
    posterior = run.tree["posterior"]
    log_v = np.log(posterior["v"].to_numpy())[..., None]
    return np.concatenate([posterior["w"].to_numpy(), log_v], axis=-1)


def hierarchy_moments(y, sigma, mu_std, tau_density, T, L) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of mu and log tau of a normal hierarchy, by quadrature.

    theta_j | mu, tau ~ N(mu, tau^2), y_j ~ N(theta_j, sigma_j^2). Tempered, theta_j is
    N(mu, T tau^2) and the likelihood a multiple of N(y; theta, T L sigma^2), so theta integrates
    out to y_j ~ N(mu, T tau^2 + T L sigma_j^2). ``tau_density`` is the log prior of tau.
    """
    mu = np.linspace(-40.0, 50.0, 1201)
    log_tau = np.linspace(-9.0, 6.0, 1201)
    m, t = np.meshgrid(mu, np.exp(log_tau), indexing="ij")
    log_p = -0.5 * m**2 / (T * mu_std**2) + tau_density(t) / T + np.log(t)  # + Jacobian of log tau
    for y_j, s_j in zip(y, sigma, strict=True):
        variance = T * t**2 + T * L * s_j**2
        log_p += -0.5 * (y_j - m) ** 2 / variance - 0.5 * np.log(variance)
    weight = np.exp(log_p - log_p.max())
    weight /= weight.sum()

    def moments(values):
        mean = (weight * values).sum()
        return mean, np.sqrt((weight * values**2).sum() - mean**2)

    return {"mu": moments(m), "log_tau": moments(np.log(t))}
