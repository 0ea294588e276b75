"""What an algorithm may ask of a model: a prior that is normalised, that can be drawn from."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from bnnzoo.errors import InputError
from bnnzoo.models import score
from bnnzoo.models.noise import AdditiveNoise
from bnnzoo.models.posterior import Posterior

UNDRAWABLE = "cannot be drawn from; nuts and hmc need no such draws"
MASKED = "is masked, which its draws are not; nuts and hmc can treat it"


def check_normalised(posterior: Posterior) -> None:
    """Refuse a model whose prior or likelihood is no normalised density.

    Args:
        posterior: the target.

    Raises:
        InputError: a ``numpyro.factor``, or an improper or masked prior, by its site.
    """
    factors: list[str] = []

    def trace() -> Array:
        u = jnp.zeros(posterior.dimension)
        seen = posterior._score(u)
        factors.extend(seen.factors)
        for name, fn in seen.fns.items():
            if isinstance(score.base(fn), dist.ImproperUniform):
                raise InputError(
                    f"site {name!r} has an improper prior: the evidence is not defined; give it a "
                    "normalised one"
                )
            if _masked(fn):
                raise InputError(
                    f"site {name!r} is masked: its prior is not normalised, so that the evidence "
                    "is not defined"
                )
        return seen.log_jacobian

    jax.eval_shape(trace)
    if factors:
        raise InputError(
            f"site {factors[0]!r} is a numpyro.factor, whose normaliser is not known: the evidence "
            "is not defined"
        )


def check_targets_vary(posterior: Posterior) -> None:
    """Refuse to learn the noise of a target that is constant: it would shrink to nothing.

    The density of n rows grows as noise to the power -n. The prior probability of functions as
    close to the constant as that falls more slowly where there are more rows than output weights,
    or where units of ReLU may be dead: the evidence is infinite then. Where it is not it hangs on
    how the noise goes to 0; ``smc`` was seen not to end.

    Args:
        posterior: the target.

    Raises:
        InputError: such a target; nothing was computed.
    """
    likelihood = getattr(posterior.model, "likelihood", None)
    if not isinstance(likelihood, AdditiveNoise) or likelihood.noise != "learned":
        return
    y = np.asarray(posterior.y)
    if (y.max(axis=0) == y.min(axis=0)).any():
        raise InputError(
            "a target is constant in the training rows: a learned noise shrinks to nothing on it "
            "and the evidence may have no bound; give likelihood.noise = 'fixed', or another target"
        )


def check_drawable(posterior: Posterior, what: str) -> None:
    """Refuse a model whose prior cannot be drawn from, or whose density is not that of the draws.

    Args:
        posterior: the target.
        what: needs the draws.

    Raises:
        InputError: the site.
    """
    prior = score.from_prior(jax.random.key(0))

    def supply(name: str, fn: dist.Distribution) -> tuple[Array, Array]:
        if _masked(fn):
            raise InputError(f"{what} starts from draws of the prior, but site {name!r} {MASKED}")
        return prior(name, fn)

    def trace() -> Array:
        return score.run(posterior.model, posterior.x, posterior.y, supply).log_jacobian

    try:
        jax.eval_shape(trace)
    except score.UndrawableError as error:
        (name,) = error.args
        raise InputError(
            f"{what} starts from draws of the prior, but site {name!r} {UNDRAWABLE}"
        ) from None


def _masked(fn: dist.Distribution) -> bool:
    while True:
        if isinstance(fn, dist.MaskedDistribution):
            return True
        if not hasattr(fn, "base_dist") or isinstance(fn, dist.TransformedDistribution):
            return False
        fn = fn.base_dist
