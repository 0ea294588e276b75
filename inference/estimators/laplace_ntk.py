"""Lower bounds of the linearised Laplace evidence by blocks of rows."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from pydantic import Field

from bnnzoo.errors import InputError, RunError, setting
from bnnzoo.inference.curvature import GGN, bytes_of_matrix
from bnnzoo.inference.evidence import Estimate, Estimator
from bnnzoo.inference.laplace_evidence import gaussian_priors
from bnnzoo.inference.laplace_modes import find_modes
from bnnzoo.inference.laplace_ntk import Blocks, log_dets, output_count, partition, without_data
from bnnzoo.inference.laplace_structures import Flavour, has_network
from bnnzoo.inference.symmetries import hidden_layers, log_arrangements
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import Count, Options
from bnnzoo.registry import register


class BlockOptions(Options):
    """Which blocks of rows and outputs."""

    batch: Count = Field(
        100, description="Rows of a block; the bound rises with them, to the evidence with all."
    )
    outputs: Literal["joint", "independent", "random"] = Field(
        "joint",
        description="What of a block is kept: all of it, a block an output, or one output drawn "
        "at random, times their number.",
    )
    memory_bytes: Annotated[int, Field(gt=0)] = Field(
        512 * 2**20, description="Most memory for tangents of a few rows, and for a block's kernel."
    )

    def check(self, posterior: Posterior, who: str, section: str) -> None:
        """Raise where the bound is of no posterior, or a block does not fit the memory.

        Args:
            posterior: the target.
            who: asks, for the message.
            section: of these options, for the message.

        Raises:
            InputError: what is in the way.
        """
        if not has_network(posterior):
            raise InputError(
                f"{who}: a hand-written model has no network whose tangents make a kernel; take "
                "method 'laplace' with curvature = 'hessian'"
            )
        for path, fixed in gaussian_priors(posterior).items():
            if not fixed:
                raise InputError(
                    f"{who}: the prior of {path!r} is no fixed Gaussian, so that the linearised "
                    "model has no kernel; give model prior 'gaussian', or take method 'laplace'"
                )
        posterior.check_rows_are_free()
        columns = output_count(posterior) if self.outputs == "joint" else 1
        side = min(self.batch, posterior.rows) * columns
        if (needed := bytes_of_matrix(side, posterior)) > self.memory_bytes:
            raise InputError(
                f"{who}: a block of {min(self.batch, posterior.rows)} rows with {columns} outputs "
                f"each has a kernel of {needed / 2**20:.0f} MiB, more than {section}.memory_bytes "
                f"= {self.memory_bytes}; lower {section}.batch"
            )


class LaplaceNtkOptions(BlockOptions):
    """Options of ``laplace-ntk``."""

    batches: Annotated[int, Field(gt=1)] | None = Field(
        None, description="Blocks that are looked at, drawn at random; all if not given."
    )
    modes: Count = Field(4, description="Independent climbs; the highest bound is given.")
    steps: Count = Field(1000, description="Steps of L-BFGS of each.")


class Total(NamedTuple):
    """A sum over blocks.

    Attributes:
        value: estimated.
        standard_error: of it; 0 where all blocks were looked at.
    """

    value: float
    standard_error: float


def total_of(terms: np.ndarray, blocks: int, exact: bool) -> Total:
    """The sum over all blocks of a partition, from some drawn without replacement.

    Args:
        terms: of the blocks drawn ``(block,)``.
        blocks: in the partition.
        exact: a term is known once its block is; else it is random itself, and the error is that
            of drawing with replacement, which is not smaller.

    Source: Cochran (1977), Sampling Techniques, chapter 2: simple random sampling.
    """
    drawn = len(terms)
    value = blocks * float(terms.mean())
    if exact and drawn == blocks:
        return Total(value, 0.0)
    left = 1.0 - drawn / blocks if exact else 1.0
    return Total(value, blocks * math.sqrt(left / drawn) * float(terms.std(ddof=1)))


@dataclass(frozen=True)
class LaplaceNtk(Estimator):
    """Laplace's evidence with the kernel of the network's tangents cut into blocks."""

    options: LaplaceNtkOptions

    kind = "approximation-bound"

    def check(self, posterior: Posterior) -> None:
        """A network with Gaussian priors, blocks that fit the memory, an error where one is due."""
        given = self.options
        given.check(posterior, "laplace-ntk", "estimator")
        if given.outputs == "random" and given.batch >= posterior.rows:
            raise InputError(
                f"laplace-ntk: estimator.batch = {given.batch} leaves one block, and one random "
                "output has no standard error; lower estimator.batch, or give estimator.outputs = "
                "'independent'"
            )

    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """The highest bound of the modes, all with the same blocks."""
        given = self.options
        # At its end the backend takes the cheapest curvature, for how near the mode is.
        found = find_modes(
            posterior,
            Flavour("diagonal", GGN, "expand", 1, given.memory_bytes),
            noise="joint",  # by a diagonal more weights may be determined than there are rows
            modes=given.modes,
            steps=given.steps,
            seed=seed,
            dtype=dtype,
        )
        random = np.random.default_rng(seed)
        cut = partition(posterior.rows, given.batch, random)
        blocks = len(cut.rows)
        drawn = min(given.batches or blocks, blocks)
        chosen = np.sort(random.choice(blocks, drawn, replace=False))
        columns = None
        if given.outputs == "random":
            columns = jnp.asarray(random.integers(output_count(posterior), size=drawn))
        some = Blocks(cut.rows[chosen], cut.weights[chosen])
        values, errors, totals = [], [], []
        for state in found.states:
            base, terms = jax.device_get(
                _terms(posterior, state.mode, some, columns, given.outputs, given.memory_bytes)
            )
            total = total_of(terms.astype(float), blocks, given.outputs != "random")
            values.append(float(base) - 0.5 * total.value)
            errors.append(0.5 * total.standard_error)
            totals.append(total.value)
        if not np.isfinite(values).any():
            raise RunError(
                "laplace-ntk: no climb ended at a point with a finite bound; take "
                + setting("inference", "dtype", "float64")
            )
        best = int(np.nanargmax(values))
        diagnostics: dict[str, Any] = {
            "modes": values,
            "remaining": float(found.stats["remaining"][best]),
            "log_det": totals[best],
            "diagonal": float(found.stats["log_normaliser"][best]),
            "blocks": blocks,
            "blocks_drawn": drawn,
            "log_arrangements": log_arrangements(hidden_layers(posterior)),
        }
        said = found.warnings[best]
        return Estimate(values[best], errors[best], found.gradients, diagnostics, said)


@functools.partial(jax.jit, static_argnames=("outputs", "memory_bytes"))
def _terms(
    posterior: Posterior,
    u: Array,
    blocks: Blocks,
    columns: Array | None,
    outputs: str,
    memory_bytes: int,
) -> tuple[Array, Array]:
    base, precision = without_data(posterior, u, memory_bytes)
    return base, log_dets(posterior, u, precision, blocks, columns, outputs, memory_bytes)


@register(
    "estimators",
    "laplace-ntk",
    summary="A lower bound of Laplace's evidence by blocks of rows, for networks of any size.",
    options=LaplaceNtkOptions,
    references=(
        "Immer, van der Ouderaa, van der Wilk, Raetsch & Schoelkopf (2023), Stochastic Marginal "
        "Likelihood Gradients using Neural Tangent Kernels",
        "Cochran (1977), Sampling Techniques, chapter 2, for the standard error",
    ),
    tags={"kind": "approximation-bound", "family": "optimisation"},
    facts={
        "number": "lower bound of Laplace's evidence",
        "standard error": "of drawing blocks of the rows' partition; 0 with all of them",
        "wrong when": "taken for a bound of the evidence itself; models are ranked whose gaps "
        "differ; and where laplace is wrong",
        "choose it": "networks too large for a dense curvature, or many rows",
    },
    notes="What is bounded is the value that laplace gives with structure full, curvature ggn and "
    "noise joint, the evidence of the linearised model's Gaussian at the mode, which may lie on "
    "either side of the evidence. The rows are cut at random (by seed) into blocks; what ties "
    "rows of different blocks is left out, which Fischer's inequality makes a lower bound: "
    "equal to laplace with one block, never falling when blocks are merged. With batches fewer "
    "than there are, the sum over blocks is estimated without bias, and the standard error is "
    "of that sum. With independent outputs what ties outputs is left out as well; random ones "
    "estimate that sum by one output a block, the error that of drawing with replacement. "
    "Outputs are columns of the symmetric root of each row's curvature. Priors are Gaussian of "
    "any mean and width an element; noise that is learned is a block of its own. No matrix of "
    "weights squared, and no Jacobian of a block, is formed. diagonal in the diagnostics is "
    "laplace with structure diagonal at the same mode, by Hadamard's inequality another lower "
    "bound of the same number.",
)
def laplace_ntk(options: LaplaceNtkOptions) -> LaplaceNtk:
    """The estimator of these options."""
    return LaplaceNtk(options)
