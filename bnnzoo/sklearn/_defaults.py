"""What the estimators do where nobody says: one place, with the reasons.

Of ``bnnzoo`` itself they differ in the number of draws, the prior's width and the noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHAINS = 2
"""The fewest that R-hat can compare; one a core of a small machine."""

DRAWS = 500
"""Of each chain: 1000 in all put 50 beyond either end of a 90 % interval."""

WARMUP = 500
"""Stan's windows then estimate the metric from 375 steps."""

BACKEND = "hmc"
"""Exact, and all draws cost about the same: the trees of ``nuts`` differ by powers of two."""

LIKELIHOOD = "student-t"
"""With learned scale and degrees of freedom: Gaussian noise is its limit, outliers do not drag."""

PRIOR_STD = 2.0
"""In cross-validation on training rows of boston and energy the density rose from 1 to 3."""


def sizes(backend: str, options: Mapping[str, Any]) -> dict[str, int]:
    """Chains, draws and warm-up where nobody says: of a backend that has numbers of its own, those.

    Args:
        backend: its name.
        options: of the backend.
    """
    from bnnzoo import registry
    from bnnzoo.inference.backend import Backend

    built = registry.get("backends", backend).build(dict(options), "inference")
    ours = {"chains": CHAINS, "draws": DRAWS, "warmup": WARMUP}
    return {
        name: number if own == getattr(Backend, f"default_{name}") else own
        for name, number in ours.items()
        for own in [getattr(built, f"default_{name}")]
    }


def prior_options(prior: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a prior, with :data:`PRIOR_STD` where it has a width and none is given.

    Args:
        prior: its name; None where rules name one for every parameter.
        given: what the user set.
    """
    from bnnzoo import registry

    widened = prior is not None and "std" in registry.get("priors", prior).options.model_fields
    return {"std": PRIOR_STD, **given} if widened else dict(given)
