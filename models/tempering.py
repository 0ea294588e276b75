"""A conditional prior raised to the power 1/T and renormalised.

For p(w | h) with h sampled, the naive power p^(1/T) leaves a factor that depends on h, which is
improper for T < 1 and makes centred and non-centred forms of one model disagree. Each rule below
gives the *normalised* density proportional to p^(1/T), and the margin by which that density is
proper (positive: it exists).
"""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from bnnzoo.errors import TemperatureError
from bnnzoo.models.correlated import CorrelatedNormal
from bnnzoo.models.families import GeneralisedNormal

if TYPE_CHECKING:
    from bnnzoo.models.posterior import Posterior

FAR = 6.0
"""How far out in ``u`` tempered priors are looked at: a positive site is 0.0025 to 400 there."""

Rule = Callable[[Any, Any], dist.Distribution]


def _normal(d: dist.Normal, T: Array) -> dist.Distribution:
    return dist.Normal(d.loc, d.scale * jnp.sqrt(T))


def _half_normal(d: dist.HalfNormal, T: Array) -> dist.Distribution:
    return dist.HalfNormal(d.scale * jnp.sqrt(T))


def _log_normal(d: dist.LogNormal, T: Array) -> dist.Distribution:
    # x^(-1/T) exp(-(log x - m)^2 / (2 s^2 T)): write x^(-1/T) as x^-1 exp((1 - 1/T) log x) and
    # complete the square.
    return dist.LogNormal(d.loc + d.scale**2 * (T - 1.0), d.scale * jnp.sqrt(T))


def _multivariate_normal(d: dist.MultivariateNormal, T: Array) -> dist.Distribution:
    return dist.MultivariateNormal(d.loc, scale_tril=d.scale_tril * jnp.sqrt(T))


def _laplace(d: dist.Laplace, T: Array) -> dist.Distribution:
    return dist.Laplace(d.loc, d.scale * T)


def _generalised_normal(d: GeneralisedNormal, T: Array) -> dist.Distribution:
    return GeneralisedNormal(d.beta, d.loc, d.scale * T ** (1.0 / d.beta))


def _exponential(d: dist.Exponential, T: Array) -> dist.Distribution:
    return dist.Exponential(d.rate / T)


def _power(exponent: Any, T: Array) -> Array:
    """The exponent ``a`` of x^(a-1) after tempering: (a - 1)/T + 1, without rounding at T = 1."""
    return exponent / T + (1.0 - 1.0 / T)


def _decay(exponent: Any, T: Array) -> Array:
    """The exponent ``a`` of x^-(a+1) after tempering: (a + 1)/T - 1, without rounding at T = 1."""
    return exponent / T + (1.0 / T - 1.0)


def _student_t(d: dist.StudentT, T: Array) -> dist.Distribution:
    df = _decay(d.df, T)
    return dist.StudentT(df, d.loc, d.scale * jnp.sqrt(d.df / df))


def _cauchy(d: dist.Cauchy, T: Array) -> dist.Distribution:
    df = _decay(jnp.ones(()), T)
    return dist.StudentT(df, d.loc, d.scale / jnp.sqrt(df))


class _HalfStudentT(dist.Distribution):
    """Student-t folded at zero: NumPyro has the Cauchy alone in this form."""

    support = dist.constraints.positive
    pytree_data_fields = ("df", "scale")

    def __init__(self, df: Array, scale: Array) -> None:
        self.df, self.scale = dist.util.promote_shapes(df, scale)
        super().__init__(jnp.broadcast_shapes(jnp.shape(df), jnp.shape(scale)))

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        return dist.StudentT(self.df, 0.0, self.scale).log_prob(value) + jnp.log(2.0)


def _half_cauchy(d: dist.HalfCauchy, T: Array) -> dist.Distribution:
    df = _decay(jnp.ones(()), T)
    return _HalfStudentT(df, d.scale / jnp.sqrt(df))


def _gamma(d: dist.Gamma, T: Array) -> dist.Distribution:
    return dist.Gamma(_power(d.concentration, T), d.rate / T)


def _inverse_gamma(d: dist.InverseGamma, T: Array) -> dist.Distribution:
    return dist.InverseGamma(_decay(d.concentration, T), d.rate / T)


def _beta(d: dist.Beta, T: Array) -> dist.Distribution:
    return dist.Beta(_power(d.concentration1, T), _power(d.concentration0, T))


def _uniform(d: dist.Uniform, T: Array) -> dist.Distribution:
    return d


_RULES: dict[type, Rule] = {
    dist.Normal: _normal,
    dist.HalfNormal: _half_normal,
    dist.LogNormal: _log_normal,
    dist.MultivariateNormal: _multivariate_normal,
    dist.Laplace: _laplace,
    GeneralisedNormal: _generalised_normal,
    dist.Exponential: _exponential,
    dist.StudentT: _student_t,
    dist.Cauchy: _cauchy,
    dist.HalfCauchy: _half_cauchy,
    dist.Gamma: _gamma,
    dist.Chi2: _gamma,
    dist.InverseGamma: _inverse_gamma,
    dist.Beta: _beta,
    dist.BetaProportion: _beta,
    dist.Uniform: _uniform,
}

# Families with a power-law tail or a pole; one not listed is taken to be proper at every T.
_MARGINS: dict[type, Callable[[Any, Any], Array]] = {
    dist.StudentT: lambda d, T: _decay(d.df, T),
    dist.MultivariateStudentT: lambda d, T: (d.df + d.event_shape[-1]) / T - d.event_shape[-1],
    dist.Cauchy: lambda d, T: _decay(jnp.ones(()), T),
    dist.HalfCauchy: lambda d, T: _decay(jnp.ones(()), T),
    dist.Pareto: lambda d, T: _decay(d.alpha, T),
    dist.Levy: lambda d, T: _decay(0.5 * jnp.ones(()), T),
    dist.Gamma: lambda d, T: _power(d.concentration, T),
    dist.InverseGamma: lambda d, T: _decay(d.concentration, T),
    dist.Weibull: lambda d, T: _power(d.concentration, T),
    dist.Beta: lambda d, T: _power(jnp.minimum(d.concentration1, d.concentration0), T),
    dist.Kumaraswamy: lambda d, T: _power(jnp.minimum(d.concentration1, d.concentration0), T),
    dist.Dirichlet: lambda d, T: _power(d.concentration, T),
    dist.LKJ: lambda d, T: _power(d.concentration, T),
    dist.LKJCholesky: lambda d, T: _power(d.concentration, T),
}


_SAME_TAILS = (
    dist.Independent,
    dist.ExpandedDistribution,
    dist.MaskedDistribution,
    dist.FoldedDistribution,
    dist.LeftTruncatedDistribution,
    dist.RightTruncatedDistribution,
)


def tempered(d: dist.Distribution, temperature: Array) -> dist.Distribution | None:
    """The normalised density proportional to ``d``'s to the power ``1 / temperature``.

    Args:
        d: a NumPyro distribution, possibly expanded or with its batch declared an event.
        temperature: T > 0.

    Returns:
        A distribution of the same shape, or None where no normaliser is known.
    """
    if isinstance(d, dist.Independent):
        inner = tempered(d.base_dist, temperature)
        return None if inner is None else inner.to_event(d.reinterpreted_batch_ndims)
    if isinstance(d, dist.ExpandedDistribution):
        inner = tempered(d.base_dist, temperature)
        return None if inner is None else inner.expand(d.batch_shape)
    if isinstance(d, dist.MaskedDistribution):
        inner = tempered(d.base_dist, temperature)
        return None if inner is None else inner.mask(d._mask)
    if hasattr(d, "tempered"):  # a family of ours, which knows its own
        own: dist.Distribution = d.tempered(temperature)
        return own
    rule = _RULES.get(type(d))
    return None if rule is None else rule(d, temperature)


def margin(d: dist.Distribution, temperature: Array) -> Array:
    """By how much the tempered density is proper: above 0 it is, at or below 0 it is not."""
    if isinstance(d, _SAME_TAILS):
        return margin(d.base_dist, temperature)
    if hasattr(d, "margin"):
        return jnp.min(d.margin(temperature))
    rules = (_MARGINS[cls] for cls in type(d).__mro__ if cls in _MARGINS)  # Chi2 is a Gamma
    of = next(rules, None)
    return jnp.ones(()) if of is None else jnp.min(of(d, temperature))


@jax.jit
def margins(posterior: Posterior) -> dict[str, Array]:
    """How far each latent site's tempered prior is from improper ``(point,)``.

    At the origin of ``u``, far out on either side, and at a few scattered points: a margin may
    depend on other latent sites.
    """
    T = jnp.asarray(posterior.posterior_temperature)
    scattered = jax.random.normal(jax.random.key(0), (4, posterior.dimension))
    points = FAR * jnp.concatenate(
        [jnp.array([0.0, 1.0, -1.0])[:, None] * jnp.ones(posterior.dimension), scattered]
    )

    def at(u: Array) -> dict[str, Array]:
        return {name: margin(fn, T) for name, fn in posterior._score(u).fns.items()}

    return jax.vmap(at)(points)


def check_proper(posterior: Posterior) -> None:
    """Raise ``TemperatureError`` where a tempered prior is improper, and say which T are needed.

    At T = 1 it computes the margins as well, where nothing is improper: another temperature then
    compiles nothing.
    """
    T = posterior.posterior_temperature
    for name, of in jax.device_get(margins(posterior)).items():
        # The origin first. Elsewhere another site may overflow, which says nothing of this one.
        if T == 1.0 or (of[0] > 0 and not np.nanmin(of) <= 0):
            continue
        said = f"posterior_temperature = {T:g}: the tempered prior of site {name!r} is improper"
        if not of[0] <= 0:  # not there, or there it cannot be told
            where = " for some values of the sites it depends on" if of[0] > 0 else ""
            rules = "a Student-t needs T < df + 1, a Gamma shape > 1 - T"
            raise TemperatureError(f"{said}{where} ({rules})")
        needed = f"T {'<' if T > 1 else '>'} {_edge(posterior):.4g}"
        raise TemperatureError(f"{said}; the priors of this model need {needed}")


def _edge(posterior: Posterior) -> float:
    """Between T = 1 and an improper one, the temperature where the first prior becomes improper.

    Margins are concave in 1/T, so that there is one such temperature on the way.
    """
    proper, improper = 0.0, math.log(posterior.posterior_temperature)
    at = copy.copy(posterior)
    for _ in range(HALVINGS):
        middle = (proper + improper) / 2
        at.posterior_temperature = math.exp(middle)
        found = jax.device_get(margins(at)).values()
        if any(of[0] <= 0 for of in found):
            improper = middle
        else:
            proper = middle
    return math.exp(improper)


HALVINGS = 24
"""Of the way between temperatures: what is left is below single precision."""


def is_gaussian(d: dist.Distribution) -> bool:
    """Whether a distribution is a Gaussian, of whatever shape and covariance."""
    while isinstance(d, (dist.Independent, dist.ExpandedDistribution)):
        d = d.base_dist
    return type(d) in (dist.Normal, dist.MultivariateNormal, CorrelatedNormal)


def check_temperature(name: str, value: float) -> None:
    """Raise ``TemperatureError`` for what is not a positive finite number."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > 0):
        raise TemperatureError(f"{name} = {value!r}: a positive finite number is needed")
