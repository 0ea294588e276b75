"""Evidence as a product of small importance-sampling steps from rung to rung."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from bnnzoo.inference.rungs import RungOptions, Rungs, Sampled
from bnnzoo.registry import register

LOWEST_SHARE = 0.05
"""Effective share of a stone's draws under which its ratio rests on few."""


class SteppingStoneOptions(RungOptions):
    """Options of ``stepping-stone``."""


@dataclass(frozen=True)
class SteppingStone(Rungs):
    """Each ratio of neighbouring normalisers from the draws at the hotter rung."""

    needs_last = False

    def value(self, sampled: Sampled) -> float:
        """The sum of the log ratios."""
        return float(_log_ratios(sampled).sum())

    def judge(self, sampled: Sampled, error: float) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The ratios, the effective draws behind each, and a grid half as fine."""
        weights = _weights(sampled)
        log_share = 2 * logsumexp(weights, axis=(0, 2)) - logsumexp(2 * weights, axis=(0, 2))
        share = np.exp(log_share) / (weights.shape[0] * weights.shape[2])
        diagnostics = {
            "log_ratios": _log_ratios(sampled).tolist(),
            "effective_shares": share.tolist(),
            "halved_grid": self.value(sampled.every_second()),
        }
        if (lowest := float(share.min())) >= LOWEST_SHARE:
            return diagnostics, ()
        return diagnostics, (
            f"the ratio between two rungs rests on {lowest:.1%} of the draws; raise rungs",
        )


def _weights(sampled: Sampled) -> np.ndarray:
    """Log weights towards the next rung ``(replica, stone, sweep)``."""
    rises = np.diff(sampled.betas)
    return rises[:, None] * sampled.log_likelihood[:, : len(rises)]


def _log_ratios(sampled: Sampled) -> np.ndarray:
    weights = _weights(sampled)
    return logsumexp(weights, axis=(0, 2)) - np.log(weights.shape[0] * weights.shape[2])


@register(
    "estimators",
    "stepping-stone",
    summary="Chains at many temperatures; ratios of neighbouring normalisers, multiplied.",
    options=SteppingStoneOptions,
    references=(
        "Xie et al. (2011), Improving Marginal Likelihood Estimation for Bayesian Phylogenetic "
        "Model Selection",
        "Geyer (1991), Markov Chain Monte Carlo Maximum Likelihood, for exchanges",
    ),
    tags={"kind": "consistent", "family": "sampling"},
    facts={
        "number": "consistent",
        "standard error": "jackknife over independent replicas",
        "wrong when": "chains that have not reached their rung's law (mean_log_likelihood that "
        "differs between warm-ups, exchanges that are refused), ratios that rest on few draws",
        "choose it": "exchanges between temperatures are wanted: modes that no trajectory joins",
    },
    notes="A replica is one chain at each rung, annealed from its own draw of the prior; all rungs "
    "of all replicas are one program. The chain at the prior is a fresh draw at every sweep. No "
    "chain runs at the posterior itself. Ratios are of all replicas' draws together, the bias of "
    "their logarithms taken off by the jackknife.",
)
def stepping_stone(options: SteppingStoneOptions) -> SteppingStone:
    """The estimator of these options."""
    return SteppingStone(options)
