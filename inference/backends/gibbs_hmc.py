"""Inverse-gamma variances drawn exactly, everything else moved by Hamiltonian Monte Carlo.

Given all else, a variance v ~ InverseGamma(a, b) of d Gaussian weights is inverse-gamma again. At
temperatures T and L the root density is raised to 1/T and the conditional prior of the weights is
N(0, T v s^2), so v has shape (a + 1)/T - 1 + d/2 and rate (b + |w|^2 / (2 s^2))/T; n residuals r of
a Gaussian likelihood of variance v add n/(2 T L) and |r|^2/(2 T L).

None of this is written out below. In l = log v such a target is -shape l - rate exp(-l) + const,
whatever shares the variance; its first two derivatives give shape and rate. So no name of a model
or of a family needs to be known, and the temperatures are those of the posterior itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.tree_util import register_dataclass
from jax.typing import ArrayLike
from pydantic import Field

from bnnzoo.errors import InputError, hint
from bnnzoo.inference.backend import Step
from bnnzoo.inference.backends.hmc import HMC, Chain, HMCOptions, fields
from bnnzoo.inference.hamiltonian import HamiltonianState
from bnnzoo.inference.precision import precision
from bnnzoo.models import score
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.registry import register

POINTS = 3
"""Scattered points of ``u`` at which a variance's conditional is checked."""

MISFIT = 1e-6
"""Greatest relative departure from an inverse-gamma conditional, in float64."""


class GibbsHMCOptions(HMCOptions):
    """Options of ``gibbs-hmc``."""

    variances: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None,
        description="Inverse-gamma sites to draw from their conditionals; HMC moves the "
        "others. All if not given.",
    )


class GibbsChain(NamedTuple):
    """The part that HMC moves, and the logarithms of the variances ``(variance,)``."""

    rest: Chain
    log_variances: Array

    @property
    def position(self) -> Array:
        """What the metric is of."""
        return self.rest.position

    @property
    def logdensity(self) -> Array:
        """Of the whole."""
        return self.rest.logdensity


@functools.partial(
    register_dataclass,
    data_fields=("target_acceptance", "trajectory", "jitter", "max_steps", "restarts"),
    meta_fields=("dense", "tuned", "variances"),
)
@dataclass(frozen=True)
class GibbsHMC(HMC):
    """Each step draws the variances given the rest, then moves the rest given the variances."""

    target_acceptance: Leaf
    trajectory: Leaf
    jitter: Leaf
    max_steps: Leaf
    restarts: Leaf
    dense: bool
    tuned: bool
    variances: tuple[str, ...] | None

    def check(self, posterior: Posterior) -> None:
        """Every variance has an inverse-gamma conditional, and HMC has something left to move."""
        found = inverse_gamma_sites(posterior)
        others = "(backends that can: nuts, hmc)"
        if not found:
            raise InputError(
                f"gibbs-hmc: the model has no inverse-gamma site whose conditional it could draw "
                f"from {others}; prior 'hierarchical-gaussian' has one a layer"
            )
        for name in self.variances or ():
            if name not in found:
                raise InputError(
                    f"inference.variances: {name!r} is no inverse-gamma site{hint(name, found)}"
                )
        names = self._names(posterior)
        places = _places(posterior, names)
        if len(places) == posterior.dimension:
            raise InputError(f"gibbs-hmc: besides its variances the model has no site {others}")
        owners = np.concatenate([np.full(s.size, s.name) for s in _sites(posterior, names)])
        with precision("float64"):
            doubled = jax.tree.map(_doubled, posterior)
            misfits = np.asarray(_misfit(doubled, jnp.asarray(places)))
        for name, misfit in zip(owners, misfits, strict=True):
            if not misfit < MISFIT:
                raise InputError(
                    f"gibbs-hmc: given all else, variance {str(name)!r} is not inverse-gamma: it "
                    "must be the variance, up to a factor, of Gaussian sites or a Gaussian "
                    "likelihood, and enter nothing else; name the variances that are in "
                    f"inference.variances {others}"
                )

    def init(self, posterior: Posterior, u: Array) -> HamiltonianState:
        """The rest at its start, unit metric."""
        places, rest = self._split(posterior)
        log_v = u[places]
        state = self.begin(_given(posterior.log_density, places, rest, log_v), u[rest])
        return HamiltonianState(GibbsChain(state.chain, log_v), state.adaptation)

    def step(
        self, posterior: Posterior, state: HamiltonianState, stage: Array, key: Array
    ) -> tuple[HamiltonianState, Step]:
        """The variances, then one trajectory of the rest."""
        state, step = super().step(posterior, state, stage, key)
        places, rest = self._split(posterior)
        u = _joined(places, rest, state.chain.log_variances, state.chain.position)
        return state, Step(u, step.stats)

    def transition(
        self,
        posterior: Posterior,
        state: Any,
        step_size: Array,
        metric: Array,
        stage: Array,
        key: Array,
    ) -> tuple[Any, Any, Array]:
        """See :class:`GibbsHMC`."""
        key_draw, key_move = jax.random.split(key)
        places, rest = self._split(posterior)
        here = state.rest.position
        u = _joined(places, rest, state.log_variances, here)
        shape, log_rate = self.conditional(posterior, u, places)
        drawn = log_rate - jax.random.loggamma(key_draw, shape)
        log_v = jnp.where(jnp.isfinite(drawn), drawn, state.log_variances)
        log_density = _given(posterior.log_density, places, rest, log_v)
        value, gradient = jax.value_and_grad(log_density)(here)
        chain = state.rest._replace(logdensity=value, logdensity_grad=gradient)
        chain, info, steps = self.move(log_density, chain, step_size, metric, stage, key_move)
        return GibbsChain(chain, log_v), info, steps

    def conditional(
        self, posterior: Posterior, u: Array, places: np.ndarray
    ) -> tuple[Array, Array]:
        """Shape and log rate of each variance given all else; see :func:`shape_and_log_rate`."""
        return shape_and_log_rate(posterior.log_density, u, places)

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """One a leapfrog step, and one at the new variances."""
        return super().gradients(stats) + int(np.isfinite(stats["n_steps"]).sum()) if stats else 0

    def _names(self, posterior: Posterior) -> tuple[str, ...]:
        return inverse_gamma_sites(posterior) if self.variances is None else self.variances

    def _split(self, posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
        """Places in ``u`` of the variances, and of the rest."""
        places = _places(posterior, self._names(posterior))
        return places, np.setdiff1d(np.arange(posterior.dimension), places)


def inverse_gamma_sites(posterior: Posterior) -> tuple[str, ...]:
    """Names of the latent sites whose prior is inverse-gamma.

    Args:
        posterior: concrete or traced; its model is run on shapes alone.
    """
    found: list[str] = []

    def trace(u: Array) -> Array:
        supply = score.from_vector(u, posterior.sites)
        seen = score.run(posterior.model, posterior.x, posterior.y, supply)
        found.extend(n for n, fn in seen.fns.items() if type(score.base(fn)) is dist.InverseGamma)
        return seen.log_jacobian

    jax.eval_shape(trace, jax.ShapeDtypeStruct((posterior.dimension,), posterior.x.dtype))
    return tuple(found)


def shape_and_log_rate(
    log_density: Callable[[Array], Array], u: Array, places: ArrayLike
) -> tuple[Array, Array]:
    """Shape and log rate of inverse-gamma conditionals, from derivatives of the target.

    Of f(l) = -shape l - rate exp(-l), f'' = -rate exp(-l) and f' + f'' = -shape. The second
    relation is used where rate exp(-l) is 1, as f' and f'' would cancel where it is large.

    Args:
        log_density: of the whole vector.
        u: position ``(dim,)``.
        places: where the logarithms of the variances stand in it ``(variance,)``.

    Returns:
        Both ``(variance,)``; not finite where the target is not.
    """

    def derivatives(log_v: Array) -> tuple[Array, Array]:
        slope = jax.grad(lambda log_v: log_density(u.at[places].set(log_v)))
        # Variances do not meet in any term, so that the Hessian is diagonal.
        return jax.jvp(slope, (log_v,), (jnp.ones_like(log_v),))

    log_v = u[places]
    log_rate = jnp.log(-derivatives(log_v)[1]) + log_v
    slope, curvature = derivatives(log_rate)
    return -slope - curvature, log_rate


@jax.jit
def _misfit(posterior: Posterior, places: Array) -> Array:
    """By how much the conditionals depart from inverse-gammas that are independent ``(variance,)``.

    Slopes are compared at other values of the variances, moved by unequal amounts.
    """

    def at(key: Array) -> Array:
        key_u, key_moves = jax.random.split(key)
        u = jax.random.normal(key_u, (posterior.dimension,))
        shape, log_rate = shape_and_log_rate(posterior.log_density, u, places)

        def slope(log_v: Array) -> Array:
            return jax.grad(lambda log_v: posterior.log_density(u.at[places].set(log_v)))(log_v)

        def misfit(move: Array) -> Array:
            log_v = log_rate + move
            pull = jnp.exp(-move)
            expected = pull - shape
            return jnp.abs(slope(log_v) - expected) / (jnp.abs(shape) + pull)

        moves = jax.random.uniform(key_moves, (2, places.size), minval=-2.0, maxval=2.0)
        return jnp.max(jax.lax.map(misfit, moves), axis=0)

    return jnp.max(jax.lax.map(at, jax.random.split(jax.random.key(0), POINTS)), axis=0)


def _given(
    log_density: Callable[[Array], Array], places: np.ndarray, rest: np.ndarray, log_v: Array
) -> Callable[[Array], Array]:
    """The log density of the rest, the variances held."""
    return lambda position: log_density(_joined(places, rest, log_v, position))


def _joined(places: np.ndarray, rest: np.ndarray, log_v: Array, position: Array) -> Array:
    """The whole vector."""
    u = jnp.zeros(len(places) + len(rest), position.dtype)
    return u.at[places].set(log_v).at[rest].set(position)


def _sites(posterior: Posterior, names: tuple[str, ...]) -> list[score.Site]:
    return [site for site in posterior.sites if site.name in names]


def _places(posterior: Posterior, names: tuple[str, ...]) -> np.ndarray:
    spans = [np.arange(s.offset, s.offset + s.size) for s in _sites(posterior, names)]
    return np.concatenate(spans)


def _doubled(leaf: Any) -> Array:
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


@register(
    "backends",
    "gibbs-hmc",
    summary="Inverse-gamma variances drawn from their conditionals, the rest moved by HMC.",
    options=GibbsHMCOptions,
    references=(
        "Neal (1996), Bayesian Learning for Neural Networks, sec. 3.2 and 4.1",
        "Tran et al. (2022), All You Need is a Good Functional Prior for Bayesian Deep Learning, "
        "for variances a layer",
    ),
    tags={"exact": True, "family": "mcmc", "gradients": "full-batch"},
    facts={
        "exact for": "inverse-gamma variances over Gaussian weights or noise, any temperature",
        "bias": "none",
        "a draw costs": "as hmc, and an exact draw of every variance",
        "memory": "a few vectors of the parameters",
        "choose it": "layer variances are learned (prior hierarchical-gaussian)",
    },
    notes="Exact at every temperature. For models with InverseGamma variances of Gaussian sites or "
    "of a Gaussian likelihood (prior 'hierarchical-gaussian', or hand-written): given the rest "
    "such a variance is inverse-gamma with shape (a + 1)/T - 1 + d/2 and rate (b + |w|^2/(2 "
    "s^2))/T. That it is so is checked numerically before the run. HMC is as in backend hmc, on "
    "the remaining sites. Derivatives for the variances do not pass through the network and are "
    "not counted.",
)
def gibbs_hmc(options: GibbsHMCOptions) -> GibbsHMC:
    """The backend of these options."""
    return GibbsHMC(**fields(options), variances=options.variances)
