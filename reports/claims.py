"""Claims of published work, and what a measurement says of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bnnzoo.errors import BnnzooError, InputError, OptionError

__all__ = ["DIRECTIONS", "VERDICTS", "Claim", "Measurement", "NotMeasuredError", "judge"]

VERDICTS = ("reproduced", "contradicted", "inconclusive", "not run")

DIRECTIONS = {
    "above": "more than",
    "below": "less than",
    "within": "within",
}
"""On which side of a claim's threshold it says the statistic lies, and how that is written."""


class NotMeasuredError(BnnzooError):
    """A claim's statistic cannot be computed from the cells there are; the text says why."""


@dataclass(frozen=True)
class Measurement:
    """A statistic with its 95 % interval.

    Attributes:
        value: in the unit of the claim's statistic.
        low: of the interval.
        high: of the interval.
        covers: the variation that the interval is about, such as ``training sets and test rows``.
    """

    value: float
    low: float
    high: float
    covers: str

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise InputError(
                f"a measurement of {self.value} with interval [{self.low}, {self.high}]: "
                "low <= value <= high is needed"
            )

    @classmethod
    def mean_of(cls, values: ArrayLike, covers: str, *, overlap: float = 0.0) -> Measurement:
        """The mean of independent repeats, or of overlapping splits, with Student's t.

        Args:
            values: ``(repeat,)``, at least two.
            covers: what a repeat is.
            overlap: where repeats are splits of one data set, test rows over training rows of
                each: the variance of the mean is then (1 / repeats + overlap) times that of one,
                as training sets overlap.

        Raises:
            NotMeasuredError: fewer than two repeats, or one that is not finite.

        Source: Nadeau & Bengio (2003), Inference for the Generalization Error, eq. 9.
        """
        from scipy import stats

        found = np.asarray(values, float)
        if found.ndim != 1 or len(found) < 2:
            raise NotMeasuredError(f"one interval needs two repeats or more, not {found.size}")
        if not np.isfinite(found).all():
            raise NotMeasuredError("a repeat is not finite")
        error = found.std(ddof=1) * math.sqrt(1 / len(found) + overlap)
        half = float(stats.t.ppf(0.975, len(found) - 1) * error)
        mean = float(found.mean())
        return cls(mean, mean - half, mean + half, covers)

    @classmethod
    def share_of(cls, hits: ArrayLike, covers: str) -> Measurement:
        """How often something held among independent repeats, with Wilson's interval.

        Args:
            hits: ``(repeat,)``, whether it held.
            covers: what a repeat is.

        Raises:
            NotMeasuredError: there are no repeats.
        """
        held = np.asarray(hits, bool)
        n = held.size
        if not n:
            raise NotMeasuredError("there are no repeats")
        z, p = 1.959963984540054, float(held.mean())
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return cls(p, min(centre - half, p), max(centre + half, p), covers)

    @classmethod
    def exact(cls, value: float, covers: str = "nothing: it is computed, not estimated") -> Any:
        """A number without error of its own."""
        return cls(float(value), float(value), float(value), covers)


@dataclass(frozen=True)
class Claim:
    """What was claimed, made testable before it is tested.

    Attributes:
        name: short, unique within a study.
        text: the claim, in a sentence.
        source: who claims it and where.
        statistic: what is measured, with its unit.
        measure: computes it from a study's results; raises :class:`NotMeasuredError` where it
            cannot.
        direction: ``above``, ``below`` or ``within`` (of the margin around the threshold).
        threshold: that the statistic is claimed to lie above, below or at.
        margin: half the width of what counts as no difference around the threshold.
    """

    name: str
    text: str
    source: str
    statistic: str
    measure: Callable[[Any], Measurement]
    direction: str = "above"
    threshold: float = 0.0
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise OptionError(
                f"claim {self.name}: direction = {self.direction!r}; choices: "
                + ", ".join(DIRECTIONS)
            )
        if self.margin < 0 or (self.direction == "within" and self.margin == 0):
            raise OptionError(f"claim {self.name}: margin = {self.margin}: must be greater than 0")

    @property
    def says(self) -> str:
        """What the statistic is claimed to be: ``more than 0.02``."""
        word = DIRECTIONS[self.direction]
        if self.direction == "within":
            return f"{word} {self.margin:g} of {self.threshold:g}"
        signed = self.margin if self.direction == "above" else -self.margin
        return f"{word} {self.threshold + signed:g}"


def judge(claim: Claim, measured: Measurement) -> str:
    """The verdict on a claim.

    Args:
        claim: what is claimed.
        measured: of its statistic.

    Returns:
        ``reproduced`` where the whole 95 % interval lies beyond the margin on the claimed side of
        the threshold, ``contradicted`` where it lies beyond it on the other side, else
        ``inconclusive``. A claim of being *within* a margin is reproduced where the interval lies
        inside it and contradicted where it lies outside.
    """
    below, above = claim.threshold - claim.margin, claim.threshold + claim.margin
    lower, higher = measured.high < below, measured.low > above
    if claim.direction == "within":
        if lower or higher:
            return "contradicted"
        inside = below <= measured.low and measured.high <= above
        return "reproduced" if inside else "inconclusive"
    if not (lower or higher):
        return "inconclusive"
    return "reproduced" if higher == (claim.direction == "above") else "contradicted"


def check(claim: Claim, results: Any) -> dict[str, Any]:
    """A claim with its measurement and verdict as plain data; *not run* with its cause.

    Args:
        claim: what is claimed.
        results: what its ``measure`` takes.
    """
    told: dict[str, Any] = {
        "name": claim.name,
        "text": claim.text,
        "source": claim.source,
        "statistic": claim.statistic,
        "claimed": claim.says,
    }
    try:
        measured = claim.measure(results)
    except NotMeasuredError as reason:
        return told | {"verdict": "not run", "cause": str(reason)}
    return told | {"verdict": judge(claim, measured), **vars(measured)}
