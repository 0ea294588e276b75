"""Does a cold posterior predict better? Runs that differ in one temperature alone, side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from bnnzoo import registry
from bnnzoo.errors import BnnzooError
from bnnzoo.reports.cold_posterior import cold_verdict, scores_by_metric
from bnnzoo.reports.comparison import CLEAR, Scores, chain_error, draws_first, in_errors, paired
from bnnzoo.reports.diagnostics import off_target
from bnnzoo.reports.formatting import counted, digits_for, interval, listed
from bnnzoo.reports.runs import ReportRun, group

if TYPE_CHECKING:
    from bnnzoo.inference.temperature_slope import TemperatureSlope

AXES = ("posterior_temperature", "likelihood_temperature")

SIZES = ("chains", "draws", "warmup")
"""Settings that, as the seed, may differ between runs that are compared across temperatures."""


def temperature_panels(
    runs: Sequence[ReportRun], rows: Sequence[Mapping[str, Any]], scores: Sequence[Scores | None]
) -> list[dict[str, Any]]:
    """Series of runs that differ in one temperature alone, for each temperature that varies.

    Args:
        runs: runs on one data set.
        rows: their facts, with ``number`` and ``convergence``, in the same order.
        scores: their scores, in the same order.

    Returns:
        One panel a temperature that varies within some series: ``axis`` and ``series``; a series
        has ``label``, ``prior``, ``backend`` and ``points``, sorted by temperature, each with its
        log density, standard error, paired difference to the reference (temperature 1 where there
        is one, else the temperature nearest to it), the error its finite number of chains leaves,
        effective prior std, effective draws, and what its sampler shows of itself: worst R-hat of
        functions, virial ratio, kinetic temperature over the nominal one. ``wrong`` names the runs
        whose sampler is seen not to be at its temperature.
    """
    panels = []
    for axis in AXES:
        families: dict[str, list[int]] = {}
        for k, run in enumerate(runs):
            if scores[k] is not None:
                families.setdefault(family(run, axis), []).append(k)
        series = [
            _series(axis, sorted(members, key=lambda k: rows[k][axis]), runs, rows, scores)
            for members in families.values()
            if len({rows[k][axis] for k in members}) > 1
        ]
        if series:
            series.sort(key=lambda s: (s["variational"], s["backend"], s["model"], s["label"]))
            panel = {"axis": axis, "series": series, "wrong": _wrong(axis, series)}
            panels.append(panel | _verdict(axis, series))
    return panels


def effective_prior_std(
    prior: str,
    std: float,
    temperature: float,
    df: float | None = None,
    match: str = "variance",
    *,
    beta: float | None = None,
    shape: float | None = None,
    rate: float | None = None,
) -> float | None:
    """Standard deviation of a prior raised to the power ``1 / temperature`` and renormalised.

    Args:
        prior: ``gaussian``, ``correlated-conv``, ``laplace``, ``generalised-normal``,
            ``student-t``, ``cauchy`` or ``hierarchical-gaussian``.
        std: the prior's ``std`` option (in the same unit as the answer).
        temperature: posterior temperature; a likelihood temperature leaves the prior alone.
        df: degrees of freedom of a Student-t.
        match: how ``std`` sets the scale (``variance``, ``scale`` or ``iqr``).
        beta: power of a generalised normal.
        shape: of the inverse-gamma variance of a hierarchical Gaussian.
        rate: of it; that of mean 1 if not given.

    Returns:
        The standard deviation, infinite where the tempered prior has none, or None where the
        family has no known form, no single width or the tempered prior is improper.

    Source:
        Gaussian: scale by sqrt(T); exp(-|w/a|^beta): a by T^(1/beta), Laplace at beta = 1;
        Student-t: df' = (df + 1) / T - 1 and scale' = scale sqrt(df / df'), from p(w)^(1/T) read
        as a density of the same family, Cauchy at df = 1. Hierarchical: the conditional variance
        by T, and the inverse gamma a' = (a + 1) / T - 1, b' = b / T of mean b' / (a' - 1).
    """
    if prior in ("gaussian", "correlated-conv"):
        return float(std * np.sqrt(temperature))
    if prior == "laplace":
        beta = 1.0
    if prior in ("laplace", "generalised-normal") and beta is not None:
        law = stats.gennorm(beta)
        return float(_scale(law, std, match) * law.std() * temperature ** (1.0 / beta))
    if prior == "cauchy":
        df = 1.0
    if prior in ("student-t", "cauchy") and df is not None:
        if match == "variance" and df <= 2:
            return None
        scale = _scale(stats.t(df), std, match)
        cold = (df + 1) / temperature - 1
        if cold <= 0:
            return None
        return float(scale * np.sqrt(df / (cold - 2))) if cold > 2 else float("inf")
    if prior == "hierarchical-gaussian" and shape is not None:
        cold = (shape + 1) / temperature - 1
        if cold <= 0:
            return None
        of_variance = (shape - 1 if rate is None else rate) / temperature
        return float(std * np.sqrt(temperature * of_variance / (cold - 1))) if cold > 1 else np.inf
    return None


def _scale(law: Any, std: float, match: str) -> float:
    """Scale of a symmetric law, given in scipy's standard form, at which it has this width."""
    if match == "scale":
        return std
    if match == "variance":
        return std / law.std()
    return std * stats.norm.ppf(0.75) / law.ppf(0.75)


def few_draws_bias(run: ReportRun, draws: float | None) -> float | None:
    """About how much averaging over few draws lowers the log density, nats a row.

    The log of a mean of n draws is low by half the squared relative error of that mean:
    -Var(p) / (2 n E[p]^2), averaged over the training rows, whose densities are kept by draw.

    Args:
        run: a run with ``log_likelihood``.
        draws: effective draws n.

    Returns:
        A number at most zero, or None where it cannot be estimated.
    """
    fitted = group(run, "log_likelihood")
    if fitted is None or "y" not in fitted or not draws or np.isnan(draws):
        return None
    logs = draws_first(fitted["y"].values)
    with np.errstate(invalid="ignore"):
        p = np.exp(logs - logs.max(0))
        return float(-np.mean(p.var(0) / p.mean(0) ** 2) / (2 * draws))


def family(run: ReportRun, axis: str, data: Sequence[str] = ()) -> str:
    """The run's settings without the temperature in question, its size, its seed and ``data``.

    Args:
        run: any run.
        axis: the temperature.
        data: options of its data set to leave out as well.
    """
    tree = run.spec.to_tree()
    apart = {"inference": (axis, "seed", *SIZES), "data": data}
    for section, names in apart.items():
        tree[section] = {k: v for k, v in tree.get(section, {}).items() if k not in names}
    return json.dumps(tree, sort_keys=True, default=str)


def _series(
    axis: str,
    members: Sequence[int],
    runs: Sequence[ReportRun],
    rows: Sequence[Mapping[str, Any]],
    scores: Sequence[Scores | None],
) -> dict[str, Any]:
    reference = min(members, key=lambda k: (abs(np.log(rows[k][axis])), k))
    known = {k: score for k in members if (score := scores[k]) is not None}
    reference_density = known[reference].log_density
    points = []
    for k in members:
        density = known[k].log_density
        difference, error = paired(density, reference_density)
        ess = rows[k]["convergence"]["function"]["median_ess"]
        n = len(density)
        points.append(
            {
                "run": rows[k]["number"],
                "temperature": rows[k][axis],
                "log_density": float(density.mean()),
                "se": float(density.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
                "difference": None if k == reference else difference,
                "difference_se": None if k == reference else error,
                "chain_error": chain_error(known[k]),
                "prior_std": _prior_std(runs[k]),
                "draws": (rows[k]["convergence"]["chains"] or 0)
                * (rows[k]["convergence"]["draws"] or 0),
                "ess": ess,
                "few_draws_bias": few_draws_bias(runs[k], ess),
                "rhat": rows[k]["convergence"]["function"]["worst_rhat"],
                "virial": rows[k]["convergence"]["virial"],
                "kinetic": rows[k]["convergence"]["kinetic"],
                "off": off_target(rows[k]["convergence"], rows[k]["flags"]),
            }
        )
    first = rows[members[0]]
    other = next(a for a in AXES if a != axis)
    name = ", ".join(str(first[k]) for k in ("prior", "backend") if first[k])
    return {
        "label": name if first[other] == 1 else f"{name}, {symbol(other)}={first[other]:g}",
        "model": first["model"],
        "prior": first["prior"],
        "backend": first["backend"],
        "variational": first["variational"],
        "glyph": first["glyph"],
        "reference": rows[reference][axis],
        "points": points,
        "verdicts": _verdicts(axis, members, reference, runs, rows, known, points),
    }


def _verdicts(
    axis: str,
    members: Sequence[int],
    reference: int,
    runs: Sequence[ReportRun],
    rows: Sequence[Mapping[str, Any]],
    scores: Mapping[int, Scores],
    points: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Cold, warm, none or undecided by every metric, where there is a run at 1 to compare with."""
    seen = [scores[k] for k in members]
    at = [rows[k][axis] for k in members]
    if rows[reference][axis] != 1 or any(score.rows != "test" for score in seen):
        return []
    sizes = {tuple(getattr(runs[k].spec.inference, name) for name in SIZES) for k in members}
    if len(at) > len(set(at)) and len(sizes) > 1:
        return []  # short and long runs at one temperature: which is meant?
    slope = _slope(axis, runs[reference])
    task = str(runs[reference].manifest["data"].get("task", "regression"))
    said = []
    for name, values in scores_by_metric(seen, task).items():
        more: dict[str, Any] = {}
        if name == "log density":
            more = {"slope": slope, "errors": [point["chain_error"] for point in points]}
            more["biases"] = [point["few_draws_bias"] for point in points]
        found = cold_verdict(name, at, values, **more)
        said.append({**vars(found), "sentence": found.sentence})
    return said


def _slope(axis: str, run: ReportRun) -> TemperatureSlope | None:
    """Where the run is of exact draws and its model at hand."""
    from bnnzoo.inference.run import Run  # JAX comes with it: no other part of a report needs it
    from bnnzoo.inference.temperature_slope import temperature_slope

    if not isinstance(run, Run):
        return None
    try:
        return temperature_slope(run, axis)
    except BnnzooError:
        return None


def symbol(axis: str) -> str:
    """``T`` for the posterior temperature, ``L`` for the likelihood temperature."""
    return "T" if axis == "posterior_temperature" else "L"


def _prior_std(run: ReportRun) -> float | None:
    """The prior's std at the run's temperature, or None where it has no single one."""
    prior = run.spec.prior
    if prior.name is None or prior.options.get("rules"):
        return None
    try:
        options = registry.get("priors", prior.name).parse(prior.options)
    except BnnzooError:  # a prior of the user's own, not known here
        return None
    std, df = getattr(options, "std", None), getattr(options, "df", None)
    if std is None:
        return None
    temperature = run.spec.inference.posterior_temperature
    match = getattr(options, "match", "variance")
    more = {name: getattr(options, name, None) for name in ("beta", "shape", "rate")}
    return effective_prior_std(prior.name, float(std), temperature, df, match, **more)


def _wrong(axis: str, series: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of runs whose draws are seen not to be at their temperature, a sentence each.

    A sampler that is wrong can fake any effect of temperature, or hide it.
    """
    said = []
    names = {"virial": "virial ratio", "kinetic": "kinetic temperature over the nominal"}
    for point in sorted((p for s in series for p in s["points"]), key=lambda p: p["run"]):
        read = [
            f"{names[name]} {interval(point[name]['mean'], point[name]['se'], 2)}"
            for name in point["off"]
            if point[name]
        ]
        if read:
            at = f"{symbol(axis)} = {point['temperature']:g}"
            said.append(
                f"Run {point['run']} ({at}) is not at its temperature: {listed(read)}, where 1 is "
                "right. What it shows of temperature is its sampler's."
            )
    return said


def _verdict(axis: str, series: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many comparisons with the reference come out better, worse or neither, and in words."""
    counts = {"better": 0, "worse": 0, "neither": 0}
    largest: tuple[float, str] = (0.0, "")
    for one in series:
        for point in one["points"]:
            if point["difference"] is None:
                continue
            z = in_errors(point["difference"], _error(one, point))
            key = "better" if z >= CLEAR else "worse" if z <= -CLEAR else "neither"
            counts[key] += 1
            if key != "neither" and abs(point["difference"]) > largest[0]:
                largest = (abs(point["difference"]), _comparison(axis, one, point, key))
    return {"counts": counts, "sentence": _sentence(axis, series, counts) + largest[1]}


def _error(series: Mapping[str, Any], point: Mapping[str, Any]) -> float:
    """Of a difference from the reference: over test rows, and of both runs' few chains."""
    reference = next(p for p in series["points"] if p["difference"] is None)
    chains = (p["chain_error"] or 0.0 for p in (point, reference))
    return math.hypot(point["difference_se"], *chains)


def _sentence(axis: str, series: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> str:
    sign, total = symbol(axis), sum(counts.values())
    references = {one["reference"] for one in series}
    to = f"at {sign} = {min(references):g}" if len(references) == 1 else "nearest 1"
    others = sorted({p["temperature"] for s in series for p in s["points"]} - references)
    at = f" at {sign} = {listed([f'{t:g}' for t in others])}" if 0 < len(others) < 6 else ""
    better, worse, neither = counts["better"], counts["worse"], counts["neither"]
    each = "compared" if total == 1 else "each compared"
    predict = f"{better or 'none'} predict{'s' if better < 2 else ''}"
    tail = f" and {neither} cannot be told apart" if neither else ""
    return (
        f"{axis.replace('_', ' ').capitalize()}: of {counted(total, 'run')}{at}, {each} with the "
        f"same prior and backend {to}, {predict} better by 2 standard errors or more"
        f"{',' if tail else ' and'} {worse or 'none'} worse{tail}."
    )


def _comparison(axis: str, series: Mapping[str, Any], point: Mapping[str, Any], key: str) -> str:
    """The largest clear difference in words."""
    error = _error(series, point)
    gap = interval(abs(point["difference"]), error, digits_for([error], least=2))
    sign = symbol(axis)
    return (
        f" The largest change: {series['label']} predicts {gap} nats a row {key} at "
        f"{sign} = {point['temperature']:g} than at {sign} = {series['reference']:g}."
    )
