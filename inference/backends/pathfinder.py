"""Pathfinder: the best Gaussian along quasi-Newton paths, importance-resampled."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.diagnostics import psis_weights
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import Field

from bnnzoo.inference import quasi_newton
from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.inference.importance import LARGEST_KHAT, khat_flag, khat_flags
from bnnzoo.inference.quasi_newton import PathGaussian
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Options
from bnnzoo.registry import register


class PathfinderOptions(Options):
    """Options of ``pathfinder``."""

    max_steps: Annotated[int, Field(gt=1)] = Field(
        200, description="Most steps of L-BFGS on one path."
    )
    memory: Annotated[int, Field(gt=0)] = Field(
        10, description="Steps that L-BFGS remembers; the covariance has twice that rank."
    )
    bound_samples: Annotated[int, Field(gt=0)] = Field(
        32, description="Draws that estimate the bound at every point of a path."
    )
    candidates: Annotated[int, Field(ge=25)] = Field(
        200, description="Draws of each path that importance resampling chooses from."
    )
    resample: Literal["psis", "none"] = Field(
        "psis",
        description="psis: draws are candidates of all paths, by Pareto-smoothed importance "
        "weights against the mixture of all. none: fresh draws from the path of the highest bound.",
    )


class PathfinderState(NamedTuple):
    """A Gaussian for every path, and the weights of its candidates.

    Candidates are not kept: noise j of path p is a function of its key and j.

    Attributes:
        start: where the first path begins ``(dim,)``.
        gaussians: one a path, stacked.
        bounds: estimate of the bound of each ``(path,)``; minus infinity for one that failed.
        keys: data of the key of each path's candidates ``(path, ...)``.
        log_p: target's log density at the candidates ``(path, candidate)``.
        done: paths so far.
        log_weights: smoothed and normalised ``(path, candidate)``.
        khat: of all candidates.
    """

    start: Array
    gaussians: PathGaussian
    bounds: Array
    keys: Array
    log_p: Array
    done: Array
    log_weights: Array
    khat: Array


@functools.partial(
    register_dataclass,
    data_fields=(),
    meta_fields=("paths", "max_steps", "memory", "bound_samples", "candidates", "resample"),
)
@dataclass(frozen=True)
class Pathfinder(Backend):
    """A warm-up step is one path: a climb by L-BFGS and the best Gaussian on it."""

    paths: int
    max_steps: int
    memory: int
    bound_samples: int
    candidates: int
    resample: str

    splits_rows = True
    stats = ("lp", "elbo", "khat", "gradients")
    default_warmup = 8

    def schedule(self, warmup: int) -> np.ndarray:
        """One path a step; the last one weighs the candidates of all."""
        stages = np.full(warmup, Stage.SLOW, np.int32)
        stages[-1:] = Stage.SLOW_END
        return stages

    def planned(self, warmup: int) -> Pathfinder:
        """As many paths as warm-up steps."""
        return dataclasses.replace(self, paths=max(warmup, 1))

    def init(self, posterior: Posterior, u: Array) -> PathfinderState:
        """No path yet: all of them stand for a standard normal about the start."""
        rank = min(2 * self.memory, u.size)
        one = PathGaussian(
            u,
            jnp.ones_like(u),
            jnp.eye(u.size, rank, dtype=u.dtype),
            jnp.eye(rank, dtype=u.dtype),
        )
        stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * self.paths), one)
        low = jnp.full((self.paths, self.candidates), -jnp.inf, u.dtype)
        key = jax.random.key_data(jax.random.key(0))
        return PathfinderState(
            start=u,
            gaussians=stacked,
            bounds=low[:, 0],
            keys=jnp.stack([key] * self.paths),
            log_p=low,
            done=jnp.zeros((), jnp.int32),
            log_weights=jnp.zeros_like(low),
            khat=jnp.asarray(jnp.inf, u.dtype),
        )

    def step(
        self, posterior: Posterior, state: PathfinderState, stage: Array, key: Array
    ) -> tuple[PathfinderState, Step]:
        """One path, or one draw once sampling."""
        return jax.lax.cond(
            stage == Stage.SAMPLE,
            lambda: self._draw(posterior, state, key),
            lambda: self._follow(posterior, state, stage, key),
        )

    def _follow(
        self, posterior: Posterior, state: PathfinderState, stage: Array, key: Array
    ) -> tuple[PathfinderState, Step]:
        """Climb from a draw of the prior, the first time from the chain's own start."""
        key_start, key_bound, key_pool = jax.random.split(key, 3)
        start = jax.lax.cond(
            state.done == 0, lambda: state.start, lambda: posterior.initial(key_start)
        )
        tolerance = 10.0 * float(jnp.finfo(start.dtype).eps)
        path = quasi_newton.climb(
            posterior.log_density, start, self.max_steps, self.memory, tolerance
        )
        best, bound = self._best(posterior, path, key_bound, state)
        data = jax.random.key_data(key_pool)

        def density(j: Array) -> Array:
            return posterior.log_density(best.draw(_noise(data, j, start))[0])

        log_p = jax.vmap(density)(jnp.arange(self.candidates))
        usable = jnp.isfinite(bound) & jnp.isfinite(log_p)
        i = state.done
        known = state._replace(
            gaussians=jax.tree.map(lambda all, new: all.at[i].set(new), state.gaussians, best),
            bounds=state.bounds.at[i].set(bound),
            keys=state.keys.at[i].set(data),
            log_p=state.log_p.at[i].set(jnp.where(usable, log_p, -jnp.inf)),
            done=i + 1,
        )
        log_weights, khat = jax.lax.cond(
            stage == Stage.SLOW_END,
            lambda: _weights(self._ratios(known)),
            lambda: (state.log_weights, state.khat),
        )
        state = known._replace(log_weights=log_weights, khat=khat)
        lp = posterior.log_density(best.mean)
        stats = {"lp": lp, "elbo": bound, "khat": khat, "gradients": path.evaluations}
        return state, Step(best.mean, stats)

    def _best(
        self, posterior: Posterior, path: quasi_newton.Path, key: Array, state: PathfinderState
    ) -> tuple[PathGaussian, Array]:
        """The Gaussian of the highest bound among those at the points of a path."""

        def look(i: Array, carry: Any) -> Any:
            known, best, highest = carry
            moved = quasi_newton.remember(
                known,
                path.u[i] - path.u[i - 1],
                path.gradients[i] - path.gradients[i - 1],
            )
            here = quasi_newton.gaussian(moved, path.u[i], path.gradients[i])
            noise = jax.random.normal(
                jax.random.fold_in(key, i), (self.bound_samples, posterior.dimension), path.u.dtype
            )
            us, log_q = jax.vmap(here.draw)(noise)
            bound = jnp.mean(jax.vmap(posterior.log_density)(us) - log_q)
            better = bound > highest  # False for NaN
            best = jax.tree.map(lambda a, b: jnp.where(better, a, b), here, best)
            return moved, best, jnp.where(better, bound, highest)

        nothing = jax.tree.map(lambda leaf: leaf[0], state.gaussians)
        begin = (
            quasi_newton.no_curvature(state.start, self.memory),
            nothing,
            jnp.asarray(-jnp.inf, path.u.dtype),
        )
        _, best, highest = jax.lax.fori_loop(1, path.length, look, begin)
        return best, highest

    def _ratios(self, state: PathfinderState) -> Array:
        """Log p - log q of all candidates ``(path, candidate)``, q the mixture of all good paths.

        Against the Gaussian of its own path alone one narrow Gaussian would spoil the weights of
        all; the mixture is as wide as its widest (Owen & Zhou 2000, sec. 3).
        """

        def mixed(index: Array) -> Array:
            p, j = index // self.candidates, index % self.candidates
            gaussian = jax.tree.map(lambda leaf: leaf[p], state.gaussians)
            return _mixture(state, gaussian.draw(_noise(state.keys[p], j, state.start))[0])

        log_q = jax.lax.map(mixed, jnp.arange(state.log_p.size), batch_size=64)
        return state.log_p - log_q.reshape(state.log_p.shape)

    def _draw(
        self, posterior: Posterior, state: PathfinderState, key: Array
    ) -> tuple[PathfinderState, Step]:
        if self.resample == "psis":
            chosen = jax.random.categorical(key, state.log_weights.ravel())
            p, j = chosen // self.candidates, chosen % self.candidates
            noise = _noise(state.keys[p], j, state.start)
        else:
            p = jnp.argmax(state.bounds)
            noise = jax.random.normal(key, state.start.shape, state.start.dtype)
        u, own = jax.tree.map(lambda leaf: leaf[p], state.gaussians).draw(noise)
        lp = posterior.log_density(u)
        log_q = _mixture(state, u) if self.resample == "psis" else own
        stats = {
            "lp": lp,
            "elbo": lp - log_q,
            "khat": state.khat,
            "gradients": jnp.zeros((), u.dtype),
        }
        return state, Step(u, stats)

    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """Those of the line searches; bounds and weights take densities alone."""
        return int(np.nansum(stats["gradients"])) if stats else 0

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Paths that failed, and candidates too far from the posterior."""
        bounds = warmup.get("elbo", np.zeros(0))
        failed = int(np.sum(~np.isfinite(bounds)))
        if failed == len(bounds):
            message = (
                "no path gave a Gaussian with a finite bound: draws are a standard normal about "
                "the start; raise warmup, which is the number of paths, or take mean-field-vi"
            )
            return [Flag("unconverged", message)]
        found = []
        if failed:
            message = f"{failed} of {len(bounds)} paths gave no Gaussian with a finite bound"
            found.append(Flag("warning", message))
        if self.resample == "none":
            return [*found, *khat_flags(stats["elbo"])]
        value = float(stats["khat"][-1])
        return [*found, khat_flag(value)] if value > LARGEST_KHAT else found


def _noise(data: Array, j: Array, like: Array) -> Array:
    """Noise ``(dim,)`` of candidate j of a path, from the data of the path's key."""
    key = jax.random.fold_in(jax.random.wrap_key_data(data), j)
    return jax.random.normal(key, like.shape, like.dtype)


def _mixture(state: PathfinderState, u: Array) -> Array:
    """Log density at ``u`` of the equal mixture of the paths that gave a Gaussian."""
    good = jnp.isfinite(state.bounds)
    terms = jax.vmap(lambda gaussian: gaussian.log_density(u))(state.gaussians)
    count = jnp.maximum(jnp.sum(good), 1)
    return jax.nn.logsumexp(jnp.where(good, terms, -jnp.inf)) - jnp.log(count)


def _weights(log_ratios: Array) -> tuple[Array, Array]:
    """Smoothed log weights of all candidates, normalised, and their k-hat.

    Candidates without density weigh nothing; in the smoothing they have the lowest finite value.
    """
    ratios = log_ratios.ravel()
    highest = jnp.max(ratios)
    floor = jnp.asarray(-80.0, ratios.dtype)
    kept = jnp.isfinite(ratios)
    relative = jnp.where(kept, jnp.maximum(ratios - highest, floor), floor)
    smoothed, khat = psis_weights(relative)
    log_weights = jnp.where(kept, smoothed, -jnp.inf)
    none = ~jnp.any(kept)
    log_weights = jnp.where(none, 0.0, log_weights)
    return log_weights.reshape(log_ratios.shape), jnp.where(none, jnp.inf, khat)


@register(
    "backends",
    "pathfinder",
    summary="Gaussians found along quasi-Newton climbs, importance-resampled: seconds, no tuning.",
    options=PathfinderOptions,
    references=(
        "Zhang, Carpenter, Gelman & Vehtari (2022), Pathfinder: Parallel Quasi-Newton Variational "
        "Inference, alg. 1-4",
        "Vehtari et al. (2024), Pareto Smoothed Importance Sampling",
        "Owen & Zhou (2000), Safe and Effective Importance Sampling, sec. 3",
    ),
    tags={"exact": False, "family": "variational", "gradients": "full-batch"},
    facts={
        "exact for": "Gaussian posteriors",
        "bias": "1 / candidates while k-hat is below 0.7",
        "a draw costs": "a share of the line-searched climbs",
        "memory": "two climbs a path in vectors of the parameters",
        "choose it": "a first look within seconds, or starts",
    },
    notes="warmup is the number of paths: 1 is single-path, more are multi-path. The first begins "
    "where the chain does, the others at draws of the prior; each gives the Gaussian of the "
    "highest bound on its way. Draws are candidates of all paths by smoothed importance weights, "
    "with replacement: at most paths x candidates different ones. Weights are against the mixture "
    "of all paths, not each path's own Gaussian as published, which one narrow path would spoil. "
    "Exact for posteriors that are Gaussian in unconstrained coordinates, up to Monte Carlo error. "
    "Bias elsewhere: that of importance weights cut at their largest, of order 1/candidates as "
    "long as k-hat is below "
    "0.7; above it the draws are those of the best Gaussians, one mode each. Cost: the gradients "
    "of some hundred steps a path, densities for bounds and weights, nothing a draw but one "
    "density; memory: max_steps positions and gradients, and 2 memory + 2 vectors a path. Take it "
    "for a first look, for starts, and where a model has few parameters.",
)
def pathfinder(options: PathfinderOptions) -> Pathfinder:
    """The backend of these options."""
    return Pathfinder(
        Pathfinder.default_warmup,
        options.max_steps,
        options.memory,
        options.bound_samples,
        options.candidates,
        options.resample,
    )
