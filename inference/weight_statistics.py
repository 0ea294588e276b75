"""``bnnzoo.weight_statistics``: what the weights of trained networks look like, as a prior."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from bnnzoo.errors import InputError, OptionError, hint
from bnnzoo.inference import filter_statistics as filters
from bnnzoo.inference import weight_fits as fits
from bnnzoo.inference.fitted_prior import save_model, with_prior
from bnnzoo.inference.trained_weights import Optimiser, Trained, train_networks
from bnnzoo.inference.weight_bootstrap import OUTER, IntervalEstimate, draw_counts, estimate
from bnnzoo.models.arguments import check_data
from bnnzoo.models.handwritten import HandwrittenModel, as_model
from bnnzoo.models.model import Model
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.posterior import Posterior
from bnnzoo.models.priors.empirical import SHAPES, Family, Law
from bnnzoo.models.priors.gp_matched import width_unit
from bnnzoo.models.scaled_gaussian import centre_of
from bnnzoo.specs import Component

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset

FEW = 50
"""Fewer numbers than this, over all networks, are given a Gaussian: shapes need more."""

RATES: dict[Optimiser, float] = {"sgd": 0.02, "adam": 0.003}
BATCH = 100
UNTRAINED = 0.9
"""A share of the first loss above which networks count as hardly trained."""


@dataclass(frozen=True)
class FilterStatistics:
    """Correlation of a convolution's weights across positions.

    Attributes:
        distance: of two positions, those that occur.
        correlation: mean over pairs so far apart, about 0, of trained networks.
        initial: the same before training.
        length_scale: of exp(-distance / length), by maximum likelihood of Gaussian filters.
    """

    distance: np.ndarray
    correlation: np.ndarray
    initial: np.ndarray
    length_scale: IntervalEstimate


@dataclass(frozen=True)
class ParameterStatistics:
    """One array of parameters over all networks.

    Attributes:
        path: of the parameter.
        count: numbers, over all networks.
        fits: every family by maximum likelihood, location 0, in units of the parameter itself.
        family: the one of lowest AIC.
        law: it, as an option of the prior ``empirical``: kernels in units of 1/sqrt(fan-in).
        df: tail index: degrees of freedom of the Student-t. Its density falls as the power
            -(df + 1) of the distance; infinite is a Gaussian.
        kurtosis: excess kurtosis.
        initial_df: tail index of kernels before training; NaN of other parameters, which all begin
            at one value.
        filters: of convolutions; None of others.
    """

    path: str
    count: int
    fits: Mapping[Family, fits.Fit]
    family: Family
    law: Law
    df: IntervalEstimate
    kurtosis: IntervalEstimate
    initial_df: float
    filters: FilterStatistics | None = None


@dataclass(frozen=True)
class WeightStatistics:
    """Weights of trained networks, and the prior they make.

    Attributes:
        model: the model with the prior ``empirical``; bind or fit it as any other.
        parameters: statistics of every parameter by path.
        weights: trained values by path ``(network, *shape)``.
        initial: values before training, likewise.
        loss: minus the mean log-likelihood of a training row, nats, before and after training
            ``(network, 2)``.
        data_name: of the training rows.
        warnings: what is doubtful, in words.
    """

    model: Model
    parameters: Mapping[str, ParameterStatistics]
    weights: Mapping[str, np.ndarray]
    initial: Mapping[str, np.ndarray]
    loss: np.ndarray
    data_name: str
    warnings: tuple[str, ...] = field(default=())

    @property
    def prior_options(self) -> dict[str, Any]:
        """Options of the prior ``empirical``."""
        assert self.model.spec is not None
        return dict(self.model.spec.prior.options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as a TOML file: for ``fit_spec``, ``--config``, or another model's prior.

        Args:
            path: of the file.
        """
        save_model(self.model, path)

    def __str__(self) -> str:
        """A table, one line a parameter."""
        return _table(self)


def weight_statistics(
    model: Any,
    data: Dataset,
    networks: int = 10,
    *,
    optimiser: str = "sgd",
    steps: int = 3000,
    learning_rate: float | None = None,
    batch_size: int | None = BATCH,
    resamples: int = 100,
    seed: int = 0,
) -> WeightStatistics:
    """Train networks without a prior, and fit families to the weights of each parameter.

    Kernels start from N(0, gain^2 / fan-in), biases from 0, and maximise the likelihood: no weight
    decay, no prior. A noise scale stays at 1, so that numbers are fitted by least squares. Of each
    parameter Gaussian, Laplace, Student-t and generalised normal are fitted by maximum likelihood,
    their location known; of convolutions also the correlation of positions.

    Intervals are about other trainings on the same data (five networks or more: whole networks are
    resampled), or about these networks alone (fewer: their units are). AIC counts every weight as
    an independent draw, which they are not: it ranks families, and is no test.

    Args:
        model: a zoo model; its own prior is left out.
        data: training rows.
        networks: how many are trained.
        optimiser: ``sgd``, with momentum 0.9, or ``adam``.
        steps: of each network.
        learning_rate: of the first step, falling to nothing along a cosine; 0.02 for sgd and 0.003
            for adam if not given.
        batch_size: rows of a gradient, at most all; None for all.
        resamples: bootstrap samples.
        seed: of everything random.

    Returns:
        Fits, tail indices, length-scales, the weights, and the model with the prior ``empirical``.

    Raises:
        InputError: a hand-written model, a network without kernels, or training that failed.
        OptionError: an option out of range.

    Source: Fortuin et al. (2022), Bayesian Neural Network Priors Revisited, sec. 3.
    """
    check_data(data, model)
    if optimiser not in get_args(Optimiser):
        raise OptionError(f"optimiser = {optimiser!r}{hint(optimiser, get_args(Optimiser))}")
    chosen: Optimiser = "sgd" if optimiser == "sgd" else "adam"
    rate = RATES[chosen] if learning_rate is None else learning_rate
    batch = len(data.x) if batch_size is None else batch_size
    for name, value, least in (
        ("networks", networks, 2),
        ("steps", steps, 1),
        ("resamples", resamples, 20),
        ("batch_size", batch, 1),
    ):
        if value < least:
            raise OptionError(f"{name} = {value}: a whole number of at least {least} is needed")
    if not 0 < rate < math.inf:
        raise OptionError(f"learning_rate = {rate}: a number above 0 is needed")
    given = as_model(model)
    if isinstance(given, HandwrittenModel):
        raise InputError(
            f"weight_statistics: {given.label!r} is a hand-written model, whose priors cannot be "
            "replaced; a zoo model is needed (bnnzoo.make_model)"
        )
    posterior = Posterior(with_prior(given, Component(name="gaussian")), data)
    assert posterior.network is not None
    infos = posterior.network.infos
    if not any(info.role == "kernel" for info in infos):
        raise InputError(
            f"weight_statistics: network {given.label!r} has no kernel to look at: its parameters "
            f"are {', '.join(i.path for i in infos)}"
        )
    rows = batch if batch < posterior.rows else None
    if rows is not None:
        posterior.check_rows_are_free()
    trained = train_networks(posterior, networks, seed, chosen, steps, rate, rows)
    loss = np.asarray(trained.loss, float)
    still = (np.asarray(trained.end) == np.asarray(trained.start)).all(1)
    if failed := int((~np.isfinite(loss).all(1) | still).sum()):
        raise InputError(
            f"weight_statistics: {failed} of {networks} networks had no finite loss after a step; "
            f"lower learning_rate (now {rate:g})"
        )
    weights, initial = _by_path(posterior, trained.end), _by_path(posterior, trained.start)
    found = {
        info.path: parameter_statistics(
            info, weights[info.path], initial[info.path], resamples, [seed, number]
        )
        for number, info in enumerate(infos)
    }
    laws = {path: s.law.model_dump(exclude_none=True) for path, s in found.items()}
    words = f"{networks} networks trained on {data.name}, {steps} steps of {optimiser}"
    options = {"laws": laws, "fitted_to": words}
    fitted = with_prior(given, Component(name="empirical", options=options))
    said = _warnings(trained, loss)
    return WeightStatistics(fitted, found, weights, initial, loss, data.name, said)


def parameter_statistics(
    info: ParameterInfo,
    weights: np.ndarray,
    initial: np.ndarray,
    resamples: int,
    seed: int | Sequence[int] = 0,
) -> ParameterStatistics:
    """Fits, tail index and correlation of one parameter over networks.

    Args:
        info: the parameter.
        weights: trained values ``(network, *shape)``.
        initial: values before training, likewise.
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        InputError: all values are equal to the location.
    """
    networks, units = len(weights), info.shape[-1] if info.shape else 1
    values = np.asarray(weights, float).reshape(networks, -1, units) - centre_of(info)
    if not values.any():
        raise InputError(
            f"weight_statistics: {info.path!r} is at {centre_of(info):g} in every network, so that "
            "no scale fits; the likelihood does not depend on it, or training had no effect"
        )
    counts = draw_counts(networks, units, resamples, seed)

    def resampled(statistic: Any) -> np.ndarray:
        spread = (np.broadcast_to(c[:, None], values.shape).ravel() for c in counts)
        return np.array([statistic(values.ravel(), w) for w in spread])

    def with_interval(statistic: Any, *scale: Any) -> IntervalEstimate:
        value = statistic(values.ravel())
        return estimate(value, resampled(statistic), networks, units, *scale)

    nothing = IntervalEstimate(math.nan, math.nan, math.nan)
    enough = values.size >= FEW
    families = fits.FAMILIES if enough else fits.FAMILIES[:1]
    made = {family: fits.fit_family(family, values.ravel()) for family in families}
    # A Student-t of infinite df is the Gaussian with a number too many.
    usable = [fit for fit in made.values() if fit.shape is None or math.isfinite(fit.shape)]
    best = min(usable, key=lambda fit: fit.aic)
    df = with_interval(_tail_index, _inverse, _inverse_or_infinite) if enough else nothing
    before = math.nan
    if info.role == "kernel":
        before = _tail_index(np.asarray(initial, float).ravel())
    return ParameterStatistics(
        path=info.path,
        count=values.size,
        fits=made,
        family=best.family,
        law=_law(best, width_unit(info)),
        df=df,
        kurtosis=with_interval(fits.excess_kurtosis) if enough else nothing,
        initial_df=before,
        filters=_filters(info, weights, initial, counts) if info.filter_axes else None,
    )


def _filters(
    info: ParameterInfo, weights: np.ndarray, initial: np.ndarray, counts: np.ndarray
) -> FilterStatistics | None:
    """Correlation across positions; of a filter of one position there is none."""
    distance = filters.distances(info.shape[: info.filter_axes])
    if len(distance) < 2:
        return None
    moments = filters.filter_moments(np.asarray(weights, float), info.filter_axes)
    before = filters.filter_moments(np.asarray(initial, float), info.filter_axes).mean((0, 1))
    whole = moments.mean((0, 1))
    many = np.einsum("bru,rupq->bpq", counts, moments) / counts.sum((1, 2))[:, None, None]
    lengths = np.array([filters.length_scale(m, distance) for m in many])
    at, correlation = filters.correlation_by_distance(whole, distance)
    return FilterStatistics(
        distance=at,
        correlation=correlation,
        initial=filters.correlation_by_distance(before, distance)[1],
        length_scale=estimate(
            filters.length_scale(whole, distance),
            lengths,
            moments.shape[0],
            moments.shape[1],
            _neighbours,
            _length_of_neighbours,
        ),
    )


def _tail_index(values: np.ndarray, weights: np.ndarray | None = None) -> float:
    shape = fits.fit_family("student-t", values, weights).shape
    assert shape is not None
    return shape


def _inverse(df: float) -> float:
    """1 / df, 0 for a Gaussian: errors of it are near normal, of df they are not."""
    return 1.0 / df


def _inverse_or_infinite(tail: float) -> float:
    return 1.0 / tail if tail > 0 else math.inf


def _neighbours(length: float) -> float:
    """Correlation at distance 1."""
    return math.exp(-1.0 / length) if length > 0 else 0.0


def _length_of_neighbours(correlation: float) -> float:
    if correlation <= 0:
        return 0.0
    return -1.0 / math.log(correlation) if correlation < 1 else math.inf


def _law(fit: fits.Fit, unit: float) -> Law:
    shape = {SHAPES[fit.family]: fit.shape} if fit.family in SHAPES else {}
    return Law(family=fit.family, scale=fit.scale / unit, **shape)


def _by_path(posterior: Posterior, u: Any) -> dict[str, np.ndarray]:
    flat = np.asarray(u)
    assert posterior.network is not None
    paths = {info.path for info in posterior.network.infos}
    return {
        site.name: flat[:, site.offset : site.offset + site.size].reshape(-1, *site.shape)
        for site in posterior.sites
        if site.name in paths
    }


def _warnings(trained: Trained, loss: np.ndarray) -> tuple[str, ...]:
    said = []
    refused = float(np.asarray(trained.refused).sum())
    if refused:
        said.append(f"{refused:.0f} steps had a loss that is not finite; lower learning_rate")
    share = float(np.median(loss[:, 1] / loss[:, 0]))
    if share > UNTRAINED:
        said.append(
            f"training left {share:.0%} of the loss: these weights say little but how they began; "
            "raise steps or learning_rate"
        )
    return tuple(said)


def _table(found: WeightStatistics) -> str:
    networks = len(found.loss)
    before, after = found.loss.mean(0)
    head = (
        f"{networks} networks trained on {found.data_name}: loss {before:.3g} -> {after:.3g} nats "
        "a row"
    )
    about = "other trainings" if networks >= OUTER else "these networks alone"
    titles = ["parameter", "numbers", "family", "scale", "tail index df", "before"]
    titles += ["excess kurtosis", "length-scale", "neighbours", "before"]
    rows = [titles]
    for path, one in found.parameters.items():
        fit, filter_ = one.fits[one.family], one.filters
        shape = "" if fit.shape is None else f"({fit.shape:.3g})"
        cells = [path, str(one.count), f"{one.family}{shape}", f"{fit.scale:.3g}"]
        cells += [_or_dash(one.df), "-" if math.isnan(one.initial_df) else f"{one.initial_df:.3g}"]
        cells.append(_or_dash(one.kurtosis))
        if filter_ is None:
            cells += ["-", "-", "-"]
        else:
            cells += [str(filter_.length_scale)]
            cells += [f"{filter_.correlation[0]:.2f}", f"{filter_.initial[0]:.2f}"]
        rows.append(cells)
    widths = [max(len(row[k]) for row in rows) for k in range(len(titles))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    foot = f"[95 % intervals, about {about}]; AIC chooses the family"
    return "\n".join([head, *lines, foot, *(f"note: {line}" for line in found.warnings)])


def _or_dash(value: IntervalEstimate) -> str:
    return "-" if math.isnan(value.value) else str(value)
