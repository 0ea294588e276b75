"""Losses whose minima are draws: priors centred at a draw of their own, targets with noise added.

For y = Phi w + N(0, s^2 I) and w ~ N(m, S) the minimum of
|y + e - Phi w|^2 / s^2 + (w - a)' S^-1 (w - a), with e ~ N(0, s^2 I) and a ~ N(m, S), is
A^-1 (Phi'(y + e) / s^2 + S^-1 a), A = Phi'Phi / s^2 + S^-1: a draw from the posterior N(., A^-1).
At temperature T both draws have T times the variance, and so has the minimum; L multiplies s^2.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array

from bnnzoo.errors import InputError
from bnnzoo.models import score, tempering
from bnnzoo.models.layout import depends_on_first
from bnnzoo.models.posterior import Posterior
from bnnzoo.models.score import Scored, Site

ABLE = "(backends that can: hmc, nuts; or variant = 'plain')"


class Anchors(NamedTuple):
    """What makes one minimum differ from another.

    Attributes:
        values: a draw from the tempered prior of every Gaussian site, by name.
        noise: what is added to observed values, by site, of their shape; empty for none.
    """

    values: dict[str, Array]
    noise: dict[str, Array]


def draw_anchors(posterior: Posterior, with_noise: bool, key: Array) -> Anchors:
    """Anchors of one member; traced.

    Args:
        posterior: one that :func:`check_anchors` lets pass.
        with_noise: draw noise of the targets, too.
        key: typed key.
    """
    T, L = posterior.posterior_temperature, posterior.likelihood_temperature
    seen = _seen(posterior, jnp.zeros(posterior.dimension, posterior.x.dtype), None)
    values, noise = {}, {}
    for i, site in enumerate(posterior.sites):
        if tempering.is_gaussian(seen.fns[site.name]):
            law = tempering.tempered(seen.fns[site.name], jnp.asarray(T))
            assert law is not None
            values[site.name] = law.sample(jax.random.fold_in(key, i))
    for i, (name, (fn, value, weight)) in enumerate(seen.observed.items()):
        if with_noise:
            own = jax.random.fold_in(key, len(posterior.sites) + i)
            unit = jax.random.normal(own, jnp.shape(value), posterior.x.dtype)
            # A row of weight a counts a times: its noise has a-th of the variance.
            noise[name] = unit * jnp.sqrt(fn.variance * T * L / weight)
    return Anchors(values, noise)


def anchored_loss(
    posterior: Posterior, anchors: Anchors, u: Array, batch: Array | None = None
) -> Array:
    """The loss of one member, in nats at T = 1; sites that are not Gaussian keep their priors.

    Args:
        posterior: the target.
        anchors: of the member.
        u: unconstrained vector ``(dim,)``.
        batch: row numbers, for an estimate from them; all rows if not given.
    """
    seen = _seen(posterior, u, batch)
    likelihood = jnp.zeros((), u.dtype)
    for name, (fn, value, weight) in seen.observed.items():
        if name in anchors.noise:
            extra = anchors.noise[name]
            value = value + (extra if batch is None else extra[batch])
        likelihood += jnp.sum(fn.log_prob(value) * weight)
    if batch is not None:
        likelihood *= posterior.rows / batch.shape[0]
    prior = jnp.zeros((), u.dtype)
    for name, fn in seen.fns.items():
        value = seen.values[name]
        if name in anchors.values:  # N(m, S) at w - a + m is N(a, S) at w
            value = value - anchors.values[name] + fn.mean
        prior += jnp.sum(fn.log_prob(value))
    return -(likelihood / posterior.likelihood_temperature + prior)


def anchored_start(posterior: Posterior, anchors: Anchors, u: Array) -> Array:
    """``u`` with the anchored sites at their anchors."""
    return jnp.concatenate(
        [jnp.ravel(anchors.values.get(site.name, site.take(u))) for site in posterior.sites]
    )


def check_anchors(posterior: Posterior, with_noise: bool, variant: str) -> None:
    """Raise where a model has no anchors, or noise that is not Gaussian and known.

    Args:
        posterior: the target.
        with_noise: the targets get noise, too.
        variant: what to call it.

    Raises:
        InputError: what is in the way.
    """

    def trace(u: Array) -> list[Array]:
        seen = _seen(posterior, u, None)
        for site in posterior.sites:
            _refuse_prior(site, seen, variant)
        if not any(tempering.is_gaussian(fn) for fn in seen.fns.values()):
            raise InputError(f"variant {variant!r}: no site has a Gaussian prior to anchor {ABLE}")
        return _scales(seen, variant) if with_noise else []

    at = jax.ShapeDtypeStruct((posterior.dimension,), posterior.x.dtype)
    jaxpr = jax.make_jaxpr(trace)(at).jaxpr
    if any(depends_on_first(jaxpr, 1)):
        raise InputError(
            f"variant {variant!r}: the noise of the targets is learned or depends on x; it has to "
            f"be known, as with likelihood.noise = 'fixed' {ABLE}"
        )


def _scales(seen: Scored, variant: str) -> list[Array]:
    found = []
    for name, (fn, _, _) in seen.observed.items():
        inner = score.base(fn)
        if type(inner) is not dist.Normal:
            raise InputError(
                f"variant {variant!r}: observed site {name!r} is {type(inner).__name__}; noise can "
                f"be added to targets with Gaussian noise alone {ABLE}"
            )
        found.append(jnp.asarray(inner.scale))
    return found


def _refuse_prior(site: Site, seen: Scored, variant: str) -> None:
    fn = seen.fns[site.name]
    # A positive scale is no weight: it goes to its own mode.
    if not site.conditional and (tempering.is_gaussian(fn) or not site.free):
        return
    depends = " that depends on other sites" if site.conditional else ""
    raise InputError(
        f"variant {variant!r}: site {site.name!r} has a {type(score.base(fn)).__name__} prior"
        f"{depends}; an anchor needs a Gaussian prior of known scale {ABLE}"
    )


def _seen(posterior: Posterior, u: Array, batch: Array | None) -> Scored:
    x, y = posterior.x, posterior.y
    if batch is not None:
        x, y = x[batch], y[batch]
    return score.run(posterior.model, x, y, score.from_vector(u, posterior.sites))
