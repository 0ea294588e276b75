"""What a run cost, and what it gave for that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def cost(row: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Gradients, seconds, and effective draws for each.

    Args:
        row: facts of a run with ``convergence``.
        provenance: its entry of the settings.

    Returns:
        ``gradients``, ``compile``, ``warmup``, ``sampling`` and ``wall`` (seconds); ``ess``, the
        median over function values; ``per_second`` of warm-up and sampling, and ``per_gradient``,
        per thousand. None where the draws of an approximation are independent by construction, so
        that their number says nothing of the cost, or where a part is not known.
    """
    ess = row["convergence"]["function"]["median_ess"]
    known = ess is not None and math.isfinite(ess) and not row["variational"]
    seconds, gradients = row["seconds"], row["gradients"]
    return {
        "gradients": gradients,
        "compile": provenance["compile_seconds"],
        "warmup": provenance["warmup_seconds"],
        "sampling": provenance["sampling_seconds"],
        "wall": provenance["wall_seconds"],
        "ess": ess if known else None,
        "per_second": ess / seconds if known and seconds else None,
        "per_gradient": 1000 * ess / gradients if known and gradients else None,
    }
