"""The evidence of a model: log p(y), what kind of number it is, how sure, and what it cost."""

from __future__ import annotations

import math
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bnnzoo import registry
from bnnzoo.errors import DataWarning, OptionError, hint
from bnnzoo.inference import kept
from bnnzoo.inference.environment import describe_data, device, now, versions
from bnnzoo.inference.precision import begin, precision
from bnnzoo.inference.prior_checks import check_drawable, check_normalised, check_targets_vary
from bnnzoo.inference.programs import make_room
from bnnzoo.inference.run import external_hash
from bnnzoo.models.arguments import check_data
from bnnzoo.models.handwritten import as_model
from bnnzoo.models.posterior import Posterior
from bnnzoo.specs import Component

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset

KINDS = {
    "exact": "a closed form",
    "unbiased": "unbiased for the evidence itself; its logarithm is low by about half the squared "
    "standard error",
    "consistent": "right in the limit of much work, with a bias that falls faster than its error",
    "lower-bound": "below the evidence, up to its standard error",
    "upper-bound": "above the evidence, up to its standard error",
    "approximation-bound": "below an approximation of the evidence, up to its standard error; the "
    "evidence itself may be on either side",
    "approximation": "of unknown error: the standard error covers only its randomness",
    "predictive": "not the evidence: how well rows are predicted from other rows",
    "heuristic": "not the evidence, nor a bound of it",
}
"""What the number of an estimator is."""


class Estimate(NamedTuple):
    """What an estimator found.

    Attributes:
        value: nats, of the targets as modelled.
        standard_error: nats; 0 for a closed form.
        gradients: gradients of the log density of all rows that it took.
        diagnostics: numbers to judge it by, of the estimator's own choosing.
        warnings: what went wrong, one line each.
    """

    value: float
    standard_error: float
    gradients: int
    diagnostics: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """log p(y) of a model on training rows, in nats.

    Attributes:
        value: of the targets as modelled, which a zoo model standardises.
        standard_error: of ``value``; what it covers is in the estimator's card.
        kind: ``exact``, ``unbiased``, ``consistent``, ``lower-bound``, ``upper-bound``,
            ``approximation``, ``approximation-bound``, and of numbers that are no evidence
            ``predictive`` and ``heuristic``.
        method: the estimator.
        gradients: gradients of the log density of all rows that it took.
        seconds: wall time, compilation included.
        diagnostics: numbers to judge it by.
        cautions: what would make a number of this kind wrong.
        warnings: what did go wrong in this one.
        log_jacobian: what to add for the evidence of the targets in their own units,
            -rows * log(standard deviation); 0 where they were not scaled.
        data_dependent: what of the model was fitted to the training targets before, such as their
            scaling; empty for nothing.
        record: what it was made of and with: ``label``, ``spec`` (data and model, as sections of a
            TOML file), ``external`` (hash of what the registry cannot rebuild of the model),
            ``data`` (name, hash, sizes), ``options`` of the estimator, ``seed``, ``dtype``,
            ``created``, ``device``, ``versions``.
    """

    value: float
    standard_error: float
    kind: str
    method: str
    gradients: int
    seconds: float
    diagnostics: dict[str, Any] = field(default_factory=dict)
    cautions: str = ""
    warnings: tuple[str, ...] = ()
    log_jacobian: float = 0.0
    data_dependent: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def original_units(self) -> float:
        """Nats, of the targets in their own units: what differently scaled models compare by."""
        return self.value + self.log_jacobian

    @property
    def is_evidence(self) -> bool:
        """Whether the number estimates or bounds the evidence."""
        return self.kind not in ("predictive", "heuristic")

    def __str__(self) -> str:
        name = "log evidence" if self.is_evidence else "score"
        return f"{name} {self.written()} ({self.kind}, {self.method})"

    def written(self, original_units: bool = False) -> str:
        """The value with its standard error, to the places that this one leaves.

        Args:
            original_units: of the targets in their own units.
        """
        value, error = self.original_units if original_units else self.value, self.standard_error
        if not 0 < error < math.inf:
            return f"{value:.3f}"
        return f"{value:.{min(max(1 - math.floor(math.log10(error)), 1), 6)}f} +- {error:.2g}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, with ``original_units`` beside the fields."""
        fields = {**vars(self), "original_units": self.original_units}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Evidence:
        """The evidence that :meth:`to_dict` came from.

        Args:
            content: plain data.
        """
        fields = {k: v for k, v in content.items() if k != "original_units"}
        tuples = {k: tuple(fields[k]) for k in ("warnings", "data_dependent")}
        if fields["kind"] not in KINDS:
            raise ValueError(f"kind {fields['kind']!r}{hint(str(fields['kind']), KINDS)}")
        return cls(**{**fields, **tuples})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep it as a JSON file: for ``load_evidence``, or for a report.

        Args:
            path: of the file, ending in ``.json``.

        Raises:
            InputError: another ending, or a folder.
            StorageError: the file cannot be written.
        """
        kept.write(path, "evidence", self.to_dict())


class Estimator(ABC):
    """One way to the evidence of a posterior at temperatures of 1.

    A subclass is a pytree as a backend is: what may change without a new compilation are leaves.

    Attributes:
        kind: one of :data:`KINDS`.
        needs_draws: starts from draws of the prior, which must have a sampler.
        dtype: the only precision it works in; None for either.
    """

    kind: str
    dtype: str | None = None
    needs_draws: bool = False

    def check(self, posterior: Posterior) -> None:  # noqa: B027
        """Raise where this estimator cannot treat a posterior, before any work.

        Args:
            posterior: the target.

        Raises:
            InputError: what it cannot treat.
        """

    @abstractmethod
    def estimate(self, posterior: Posterior, seed: int, dtype: str) -> Estimate:
        """The number.

        Args:
            posterior: at temperatures of 1.
            seed: of every random number.
            dtype: ``float32`` or ``float64``; the caller is inside ``precision`` already.

        Raises:
            RunError: it could not be computed.
        """


def log_evidence(
    model: Any,
    data: Dataset,
    method: str = "smc",
    *,
    seed: int = 0,
    dtype: str = "float32",
    **options: Any,
) -> Evidence:
    """Estimate the log evidence log p(y) of a model on the training rows.

    Args:
        model: from ``make_model`` or ``load_model``, or a NumPyro model ``(x, y=None)``.
        data: from ``load_dataset`` or ``make_dataset``; test rows are not looked at.
        method: a registered estimator; see ``bnnzoo.list("estimators")``.
        seed: of every random number.
        dtype: ``float32`` or ``float64``; closed forms are always computed in ``float64``.
        **options: options of the estimator.

    Returns:
        The number with its standard error, its kind, its cost and what to doubt.

    Raises:
        InputError: a model without an evidence (an improper or unnormalised prior, named by site)
            or one the method cannot treat, or an option that does not exist.
        RunError: the estimate could not be computed.
    """
    check_data(data, model)
    for line in data.warnings:
        warnings.warn(line, DataWarning, stacklevel=2)
    return Job(model, data, method, dtype, options).run(seed)


class Job:
    """An estimate that was checked and can be made; nothing is computed yet.

    Args:
        model: as in :func:`log_evidence`.
        data: training rows.
        method: a registered estimator.
        dtype: ``float32`` or ``float64``.
        options: of the estimator.

    Raises:
        InputError: as :func:`log_evidence`.
    """

    def __init__(
        self, model: Any, data: Dataset, method: str, dtype: str, options: Mapping[str, Any]
    ) -> None:
        entry = registry.get("estimators", method)
        self.method, self.cautions = method, entry.card.facts.get("wrong when", "")
        self.estimator: Estimator = entry.build(options, "estimator")
        parsed = entry.parse(options, "estimator")
        self.options = parsed.model_dump(mode="json", exclude_none=True)
        if dtype not in ("float32", "float64"):
            raise OptionError(f"dtype = {dtype!r}{hint(str(dtype), ('float32', 'float64'))}")
        self.dtype = self.estimator.dtype or dtype
        make_room()
        ours = as_model(model)
        self.external = external_hash(ours)
        source = Component(name=data.name, options=dict(data.source or {}))
        assert ours.spec is not None
        self.spec = ours.spec.model_copy(update={"data": source})
        if self.external:
            begin(self.dtype)
        with precision(self.dtype):
            self.posterior = Posterior(ours, data)
            check_normalised(self.posterior)
            check_targets_vary(self.posterior)
            if self.estimator.needs_draws:
                check_drawable(self.posterior, method)
            self.estimator.check(self.posterior)

    def run(self, seed: int) -> Evidence:
        """The evidence.

        Args:
            seed: of every random number.

        Raises:
            RunError: it could not be computed.
        """
        make_room()
        begun = time.perf_counter()
        with precision(self.dtype):
            found = self.estimator.estimate(self.posterior, seed, self.dtype)
        return Evidence(
            value=float(found.value),
            standard_error=float(found.standard_error),
            kind=self.estimator.kind,
            method=self.method,
            gradients=int(found.gradients),
            seconds=time.perf_counter() - begun,
            diagnostics=found.diagnostics,
            cautions=self.cautions,
            warnings=found.warnings,
            log_jacobian=_log_jacobian(self.posterior),
            data_dependent=_fitted_before(self.posterior),
            record=self._record(seed),
        )

    @property
    def origin(self) -> tuple[dict[str, Any], str]:
        """Data and model as sections of a TOML file, and the hash of what these leave out."""
        # the inference of a spec is of runs: an estimator has options of its own
        return {k: v for k, v in self.spec.to_tree().items() if k != "inference"}, self.external

    def _record(self, seed: int) -> dict[str, Any]:
        data = self.posterior.data
        assert data is not None
        spec, external = self.origin
        return {
            "label": self.posterior.model.label,
            "spec": spec,
            "external": external,
            "data": {**describe_data(data), "scale": data.scale},
            "options": self.options,
            "seed": seed,
            "dtype": self.dtype,
            "created": now(),
            "device": device(),
            "versions": versions(),
        }


def _log_jacobian(posterior: Posterior) -> float:
    """Log density of targets in their own units over that of modelled ones."""
    if jnp.issubdtype(posterior.y.dtype, jnp.integer):
        return 0.0
    rows, std = posterior.rows, np.asarray(posterior.scaling.y_std, float)
    outputs = posterior.y.size // rows
    return -rows * float(np.sum(np.broadcast_to(np.log(std), (outputs,)))) + 0.0


def _fitted_before(posterior: Posterior) -> tuple[str, ...]:
    found = []
    mean, std = posterior.scaling.y_mean, posterior.scaling.y_std
    if np.any(np.asarray(mean) != 0.0) or np.any(np.asarray(std) != 1.0):
        found.append("scaling of the targets")
    prior = getattr(posterior.model, "prior", None)
    if prior is not None and prior.fitted_to_targets:
        found.append("prior")
    return tuple(found)
