"""A jump, which smooth priors cannot make and networks can."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from bnnzoo.datasets._dataset import Dataset
from bnnzoo.datasets._synthetic import SyntheticOptions, noisy_regression
from bnnzoo.options import Positive
from bnnzoo.registry import register


class StepOptions(SyntheticOptions):
    """Options of ``step``."""

    noise: Positive = Field(0.1, description="Standard deviation of the noise, in units of y.")


@register(
    "datasets",
    "step",
    summary="Synthetic 1-D regression: a step from 0 to 1 at x = 0.",
    options=StepOptions,
    tags={"task": "regression", "source": "synthetic"},
    notes="f(x) = 1 where x > 0, else 0. Training inputs are uniform from -1 to 1, test inputs"
    " evenly spaced from -2 to 2. Stationary Gaussian processes"
    " smear such a step out. truth holds f, f_test, noise and noise_test, one value a row.",
)
def step(options: StepOptions) -> Dataset:
    """The data set of these options."""
    rng = np.random.default_rng(options.seed)
    return noisy_regression(
        "step",
        options,
        rng,
        rng.uniform(-1.0, 1.0, (options.n, 1)),
        np.linspace(-2.0, 2.0, options.n_test)[:, None],
        lambda x: (x[:, 0] > 0).astype(np.float64),
        lambda x: np.full(len(x), options.noise),
    )
