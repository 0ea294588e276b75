"""Hyper-parameters by lower bounds of Laplace's evidence from a few rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from bnnzoo.inference.estimators.laplace_ntk import BlockOptions
from bnnzoo.inference.hyper_parameters import Groups
from bnnzoo.inference.laplace_ntk import Blocks, log_dets, output_count, without_data
from bnnzoo.inference.tuners._following import Following, FollowingOptions, Objective
from bnnzoo.models.posterior import Posterior
from bnnzoo.registry import register


class LaplaceNtkTunerOptions(FollowingOptions, BlockOptions):
    """Options of ``laplace-ntk``."""


@dataclass(frozen=True)
class BlockBound(Objective):
    """The bound of all blocks of a random partition, or its estimate from one block.

    One block of M of N rows, drawn uniformly, counts N / M times: log|I + K| a row falls with the
    rows (Han's inequality), so that its mean is a bound as well where M does not divide N.
    """

    batch: int
    outputs: str
    memory_bytes: int
    whole: bool

    def __call__(self, posterior: Posterior, u: Array, key: Array, held: Any = None) -> Array:
        """Nats; traced."""
        size = min(self.batch, posterior.rows)
        count = -(-posterior.rows // size) if self.whole else 1
        rows_key, column_key = jax.random.split(key)
        order = jax.random.permutation(rows_key, posterior.rows)
        rows = jnp.resize(order, (count * size,)).reshape(count, size)
        weights = (jnp.arange(count * size) < posterior.rows).reshape(count, size)
        columns = None
        if self.outputs == "random":
            columns = jax.random.randint(column_key, (count,), 0, output_count(posterior))
        base, precision = without_data(posterior, u, self.memory_bytes)
        blocks = Blocks(rows, weights.astype(u.dtype))
        found = log_dets(posterior, u, precision, blocks, columns, self.outputs, self.memory_bytes)
        scale = 1.0 if self.whole else posterior.rows / size
        return base - 0.5 * scale * jnp.sum(found)


@dataclass(frozen=True)
class LaplaceNtkTuner(Following):
    """A random block a step; all blocks at the end, by which restarts are compared."""

    options: LaplaceNtkTunerOptions

    def check(self, posterior: Posterior, groups: Groups) -> None:
        """What the bound is of, and that a block fits the memory."""
        self.options.check(posterior, "tune", "tuner")

    def objective(self, last: bool) -> Objective:
        """A block, or all of them."""
        given = self.options
        return BlockBound(given.batch, given.outputs, given.memory_bytes, last)


@register(
    "tuners",
    "laplace-ntk",
    summary="A lower bound of Laplace's evidence, a random block of rows a step.",
    options=LaplaceNtkTunerOptions,
    references=(
        "Immer, van der Ouderaa, van der Wilk, Raetsch & Schoelkopf (2023), Stochastic Marginal "
        "Likelihood Gradients using Neural Tangent Kernels",
    ),
    tags={"kind": "approximation-bound", "family": "optimisation"},
    notes="Mode and hyper-parameters in turn, as in laplace; the mode is of all rows. Each step of "
    "Adam takes the gradient of the bound that laplace-ntk estimates, from one random block, "
    "without bias; the trace is as noisy as that. Its last value is of all blocks. The bound's gap "
    "is tuned as well: at one mode, blocks charge a common factor of all widths more than the "
    "evidence does, and make it narrower.",
)
def laplace_ntk(options: LaplaceNtkTunerOptions) -> LaplaceNtkTuner:
    """The tuner of these options."""
    return LaplaceNtkTuner(options)
