"""Hamiltonian Monte Carlo with a given trajectory length, or one tuned by ChEES."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.mcmc.hmc import HMCState
from jax import Array
from jax.tree_util import register_dataclass
from pydantic import AfterValidator, Field

from bnnzoo.inference import adaptation, chees
from bnnzoo.inference.backend import Flag, Stage
from bnnzoo.inference.chees import Length
from bnnzoo.inference.hamiltonian import Hamiltonian, HamiltonianOptions, HamiltonianState
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.posterior import Posterior
from bnnzoo.registry import register


def _length_or_chees(given: float | str) -> float | str:
    if given == "chees" or (isinstance(given, float) and 0.0 < given < math.inf):
        return given
    raise ValueError("should be a number above 0, or 'chees'")


class HMCOptions(HamiltonianOptions):
    """Options of ``hmc``."""

    trajectory: Annotated[float | str, AfterValidator(_length_or_chees)] = Field(
        math.pi / 2,
        description="Trajectory length in units of the metric, where each coordinate has scale 1: "
        "pi/2 takes a Gaussian to an independent draw. 'chees': every chain tunes its own in "
        "warm-up.",
    )
    jitter: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="A length is trajectory * U(1 - jitter, 1 + jitter): no resonance. If not "
        "given 0.2, and with 'chees' 1, as in its paper.",
    )
    max_steps: Annotated[int, Field(gt=0)] = Field(
        1000, description="Most leapfrog steps of a trajectory; a shortened one is reported."
    )


class Chain(NamedTuple):
    """Position with its density and gradient; with ChEES also what is known of the length."""

    position: Array
    logdensity: Array
    logdensity_grad: Array
    length: Length | None


@functools.partial(
    register_dataclass,
    data_fields=("target_acceptance", "trajectory", "jitter", "max_steps", "restarts"),
    meta_fields=("dense", "tuned"),
)
@dataclass(frozen=True)
class HMC(Hamiltonian):
    """BlackJAX's HMC with Stan's warm-up and a jittered number of leapfrog steps.

    ``tuned`` says that ChEES moves the length, which ``trajectory`` is the first of, and
    ``restarts`` after how many new metrics it starts again.
    """

    target_acceptance: Leaf
    trajectory: Leaf
    jitter: Leaf
    max_steps: Leaf
    restarts: Leaf
    dense: bool
    tuned: bool

    def planned(self, warmup: int) -> HMC:
        """ChEES starts again with every metric but the last, and with the first."""
        windows = int(np.sum(self.schedule(warmup) == Stage.SLOW_END))
        return dataclasses.replace(self, restarts=max(windows - 1, 1))

    def init(self, posterior: Posterior, u: Array) -> HamiltonianState:
        """Gradient at the start, unit metric."""
        return self.begin(posterior.log_density, u)

    def begin(self, log_density: Callable[[Array], Array], position: Array) -> HamiltonianState:
        """State of a chain on any log density.

        Args:
            log_density: of the position.
            position: the start ``(dim,)``.
        """
        length = chees.init(position, self.trajectory) if self.tuned else None
        here = blackjax.hmc.init(position, log_density)
        chain = Chain(here.position, here.logdensity, here.logdensity_grad, length)
        tuned = adaptation.init(position.size, self.dense, self.target_acceptance)
        return HamiltonianState(chain, tuned)

    def transition(
        self,
        posterior: Posterior,
        state: Any,
        step_size: Array,
        metric: Array,
        stage: Array,
        key: Array,
    ) -> tuple[Any, Any, Array]:
        """One trajectory of jittered length."""
        return self.move(posterior.log_density, state, step_size, metric, stage, key)

    def move(
        self,
        log_density: Callable[[Array], Array],
        chain: Chain,
        step_size: Array,
        metric: Array,
        stage: Array,
        key: Array,
    ) -> tuple[Chain, Any, Array]:
        """One trajectory of jittered length on any log density.

        The number of steps is drawn without looking at the state: every transition is reversible.

        Args:
            log_density: of the position.
            chain: where it stands.
            step_size: of the leapfrog.
            metric: inverse mass matrix.
            stage: what the step is for.
            key: typed key.

        Returns:
            The new chain, BlackJAX's information, the number of leapfrog steps.
        """
        key_length, key_move = jax.random.split(key)
        stretch = 1.0 + self.jitter * jax.random.uniform(key_length, minval=-1.0, maxval=1.0)
        length = self.trajectory if chain.length is None else chees.length(chain.length, stage)
        wanted = jnp.ceil(length * stretch / step_size)
        steps = jnp.clip(wanted, 1, self.max_steps).astype(jnp.int32)
        kernel = blackjax.hmc.build_kernel()
        here = HMCState(chain.position, chain.logdensity, chain.logdensity_grad)
        moved, info = kernel(key_move, here, log_density, step_size, metric, steps)
        tuned = None
        if chain.length is not None:
            tuned = chees.update(
                chain.length,
                stage,
                chain.position,
                info.proposal.position,
                -info.proposal.momentum,  # BlackJAX has turned it round
                jnp.where(info.is_divergent, 0.0, info.acceptance_rate),
                steps * step_size,
                metric,
                (step_size, step_size * self.max_steps),
                self.trajectory,
                self.restarts,
            )
        chain = Chain(moved.position, moved.logdensity, moved.logdensity_grad, tuned)
        return chain, info, steps

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """Also trajectories cut at ``max_steps``, which make draws more alike."""
        found = super().flags(stats, warmup)
        cut = float((stats["n_steps"] >= self.max_steps).mean())
        if cut > 0.5:
            found.append(
                Flag(
                    "warning", f"{cut:.0%} of trajectories were cut at max_steps = {self.max_steps}"
                )
            )
        return found


@register(
    "backends",
    "hmc",
    summary="Hamiltonian Monte Carlo with trajectories of pi/2 in the metric: exact and fast.",
    options=HMCOptions,
    references=(
        "Neal (2011), MCMC Using Hamiltonian Dynamics",
        "Izmailov et al. (2021), What Are Bayesian Neural Network Posteriors Really Like?, sec. 3",
        "Hoffman, Radul & Sountsov (2021), An Adaptive MCMC Scheme for Setting Trajectory Lengths "
        "in Hamiltonian Monte Carlo, for ChEES",
    ),
    tags={"exact": True, "family": "mcmc", "gradients": "full-batch"},
    facts={
        "exact for": "any posterior, any temperature",
        "bias": "none",
        "a draw costs": "one trajectory: π/2 over the step size, 10 to 300 gradients",
        "memory": "a few vectors of the parameters",
        "choose it": "first: networks of any prior whose data fit in memory",
    },
    notes="Exact at every temperature. The metric is estimated by Stan's windows; the trajectory "
    "is measured in it. With trajectory = 'chees' each chain climbs the ChEES criterion by its own "
    "trajectories, without the paper's averages over chains, and keeps the length when sampling "
    "starts.",
)
def hmc(options: HMCOptions) -> HMC:
    """The backend of these options."""
    return HMC(**fields(options))


def fields(options: HMCOptions) -> dict[str, Any]:
    """The fields of :class:`HMC`."""
    tuned = options.trajectory == "chees"
    usual = 1.0 if tuned else 0.2
    return {
        "target_acceptance": options.target_acceptance,
        "trajectory": chees.START if tuned else options.trajectory,
        "jitter": usual if options.jitter is None else options.jitter,
        "max_steps": options.max_steps,
        "restarts": 1,
        "dense": options.metric == "dense",
        "tuned": tuned,
    }
