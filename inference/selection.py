"""Choosing a model by its evidence, with the estimates' errors carried through."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnzoo.errors import DataWarning, InputError, OptionError, RunError
from bnnzoo.inference import kept
from bnnzoo.inference.environment import describe_data, device, now, versions
from bnnzoo.inference.evidence import Evidence, Job
from bnnzoo.inference.progress import through
from bnnzoo.models.arguments import check_data
from bnnzoo.models.handwritten import as_model
from bnnzoo.models.model import build_model
from bnnzoo.specs import spec_from_tree

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset

ERROR_DRAWS = 4000
"""Draws of the estimates' errors behind the intervals of probabilities."""

DISTINCT = 2.0
"""Standard errors of their difference by which two evidences have to differ."""

BOUNDS = ("lower-bound", "approximation-bound")
"""Kinds that rank only as far as their gaps are alike."""

ONE_MODE = ("laplace", "laplace-ntk")
"""Methods that count one of a network's equivalent modes."""


DOUBTFUL = "!"
"""Mark of an evidence of which its estimator found something wrong."""


@dataclass(frozen=True)
class Candidate:
    """A model and what its evidence says of it.

    Attributes:
        name: of the model.
        model: the model.
        evidence: its evidence; None where it could not be computed.
        probability: of the model among the candidates; NaN where the numbers are no evidences.
        interval: 95 % of the probability under the estimates' standard errors.
        behind: nats behind the first; infinite without an evidence.
        distinct: it is behind by more than the errors of both explain.
        failure: why there is no evidence; empty.
        spec: data and model as sections of a TOML file.
        external: hash of what the registry cannot rebuild of the model; empty where it can.
    """

    name: str
    model: Any
    evidence: Evidence | None
    probability: float
    interval: tuple[float, float]
    behind: float
    distinct: bool
    failure: str = ""
    spec: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    external: str = ""

    @property
    def doubts(self) -> tuple[str, ...]:
        """What its estimator found wrong with its evidence; empty where nothing was."""
        return () if self.evidence is None else self.evidence.warnings

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model as plain data, with ``doubts`` beside the fields."""
        fields = {k: v for k, v in vars(self).items() if k != "model"}
        evidence = None if self.evidence is None else self.evidence.to_dict()
        plain = {"interval": list(self.interval), "evidence": evidence, "doubts": list(self.doubts)}
        return {**fields, **plain}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Candidate:
        """The candidate that :meth:`to_dict` came from, its model built again where that can be.

        Args:
            content: plain data.
        """
        evidence, (low, high) = content["evidence"], content["interval"]
        made = None if evidence is None else Evidence.from_dict(evidence)
        parts = {k: v for k, v in content["spec"].items() if k != "data"}
        model = None if content["external"] else build_model(spec_from_tree(parts))
        fields = {k: v for k, v in content.items() if k != "doubts"}
        return cls(**{**fields, "model": model, "evidence": made, "interval": (low, high)})


@dataclass(frozen=True)
class Selection:
    """Candidates, best first.

    Attributes:
        candidates: in order of evidence.
        warnings: what makes the order doubtful.
        seconds: wall time.
        record: what all have in common: ``data`` (name, hash, sizes), ``prior_probabilities`` by
            name, ``seed``, ``dtype``, ``created``, ``device``, ``versions``.
    """

    candidates: tuple[Candidate, ...]
    warnings: tuple[str, ...]
    seconds: float
    record: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def best(self) -> Any:
        """The model of highest evidence; None where it is hand-written and was read from a file."""
        return self.candidates[0].model

    @property
    def gradients(self) -> int:
        """Gradients of all estimates."""
        return sum(c.evidence.gradients for c in self.candidates if c.evidence is not None)

    @property
    def doubts(self) -> dict[str, tuple[str, ...]]:
        """What was found wrong with estimates: the candidates' names by what is said of them."""
        said: dict[str, tuple[str, ...]] = {}
        for candidate in self.candidates:
            for line in candidate.doubts:
                said[line] = (*said.get(line, ()), candidate.name)
        return said

    def to_dict(self) -> dict[str, Any]:
        """Everything but the models as plain data."""
        candidates = [c.to_dict() for c in self.candidates]
        fields = {**vars(self), "candidates": candidates, "warnings": list(self.warnings)}
        return {**fields, "gradients": self.gradients}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Selection:
        """The selection that :meth:`to_dict` came from.

        Args:
            content: plain data.
        """
        candidates = tuple(Candidate.from_dict(c) for c in content["candidates"])
        return cls(
            candidates, tuple(content["warnings"]), content["seconds"], dict(content["record"])
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep it as a JSON file: for ``load_evidence``, or for a report.

        Args:
            path: of the file, ending in ``.json``.

        Raises:
            InputError: another ending, or a folder.
            StorageError: the file cannot be written.
        """
        kept.write(path, "selection", self.to_dict())

    def __str__(self) -> str:
        width = max(len(c.name) for c in self.candidates)
        lines = [f"{'model':<{width}}  log evidence    behind  probability"]
        for c in self.candidates:
            if c.evidence is None:
                lines.append(f"{c.name:<{width}}  failed: {c.failure}")
                continue
            value = c.evidence.written(original_units=True)
            mark = f" {DOUBTFUL}" if c.doubts else ""
            row = f"{c.name:<{width}}  {value:>14}  {c.behind:>6.2f}  {c.probability:.3f}{mark}"
            lines.append(row)
        lines += [f"{DOUBTFUL} {'; '.join(who)}: {line}" for line, who in self.doubts.items()]
        return "\n".join([*lines, *(f"warning: {line}" for line in self.warnings)])


def select(
    models: Mapping[str, Any] | Sequence[Any],
    data: Dataset,
    method: str | Mapping[str, str] = "laplace",
    *,
    prior_probabilities: Mapping[str, float] | None = None,
    seed: int = 0,
    dtype: str = "float32",
    progress: bool = True,
    **options: Any,
) -> Selection:
    """Rank models by their evidence on the training rows.

    Args:
        models: by name, as :func:`model_grid` gives them; or a list, named by their labels.
        data: from ``load_dataset`` or ``make_dataset``; test rows are not looked at.
        method: a registered estimator, or one for every name.
        prior_probabilities: of every name; equal if not given.
        seed: of every random number; the same for all, so that their errors are alike.
        dtype: ``float32`` or ``float64``.
        progress: draw a progress bar on a terminal.
        **options: options of the estimator.

    Returns:
        The models, best first, with posterior probabilities.

    Raises:
        InputError: a model, method or option that cannot be used, before any work.
        RunError: no evidence could be computed.
    """
    begun = time.perf_counter()
    check_data(data, models)
    named = _named(models)
    methods = _methods(named, method)
    weights = _weights(named, prior_probabilities)
    for line in data.warnings:
        warnings.warn(line, DataWarning, stacklevel=2)
    jobs = {name: Job(m, data, methods[name], dtype, options) for name, m in named.items()}
    found: dict[str, Evidence] = {}
    failures: dict[str, str] = {}
    for name in through(list(jobs), "evidence", progress):
        try:
            found[name] = jobs[name].run(seed)
        except RunError as error:
            failures[name] = str(error)
    if not any(math.isfinite(e.value) for e in found.values()):
        first = next(iter(failures.values()), "every value is infinite or no number")
        raise RunError(f"no evidence could be computed: {first}")
    candidates = _ranked(jobs, named, found, failures, weights, seed)
    record = {
        "data": describe_data(data),
        "prior_probabilities": weights,
        "seed": seed,
        "dtype": dtype,
        "created": now(),
        "device": device(),
        "versions": versions(),
    }
    return Selection(candidates, doubts(found, failures), time.perf_counter() - begun, record)


def probabilities(
    values: np.ndarray, errors: np.ndarray, weights: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior probabilities of models, with intervals from the errors of their evidences.

    Args:
        values: log evidences ``(model,)``.
        errors: their standard errors ``(model,)``.
        weights: prior probabilities ``(model,)``.
        seed: of the errors' draws.

    Returns:
        Probabilities ``(model,)`` from the values, and their 2.5 % and 97.5 % points ``(2, model)``
        where every value moves by a normal error of its own.
    """
    rng = np.random.default_rng(seed)
    moved = values + errors * rng.standard_normal((ERROR_DRAWS, len(values)))
    return _softmax(values + np.log(weights)), np.quantile(
        _softmax(moved + np.log(weights)), [0.025, 0.975], axis=0
    )


def _softmax(logs: np.ndarray) -> np.ndarray:
    shares = np.exp(logs - logs.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def _named(models: Any) -> dict[str, Any]:
    if isinstance(models, Mapping):
        named = {str(name): as_model(model) for name, model in models.items()}
    elif isinstance(models, Sequence):
        made = [as_model(model) for model in models]
        named = {model.label: model for model in made}
        if len(named) < len(made):
            raise InputError("two models have one label: give them by name, as {name: model}")
    else:
        raise InputError("models: a list of them, or {name: model}, is needed")
    if len(named) < 2:
        raise InputError(f"{len(named)} model: nothing to choose from; at least two are needed")
    return named


def _methods(named: Mapping[str, Any], method: str | Mapping[str, str]) -> dict[str, str]:
    if isinstance(method, str):
        return dict.fromkeys(named, method)
    _same_names(named, method, "method")
    return dict(method)


def _weights(named: Mapping[str, Any], given: Mapping[str, float] | None) -> dict[str, float]:
    if given is None:
        return dict.fromkeys(named, 1.0 / len(named))
    _same_names(named, given, "prior_probabilities")
    if not all(math.isfinite(p) and p > 0 for p in given.values()):
        raise OptionError("prior_probabilities: a number above zero is needed of every model")
    total = sum(given.values())
    return {name: given[name] / total for name in named}


def _same_names(named: Mapping[str, Any], given: Mapping[str, Any], what: str) -> None:
    for name in {*named} ^ {*given}:
        raise OptionError(
            f"{what}: {name!r} is in only one of models and {what}; each name is needed in both"
        )


def _ranked(
    jobs: Mapping[str, Job],
    named: Mapping[str, Any],
    found: Mapping[str, Evidence],
    failures: Mapping[str, str],
    weights: Mapping[str, float],
    seed: int,
) -> tuple[Candidate, ...]:
    good = {n: e for n, e in found.items() if math.isfinite(e.value)}
    order = sorted(good, key=lambda name: -good[name].original_units)
    values = np.array([good[name].original_units for name in order])
    errors = np.nan_to_num(np.array([good[name].standard_error for name in order]))
    shares = np.array([weights[name] for name in order])
    share, interval = probabilities(values, errors, shares, seed)
    if not all(e.is_evidence for e in good.values()):
        share, interval = np.full(len(order), np.nan), np.full((2, len(order)), np.nan)
    made = []
    for k, name in enumerate(order):
        behind = float(values[0] - values[k])
        distinct = k > 0 and behind > DISTINCT * math.hypot(errors[0], errors[k])
        bounds = (float(interval[0, k]), float(interval[1, k]))
        parts = (good[name], float(share[k]), bounds, behind, distinct, "")
        made.append(Candidate(name, named[name], *parts, *jobs[name].origin))
    for name in named:
        if name not in good:
            why = failures.get(name, "its value is infinite or no number")
            missing = (None, math.nan, (math.nan,) * 2, math.inf, True, why)
            made.append(Candidate(name, named[name], *missing, *jobs[name].origin))
    return tuple(made)


def _counts_other_copies(evidence: Evidence) -> bool:
    options = evidence.record.get("options", {})
    return evidence.method in ONE_MODE and options.get("copies") != "told-apart"


def doubts(found: Mapping[str, Evidence], failures: Mapping[str, str]) -> tuple[str, ...]:
    """What makes an order of evidences doubtful, one line each.

    Args:
        found: evidences by model.
        failures: why others have none.
    """
    said = []
    kinds = sorted({e.kind for e in found.values()})
    if len(kinds) > 1:
        said.append(f"kinds of numbers are mixed ({', '.join(kinds)}): their order says little")
    bounds = {e.method for e in found.values() if e.kind in BOUNDS}
    if bounds:
        said.append("lower bounds are ranked: a model may be behind only because its gap is wider")
    if any(not e.is_evidence for e in found.values()):
        said.append("the numbers are no evidences: no probabilities are given")
    if len({e.data_dependent for e in found.values()}) > 1:
        said.append(
            "some models, not all, were fitted to the training targets before "
            f"({', '.join(sorted({d for e in found.values() for d in e.data_dependent}))})"
        )
    if any(e.diagnostics.get("log_arrangements", 0.0) > 0 for e in found.values()):
        sizes = {e.diagnostics.get("log_arrangements", 0.0) for e in found.values()}
        if len(sizes) > 1 and any(_counts_other_copies(e) for e in found.values()):
            said.append(
                "widths differ: Laplace counts one of the equivalent arrangements of hidden units, "
                "of which wider layers have more; give estimator.copies = 'told-apart' to laplace, "
                "or take smc"
            )
    noted = [name for name, e in found.items() if e.warnings]
    if noted:
        named = "; ".join(noted[:3]) + ("; ..." if len(noted) > 3 else "")
        said.append(f"estimates with warnings of their own: {len(noted)} ({named})")
    if failures:
        said.append(f"{len(failures)} could not be estimated")
    return tuple(said)
