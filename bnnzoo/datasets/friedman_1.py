"""Friedman's first function: five inputs that matter among more that do not."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from bnnzoo.datasets._dataset import Dataset
from bnnzoo.datasets._synthetic import SyntheticOptions, noisy_regression
from bnnzoo.options import Positive
from bnnzoo.registry import register


class FriedmanOptions(SyntheticOptions):
    """Options of ``friedman-1``."""

    noise: Positive = Field(1.0, description="Standard deviation of the noise, in units of y.")
    irrelevant: Annotated[int, Field(ge=0)] = Field(
        5, description="Inputs that the target does not depend on, beside the five it does."
    )


@register(
    "datasets",
    "friedman-1",
    summary="Synthetic regression: a smooth function of five inputs; the others are irrelevant.",
    options=FriedmanOptions,
    references=(
        "Friedman (1991), Multivariate adaptive regression splines, Annals of Statistics 19(1).",
    ),
    tags={"task": "regression", "source": "synthetic"},
    notes="f(x) = 10 sin(pi x0 x1) + 20 (x2 - 1/2)^2 + 10 x3 + 5 x4, all inputs uniform from 0 to"
    " 1, test inputs too. truth holds f, f_test, noise and noise_test, one value a row.",
)
def friedman_1(options: FriedmanOptions) -> Dataset:
    """The data set of these options."""
    rng = np.random.default_rng(options.seed)
    x = rng.uniform(size=(options.n + options.n_test, 5 + options.irrelevant))
    return noisy_regression(
        "friedman-1",
        options,
        rng,
        x[: options.n],
        x[options.n :],
        function,
        lambda x: np.full(len(x), options.noise),
    )


def function(x: np.ndarray) -> np.ndarray:
    """Noise-free values ``(row,)`` at inputs ``(row, feature)``."""
    return (
        10.0 * np.sin(np.pi * x[:, 0] * x[:, 1])
        + 20.0 * (x[:, 2] - 0.5) ** 2
        + 10.0 * x[:, 3]
        + 5.0 * x[:, 4]
    )
