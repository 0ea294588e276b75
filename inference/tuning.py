"""Widths of a prior, and a known noise, chosen by the training rows."""

from __future__ import annotations

import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import optax

from bnnzoo import registry
from bnnzoo.errors import DataWarning, InputError, OptionError, RunError, hint
from bnnzoo.inference.fitted_prior import save_model
from bnnzoo.inference.hyper_parameters import Groups, Hyper, grouped, make_groups
from bnnzoo.inference.precision import precision
from bnnzoo.inference.prior_checks import check_normalised
from bnnzoo.inference.programs import make_room
from bnnzoo.models.arguments import check_data
from bnnzoo.models.model import Model
from bnnzoo.models.posterior import Posterior

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset

FARTHEST = float(np.log(1e4))
"""A logarithm stays within this of where it began: beyond, nothing changes any more."""


ADAM = optax.scale_by_adam(b1=0.8, b2=0.95)
"""Of few, smooth numbers: it forgets sooner than with weights."""


def falling(rate: float, rounds: int) -> np.ndarray:
    """Learning rates that fall to a tenth along a cosine ``(round,)``.

    Args:
        rate: the first.
        rounds: their number.
    """
    return rate * (0.1 + 0.9 * 0.5 * (1.0 + np.cos(np.pi * np.arange(rounds) / rounds)))


class Found(NamedTuple):
    """What a search came to.

    Attributes:
        hyper: logarithms at its end.
        trace: the objective on the way, nats ``(step,)``; larger is better.
        gradients: of the log density of all rows.
        warnings: what went wrong.
    """

    hyper: Hyper
    trace: np.ndarray
    gradients: int
    warnings: tuple[str, ...] = ()


class Tuner(ABC):
    """One objective of hyper-parameters, and its search.

    Attributes:
        dtype: the only precision it works in; None for either.
    """

    dtype: str | None = None

    def check(self, posterior: Posterior, groups: Groups) -> None:  # noqa: B027
        """Raise where this tuner cannot treat a posterior, before any work.

        Args:
            posterior: the target.
            groups: what is tuned.

        Raises:
            InputError: what it cannot treat.
        """

    @abstractmethod
    def search(
        self, posterior: Posterior, groups: Groups, hyper: Hyper, seed: int, progress: bool
    ) -> Found:
        """From a start to the best logarithms.

        Args:
            posterior: at temperatures of 1, of a model with prior ``grouped-gaussian``.
            groups: which parameters share a width.
            hyper: where to begin.
            seed: of every random number.
            progress: show how far it is, where it goes in rounds.

        Raises:
            RunError: the objective is not finite.
        """


@dataclass(frozen=True)
class Tuned:
    """A model with tuned hyper-parameters.

    Attributes:
        model: the model; its prior is ``grouped-gaussian``, marked as fitted to targets.
        widths: by group: standard deviations in units of 1/sqrt(fan-in) of kernels, as they are of
            other parameters; an array where a group has several.
        noise_std: of the noise, modelled units; None where it was not tuned.
        trace: the objective on the way, nats ``(step,)``.
        method: the tuner.
        gradients: of the log density of all rows that it took.
        seconds: wall time.
        warnings: what went wrong.
    """

    model: Model
    widths: dict[str, Any]
    noise_std: float | None
    trace: np.ndarray
    method: str
    gradients: int
    seconds: float
    warnings: tuple[str, ...]

    @property
    def value(self) -> float:
        """The objective at the end, nats."""
        return float(self.trace[-1])

    def facts(self) -> list[tuple[str, str]]:
        """What was found, as names and texts, in the order they are shown."""
        found = [
            ("objective", f"{self.trace[0]:.3f} -> {self.value:.3f} nats ({self.method})"),
            ("gradients", f"{self.gradients:,}"),
        ]
        for name, width in self.widths.items():
            found.append((f"width {name}", " ".join(f"{v:.3g}" for v in np.ravel(width))))
        if self.noise_std is not None:
            found.append(("noise", f"{self.noise_std:.3g} (modelled units)"))
        return found + [("warning", line) for line in self.warnings]

    def __str__(self) -> str:
        found = self.facts()
        width = max(len(name) for name, _ in found)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in found)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as a TOML file, for ``fit_spec`` or ``bnnzoo fit --config``.

        Args:
            path: of the file.
        """
        save_model(self.model, path)


def tune(
    model: Any,
    data: Dataset,
    method: str = "laplace",
    *,
    groups: str = "layer",
    noise: bool = True,
    seed: int = 0,
    dtype: str = "float32",
    progress: bool = True,
    **options: Any,
) -> Tuned:
    """Choose the widths of a Gaussian prior by the training rows.

    Args:
        model: a zoo model with a Gaussian prior of fixed widths, from which the search begins.
        data: from ``load_dataset`` or ``make_dataset``; test rows are not looked at.
        method: ``laplace``, ``laplace-ntk``, ``elbo``, ``exact`` or ``holdout``; see
            ``bnnzoo.list("tuners")``.
        groups: what shares a width: ``global`` (kernels, and all else), ``layer`` (one an array of
            parameters), ``input`` (as layer, with one an input of the network), ``unit`` (as layer,
            with one a unit of every hidden layer).
        noise: tune the scale of additive noise as well; learned noise is then replaced by a known
            one. At the joint mode of weights and noise, which this search would be about
            otherwise, a network that can fits the noise away.
        seed: of every random number.
        dtype: ``float32`` or ``float64``.
        progress: show how far a search is that goes in rounds: a bar on a terminal, else a line a
            minute on standard error.
        **options: options of the tuner.

    Returns:
        The model with its new prior, and how it came to be.

    Raises:
        InputError: a model that cannot be tuned, or an option that does not exist.
        RunError: the objective is not finite.
    """
    check_data(data, model)
    entry = registry.get("tuners", method)
    tuner: Tuner = entry.build(options, "tuner")
    if dtype not in ("float32", "float64"):
        raise OptionError(f"dtype = {dtype!r}{hint(str(dtype), ('float32', 'float64'))}")
    if not isinstance(model, Model):
        raise InputError("tune: a hand-written model has hyper-parameters of its own: sample them")
    make_room()
    for line in data.warnings:
        warnings.warn(line, DataWarning, stacklevel=2)
    begun = time.perf_counter()
    with precision(tuner.dtype or dtype):
        bound = model.bind(data)
        assert bound.bound is not None
        chosen, start = make_groups(bound, bound.bound, groups, noise)
        posterior = Posterior(grouped(model, chosen, start), data)
        check_normalised(posterior)
        tuner.check(posterior, chosen)
        found = tuner.search(posterior, chosen, start, seed, progress)
    if not np.isfinite(found.trace[-1]):
        raise RunError(f"tune: the objective of {method!r} is not finite; take dtype = 'float64'")
    widths = {name: np.exp(np.asarray(v, float)) for name, v in found.hyper.items()}
    noise_std = widths.pop("noise", None)
    return Tuned(
        model=grouped(model, chosen, found.hyper, f"{method} on the targets of {data.name}"),
        widths={n: float(v) if v.ndim == 0 else v.ravel() for n, v in widths.items()},
        noise_std=None if noise_std is None else float(noise_std),
        trace=found.trace,
        method=method,
        gradients=found.gradients,
        seconds=time.perf_counter() - begun,
        warnings=(*found.warnings, *_at_the_end(start, found.hyper)),
    )


def _at_the_end(start: Mapping[str, Any], end: Mapping[str, Any]) -> tuple[str, ...]:
    """Groups whose width ran to the end of its range."""
    far = [n for n in end if np.any(np.asarray(end[n] - start[n]) > 0.98 * FARTHEST)]
    return tuple(f"{name!r} ran to the largest width: the objective has no maximum" for name in far)
