"""Laplace's evidence, and the widths of prior and noise that are highest in it.

The curvature and the gradient of the likelihood at the mode make a linear model of the network,
whose evidence is known for every width of prior and noise: nothing is trained anew (MacKay 1992,
The Evidence Framework Applied to Classification Networks; Antoran et al. 2022, Adapting the
Linearised Laplace Model Evidence, for the linear model's own mode in place of the network's). With
x = P^(1/2) (w - prior mean) whitened by the prior's precision P, S the likelihood's curvature and g
its gradient there, prior factor d and noise factor r:

    log Z(d, r) = l(r) - r g'x0 - r x0'S x0 / 2 + b'(r S + d)^-1 b / 2
                  - log|r S + d| / 2 + k log(d) / 2

with b = r (g + S x0), x0 the mode and l(r) the log-likelihood at it. That needs all of S: with a
part of it (a diagonal, Kronecker factors) the linear model would gain more than there is to gain.
There the mode is held where it is:

    log Z(d, r) = l(r) - d |x0|^2 / 2 - log|r S + d| / 2 + k log(d) / 2
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from bnnzoo.errors import InputError
from bnnzoo.models.model import Model
from bnnzoo.models.posterior import Posterior
from bnnzoo.models.score import base

WIDEST = math.log(1e4)
"""Precisions are looked for within a factor of ten thousand."""

ZOOMS = 30
"""Times the search halves its grid: to a relative precision of 1e-8."""


class Refit(NamedTuple):
    """Factors found.

    Attributes:
        prior: of the prior's precision ``()``.
        noise: of the noise's precision ``()``.
        log_evidence: of the untempered model with them.
    """

    prior: Array
    noise: Array
    log_evidence: Array


class LinearModel(NamedTuple):
    """The untempered linear model at a mode, whitened.

    Attributes:
        spectrum: of I + S, ``.apply`` on whitened vectors.
        x0: the mode ``(k,)``.
        gradient: g ``(k,)``.
        log_likelihood: at the mode.
        squares: sum of squared residuals over the noise's variance; 0 where noise is not refitted.
        targets: number of them; likewise.
    """

    spectrum: Any
    x0: Array
    gradient: Array
    log_likelihood: Array
    squares: Array
    targets: Array

    def log_evidence(self, prior: Array, noise: Array) -> Array:
        """Log Z(d, r) with the linear model's own mode, in the module's docstring."""
        bent = self.spectrum.apply(lambda t: t - 1.0, self.x0)
        b = noise * (self.gradient + bent)
        at_mode = (
            self.log_likelihood
            + 0.5 * self.targets * jnp.log(noise)
            - 0.5 * (noise - 1.0) * self.squares
        )
        at_origin = at_mode - noise * (self.gradient @ self.x0 + 0.5 * bent @ self.x0)
        gain = 0.5 * b @ self.spectrum.apply(lambda t: 1.0 / (noise * (t - 1.0) + prior), b)
        log_det = self.spectrum.total(lambda t: jnp.log(noise * (t - 1.0) + prior))
        return at_origin + gain - 0.5 * log_det + 0.5 * self.x0.size * jnp.log(prior)

    def log_evidence_here(self, prior: Array, noise: Array) -> Array:
        """Log Z(d, r) with the mode held where it is."""
        at_mode = (
            self.log_likelihood
            + 0.5 * self.targets * jnp.log(noise)
            - 0.5 * (noise - 1.0) * self.squares
        )
        size = self.x0.size * jnp.log(prior) - prior * self.x0 @ self.x0
        log_det = self.spectrum.total(lambda t: jnp.log(noise * (t - 1.0) + prior))
        return at_mode + 0.5 * size - 0.5 * log_det

    def mode(self, prior: Array, noise: Array, likelihood_temperature: Any) -> Array:
        """The linear model's mode, whitened as ``x0``, its likelihood tempered."""
        scale = noise / likelihood_temperature
        b = scale * (self.gradient + self.spectrum.apply(lambda t: t - 1.0, self.x0))
        return self.spectrum.apply(lambda t: 1.0 / (scale * (t - 1.0) + prior), b)


def linear_model(
    posterior: Posterior, u: Array, where: np.ndarray, spectrum: Any, noise: bool
) -> LinearModel:
    """The linear model of a network at its mode; traced.

    Args:
        posterior: with Gaussian priors in the coordinates ``where``.
        u: the mode ``(dim,)``.
        where: coordinates of the network's block.
        spectrum: of the tempered target there.
        noise: the noise is refitted as well.
    """
    seen = posterior._score(u)
    means = [
        jnp.broadcast_to(seen.fns[s.name].mean if s.free else 0.0, s.free_shape).ravel()
        for s in posterior.sites
    ]
    mean = jnp.concatenate(means)[where]
    root = jnp.sqrt(spectrum.precision * posterior.posterior_temperature)
    L = posterior.likelihood_temperature
    likelihood, gradient = jax.value_and_grad(posterior.log_likelihood)(u)
    squares = targets = jnp.zeros((), u.dtype)
    if noise:
        scale = seen.values[_noise_site(posterior)]
        targets = jnp.asarray(posterior.y.size, u.dtype)
        logs = posterior.rows * jnp.sum(jnp.broadcast_to(jnp.log(scale), posterior.y.shape[1:]))
        squares = -2.0 * (likelihood + logs + 0.5 * targets * math.log(2.0 * math.pi))
    values = jax.tree.map(lambda s: s * L, spectrum.values)
    untempered = spectrum._replace(values=values)
    x0 = root * (u[where] - mean)
    return LinearModel(untempered, x0, gradient[where] / root, likelihood, squares, targets)


def refit(model: LinearModel, prior: bool, noise: bool, whole: bool) -> Refit:
    """The factors of highest evidence; traced.

    A grid over their logarithms, then ever finer ones about the best point: the evidence is smooth,
    of two numbers at most, and may be flat far out.

    Args:
        model: at a mode.
        prior: its width is refitted; else its factor stays 1.
        noise: likewise.
        whole: the spectrum is that of the whole curvature, so that the mode may move.
    """
    evidence = model.log_evidence if whole else model.log_evidence_here
    free = jnp.asarray([prior, noise], model.x0.dtype)

    def value(at: Array) -> Array:
        found = evidence(*jnp.exp(at))
        return jnp.where(jnp.isfinite(found), found, -jnp.inf)

    def best(centre: Array, width: Array, points: int) -> Array:
        ticks = jnp.linspace(-1.0, 1.0, points)
        none = jnp.zeros(1)
        steps = jnp.stack(
            jnp.meshgrid(ticks if prior else none, ticks if noise else none), -1
        ).reshape(-1, 2)
        tried = jnp.clip(centre + width * steps * free, -WIDEST, WIDEST).astype(centre.dtype)
        return tried[jnp.argmax(jax.lax.map(value, tried))]

    at = best(jnp.zeros(2, model.x0.dtype), jnp.asarray(WIDEST), 19)
    at = jax.lax.fori_loop(0, ZOOMS, lambda i, c: best(c, 1.2 * 0.5**i, 5), at)
    factors = jnp.exp(at)
    return Refit(factors[0], factors[1], evidence(factors[0], factors[1]))


def noise_coordinates(posterior: Posterior) -> np.ndarray | None:
    """Coordinates of a learned Gaussian noise, logarithms; None where there is none."""
    model = posterior.model
    if not isinstance(model, Model) or getattr(model.likelihood, "noise", None) != "learned":
        return None
    if (name := _noise_site(posterior)) != "noise_std":
        return None
    site = next(s for s in posterior.sites if s.name == name)
    return np.arange(site.offset, site.offset + site.size)


def _noise_site(posterior: Posterior) -> str:
    assert isinstance(posterior.model, Model)
    return str(getattr(posterior.model.likelihood, "site", ""))


def check_refit(posterior: Posterior, what: str, curvature: str) -> None:
    """Raise where prior or noise have no width that the evidence of a linear model can choose.

    Args:
        posterior: the target.
        what: ``prior``, ``noise`` or ``both``.
        curvature: of the backend.

    Raises:
        InputError: what is in the way.
    """
    network = posterior.network
    given = f"laplace: inference.refit = {what!r}"
    if network is None:
        raise InputError(f"{given} needs a zoo model; give inference.refit = 'none'")
    if curvature == "hessian":
        raise InputError(
            f"{given} needs a curvature of the likelihood that is nowhere negative; give "
            "inference.curvature = 'ggn'"
        )
    if what in ("prior", "both"):
        for site, fn in gaussian_priors(posterior).items():
            if not fn:
                raise InputError(
                    f"{given}: the prior of {site!r} is no fixed Gaussian; give model priors "
                    "'gaussian', or inference.refit = 'none'"
                )
    if what in ("noise", "both"):
        if curvature != "ggn":
            raise InputError(
                f"{given}: an empirical Fisher is not proportional to the noise's precision; give "
                "inference.curvature = 'ggn'"
            )
        assert isinstance(posterior.model, Model)
        likelihood = posterior.model.likelihood
        if noise_coordinates(posterior) is None:
            raise InputError(
                f"{given}: the likelihood {likelihood.label!r} has no learned Gaussian noise; give "
                "likelihood 'gaussian' with noise = 'learned', or inference.refit = 'prior'"
            )


def gaussian_priors(posterior: Posterior) -> dict[str, bool]:
    """Whether each network parameter's prior is a Gaussian that depends on nothing.

    Args:
        posterior: of a zoo model.
    """
    network = posterior.network
    assert network is not None
    paths = {i.path for i in network.infos}
    found: dict[str, bool] = {}

    def trace(u: Array) -> Array:
        seen = posterior._score(u)
        for site in posterior.sites:
            if site.name in paths:
                normal = isinstance(base(seen.fns[site.name]), dist.Normal)
                found[site.name] = normal and not site.conditional and site.free
        return seen.log_jacobian

    jax.eval_shape(trace, jax.ShapeDtypeStruct((posterior.dimension,), posterior.x.dtype))
    return found | {path: False for path in paths - set(found)}
