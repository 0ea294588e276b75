"""Evidence as the integral of the mean log-likelihood over inverse temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bnnzoo.errors import RunError
from bnnzoo.inference.rungs import RungOptions, Rungs, Sampled
from bnnzoo.registry import register


class ThermodynamicOptions(RungOptions):
    """Options of ``thermodynamic``."""


@dataclass(frozen=True)
class Thermodynamic(Rungs):
    """The trapezoidal rule with its correction by the variances at the rungs."""

    def value(self, sampled: Sampled) -> float:
        """The corrected rule on the grid of all rungs."""
        if not np.isfinite(sampled.log_likelihood).all():
            raise RunError(
                "thermodynamic: draws of the prior have likelihood 0, so that the mean "
                "log-likelihood there is not finite; use stepping-stone or smc"
            )
        values, widths = sampled.log_likelihood, np.diff(sampled.betas)
        mean, variance = values.mean((0, 2)), values.var((0, 2), ddof=1)
        rule = 0.5 * widths @ (mean[1:] + mean[:-1])
        # The slope of the mean in the inverse temperature is the variance.
        return float(rule - widths**2 @ np.diff(variance) / 12.0)

    def judge(self, sampled: Sampled, error: float) -> tuple[dict[str, Any], tuple[str, ...]]:
        """How the grid shows."""
        value, coarse = self.value(sampled), self.value(sampled.every_second())
        grid = abs(value - coarse) / 3.0
        diagnostics = {"halved_grid": coarse, "discretisation": grid}
        if grid <= max(error, 0.01):
            return diagnostics, ()
        return diagnostics, (
            f"the grid may be worth {grid:.2g} nats, which the standard error does not cover; "
            "raise rungs",
        )


@register(
    "estimators",
    "thermodynamic",
    summary="Chains at many temperatures; the mean log-likelihood integrated over them.",
    options=ThermodynamicOptions,
    references=(
        "Lartillot & Philippe (2006), Computing Bayes Factors Using Thermodynamic Integration",
        "Friel & Pettitt (2008), Marginal Likelihood Estimation via Power Posteriors",
        "Friel, Hurn & Wyse (2014), Improving Power Posterior Estimation of Statistical Evidence",
    ),
    tags={"kind": "consistent", "family": "sampling"},
    facts={
        "number": "consistent, as rungs and sweeps grow",
        "standard error": "jackknife over independent replicas; the grid's error is not in it",
        "wrong when": "the grid is coarse (discretisation), the mean log-likelihood under the "
        "prior is huge or infinite (heavy tails), chains that have not reached their rung's law",
        "choose it": "the path itself is of interest: how the fit grows with the data's weight",
    },
    notes="A replica is one chain at each rung, annealed from its own draw of the prior; all rungs "
    "of all replicas are one program. The rule is the trapezoid less a twelfth of the squared "
    "width times the rise of the variance, which is the slope of the integrand. discretisation "
    "is a third of what changes on every second rung: large for a rule of fourth order.",
)
def thermodynamic(options: ThermodynamicOptions) -> Thermodynamic:
    """The estimator of these options."""
    return Thermodynamic(options)
