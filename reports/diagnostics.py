"""Has a run converged? Asked of its functions first, and of its weights second.

The weights of a network can be permuted without changing the function, so chains may sit in
equivalent modes and disagree on every weight while they agree on every prediction. R-hat and
effective sample size are therefore taken of function values and of the log-likelihood.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats

from bnnzoo.metrics._montecarlo import mean_with_error

RHAT_GOOD = 1.01
"""Vehtari et al. (2021): the level below which chains are taken to have mixed."""

RHAT_BAD = 1.05
"""Above this a run is said not to have converged."""

ESS_LOW = 100
"""Fewer effective draws than this, of any function value, is said to be few."""

OUTPUTS_CHECKED = 60
"""Function values examined a run: at each point the outputs that vary most."""

WEIGHTS_CHECKED = 60
"""Scalar weights examined a run, spread evenly over the sites."""

TRACE_POINTS = 120
"""Steps of an optimiser's trace that are kept for the figure."""

CHECKS = {"virial": "virial", "kinetic": "kinetic_temperature"}
"""Statistics of draws with mean 1 at the temperature that was asked for."""

KINETIC_LEEWAY, KINETIC_ERRORS = 0.1, 5.0
"""How far a kinetic temperature may be off beyond chance, and the standard errors that are chance:
as where a fit flags it, in a module that loads JAX, which a report does without."""

READ_BYTES = 8 * 2**20
"""Most of a site that is in memory at once."""

MIN_DRAWS = 4
"""Fewer draws a chain leave R-hat and ESS undefined."""


def diagnose(tree: xr.DataTree) -> dict[str, Any]:
    """Convergence of one run as plain data.

    Args:
        tree: a run's tree (``docs/design.md``); every group may be missing.

    Returns:
        ``chains``, ``draws``; ``function`` with ``rhat`` and ``ess`` (one a point, the worst
        output of each) and their worst values; ``log_likelihood`` (``rhat``, ``ess``);
        ``weights`` (range of R-hat over the weights checked); ``divergences`` (count),
        ``divergent_chains``, ``virial`` (mean ratio and its standard error), ``kinetic``
        (kinetic temperature over the nominal one, likewise), ``acceptance`` (mean), ``step_size``
        (one a chain), ``elbo`` (an optimiser's trace) or None where the backend has no such
        statistic; ``converged`` (None where it cannot be said); ``notes``, sentences on what could
        not be computed.

    Source:
        Vehtari, Gelman, Simpson, Carpenter and Bürkner, Bayesian Analysis 16 (2021), eq. 1-14.
    """
    functions = _dataset(tree, "function_draws")
    made: dict[str, Any] = {"notes": []}
    made |= _sizes(functions, _dataset(tree, "posterior"))
    made["function"] = _function(functions, made["notes"])
    made["log_likelihood"] = _log_likelihood(functions)
    made["weights"] = _weights(_dataset(tree, "posterior"))
    made |= _sampler(_dataset(tree, "sample_stats"))
    made["elbo"] = _elbo(_dataset(tree, "warmup_sample_stats"))
    worst = made["function"]["worst_rhat"]
    made["converged"] = None if worst is None or np.isnan(worst) else bool(worst <= RHAT_BAD)
    if made["chains"] == 1:
        made["notes"].append(
            "One chain: R-hat compares chains and cannot be computed, and the effective sample "
            "size cannot see modes that this chain never visited."
        )
    if made["draws"] is not None and made["draws"] < MIN_DRAWS:
        made["notes"].append(f"{made['draws']} draws a chain are too few for R-hat or ESS.")
    return made


def rhat(draws: np.ndarray) -> np.ndarray:
    """Rank-normalised split R-hat.

    Args:
        draws: ``(chain, draw, value)``.

    Returns:
        ``(value,)``: NaN with one chain, with fewer than 4 draws a chain, and for a value that is
        not finite or never changes; infinite where chains are stuck at different places.

    Source:
        Vehtari et al. (2021), section 4; computed by ``arviz_stats``.
    """
    draws = np.asarray(draws, dtype=np.float64)
    made, moving = np.full(draws.shape[2], np.nan), _moving(draws)
    if draws.shape[0] > 1 and moving.any():
        with _quiet():
            made[moving] = array_stats.rhat(draws[:, :, moving], chain_axis=0, draw_axis=1)
    return made


def ess(draws: np.ndarray) -> np.ndarray:
    """Effective sample size: the smallest of bulk, tail and squared deviation from the mean.

    Args:
        draws: ``(chain, draw, value)``.

    Returns:
        ``(value,)``, over all chains; the tail is that of the 5 % and 95 % quantiles. NaN as for
        :func:`rhat`, save that one chain is enough.

    Source:
        Vehtari et al. (2021), section 4.3; computed by ``arviz_stats``.
    """
    draws = np.asarray(draws, dtype=np.float64)
    made, moving = np.full(draws.shape[2], np.nan), _moving(draws)
    if moving.any():
        kept, axes = draws[:, :, moving], {"chain_axis": 0, "draw_axis": 1}
        with _quiet():
            made[moving] = np.minimum.reduce(
                [
                    array_stats.ess(kept, method="bulk", **axes),
                    array_stats.ess(kept, method="tail", prob=(0.05, 0.95), **axes),
                    array_stats.ess(kept, method="sd", **axes),
                ]
            )
    return made


def _moving(draws: np.ndarray) -> np.ndarray:
    """The values for which R-hat and ESS are defined."""
    if draws.shape[1] < MIN_DRAWS:
        return np.zeros(draws.shape[2], dtype=bool)
    with np.errstate(invalid="ignore"):
        return np.isfinite(draws).all((0, 1)) & (np.ptp(draws, (0, 1)) > 0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings of divisions by zero: a stuck chain makes them, and R-hat is then infinite."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _sizes(*groups: xr.Dataset | None) -> dict[str, int | None]:
    """Chains and draws that were kept, which may be fewer than the specification asked for."""
    for dataset in groups:
        if dataset is not None and {"chain", "draw"} <= set(dataset.sizes):
            return {"chains": dataset.sizes["chain"], "draws": dataset.sizes["draw"]}
    return {"chains": None, "draws": None}


def _function(functions: xr.Dataset | None, notes: list[str]) -> dict[str, Any]:
    if functions is None or "f" not in functions:
        notes.append("No function values were recorded: convergence cannot be judged.")
        unknown = dict.fromkeys(("worst_rhat", "worst_ess", "median_ess"))
        return {"points": 0, "rhat": [], "ess": [], **unknown}
    f = _stacked(functions["f"], 3)
    f = f.reshape(*f.shape[:3], -1)
    chains, draws, points, outputs = f.shape
    if not np.isfinite(f).all():
        notes.append(f"{int((~np.isfinite(f)).sum())} function values are not finite.")
    keep = max(1, min(outputs, OUTPUTS_CHECKED // max(points, 1)))
    with np.errstate(all="ignore"):
        spread = np.nan_to_num(f.reshape(-1, points, outputs).std(0))
    chosen = np.argsort(-spread, axis=1, kind="stable")[:, :keep]
    values = np.take_along_axis(f, chosen[None, None], axis=3).reshape(chains, draws, -1)
    by_point_rhat = _worst(rhat(values).reshape(points, keep), np.fmax)
    by_point_ess = _worst(ess(values).reshape(points, keep), np.fmin)
    constant = int(np.isnan(by_point_ess).sum()) if draws >= MIN_DRAWS else 0
    if constant:
        notes.append(f"{constant} of {points} diagnostic points never change and are left out.")
    return {
        "points": points,
        "rhat": by_point_rhat.tolist(),
        "ess": by_point_ess.tolist(),
        "worst_rhat": float(_worst(by_point_rhat, np.fmax)),
        "worst_ess": float(_worst(by_point_ess, np.fmin)),
        "median_ess": _median(by_point_ess),
    }


def _log_likelihood(functions: xr.Dataset | None) -> dict[str, float | None]:
    if functions is None or "log_likelihood" not in functions:
        return {"rhat": None, "ess": None}
    total = _stacked(functions["log_likelihood"], 2)[:, :, None]
    return {"rhat": float(rhat(total)[0]), "ess": float(ess(total)[0])}


def _weights(posterior: xr.Dataset | None) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "count": 0,
        "checked": 0,
        "rhat_min": None,
        "rhat_median": None,
        "rhat_max": None,
    }
    if posterior is None or not posterior.data_vars:
        return empty
    sites = list(posterior.data_vars.values())
    sizes = [math.prod(n for d, n in s.sizes.items() if d not in ("chain", "draw")) for s in sites]
    ends = np.cumsum(sizes)
    total = int(ends[-1])
    picked = np.unique(np.linspace(0, total - 1, min(total, WEIGHTS_CHECKED)).astype(int))
    owner = np.searchsorted(ends, picked, side="right")
    values = np.concatenate(
        [_elements(sites[o], picked[owner == o] - (ends[o] - sizes[o])) for o in np.unique(owner)],
        axis=2,
    )
    found = rhat(values)
    known = found[~np.isnan(found)]
    made = empty | {"count": total, "checked": len(picked)}
    if known.size:
        made |= {
            "rhat_min": float(known.min()),
            "rhat_median": float(np.median(known)),
            "rhat_max": float(known.max()),
        }
    return made


def _elements(site: xr.DataArray, wanted: np.ndarray) -> np.ndarray:
    """Some elements ``(chain, draw, element)`` of a site that may be larger than memory."""
    variable = site.variable
    if variable.dims[:2] != ("chain", "draw"):
        variable = variable.transpose("chain", "draw", ...)
    chains, draws = variable.shape[:2]
    step = max(1, READ_BYTES * chains * draws // max(variable.nbytes, 1))
    made = np.empty((chains, draws, len(wanted)), variable.dtype)
    for chain in range(chains):
        for first in range(0, draws, step):
            part = np.asarray(variable[chain, first : first + step])
            made[chain, first : first + step] = part.reshape(len(part), -1)[:, wanted]
    return made


def _sampler(stats: xr.Dataset | None) -> dict[str, Any]:
    made: dict[str, Any] = dict.fromkeys(
        ("divergences", "divergent_chains", *CHECKS, "acceptance", "step_size", "steps")
    )
    if stats is None:
        return made
    if "diverging" in stats:
        by_chain = _stacked(stats["diverging"], 2).astype(bool).sum(1)
        made["divergences"] = int(by_chain.sum())
        made["divergent_chains"] = [int(c) for c in np.flatnonzero(by_chain)]
    for name, stat in CHECKS.items():
        if stat in stats:
            mean, error = mean_with_error(_stacked(stats[stat], 2))
            made[name] = {"mean": mean, "se": error}
    if "acceptance_rate" in stats:
        made["acceptance"] = float(np.nanmean(_stacked(stats["acceptance_rate"], 2)))
    if "step_size" in stats:
        made["step_size"] = [float(v) for v in _stacked(stats["step_size"], 2)[:, -1]]
    if "n_steps" in stats:
        made["steps"] = float(np.nanmean(_stacked(stats["n_steps"], 2)))
    return made


def _elbo(warmup: xr.Dataset | None) -> dict[str, Any] | None:
    """The trace thinned for drawing, its last level, and how much it still rose at the end."""
    if warmup is None or "elbo" not in warmup:
        return None
    trace = _stacked(warmup["elbo"], 2).astype(np.float64)
    steps = trace.shape[1]
    if steps < 2:
        return None
    tenth = max(steps // 10, 1)
    last, before = trace[:, -tenth:], trace[:, -2 * tenth : -tenth]
    kept = np.unique(np.linspace(0, steps - 1, min(steps, TRACE_POINTS)).astype(int))
    width = max(steps // TRACE_POINTS, 1)
    smooth = np.stack([trace[:, max(0, k - width + 1) : k + 1].mean(1) for k in kept], 1)
    return {
        "steps": int(steps),
        "final": last.mean(1).tolist(),
        "rise": (last.mean(1) - before.mean(1)).tolist() if before.size else None,
        "at": (kept + 1).tolist(),
        "trace": smooth.tolist(),
    }


def _dataset(tree: xr.DataTree, name: str) -> xr.Dataset | None:
    return tree[name].to_dataset() if name in tree.children else None


def _stacked(values: xr.DataArray, leading: int) -> np.ndarray:
    """Values with ``chain`` and ``draw`` first and at least ``leading`` axes."""
    array = np.asarray(values.transpose("chain", "draw", ...).values)
    return array.reshape(array.shape + (1,) * (leading - array.ndim))


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")


def _worst(values: np.ndarray, worse: np.ufunc) -> np.ndarray:
    """The worst along the last axis, NaN only where all are."""
    return np.asarray(worse.reduce(values, axis=-1) if values.size else np.nan)


def off_target(diagnosis: Mapping[str, Any], flags: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which checks of the temperature fail: ``virial`` and ``kinetic``, or neither.

    The virial ratio is judged by the fit, which knows what backends are meant to follow the target.

    Args:
        diagnosis: from :func:`diagnose`.
        flags: of the run.
    """
    found = ["virial"] if any(flag.get("kind") == "virial" for flag in flags) else []
    read = diagnosis["kinetic"]
    if read and abs(read["mean"] - 1) > KINETIC_LEEWAY + KINETIC_ERRORS * read["se"]:
        found.append("kinetic")
    return found


def state_of(diagnosis: Mapping[str, Any]) -> str:
    """One word on a run: ``good``, ``fair``, ``bad`` (R-hat of functions) or ``unknown``."""
    worst = diagnosis["function"]["worst_rhat"]
    if worst is None or np.isnan(worst):
        return "unknown"
    return "good" if worst <= RHAT_GOOD else "fair" if worst <= RHAT_BAD else "bad"
