"""A sine whose noise depends on x, seen at three clusters."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from bnnzoo.datasets._dataset import Dataset
from bnnzoo.datasets._synthetic import SyntheticOptions, noisy_regression
from bnnzoo.options import Positive
from bnnzoo.registry import register

CENTRES = np.array([-4.0, 0.0, 4.0])
SPREADS = np.array([0.4, 0.9, 0.4])
"""Means and standard deviations of the three equally likely clusters of x."""


class SineOptions(SyntheticOptions):
    """Options of ``heteroscedastic-sine``."""

    noise: Positive = Field(3.0, description="Largest standard deviation of the noise.")


@register(
    "datasets",
    "heteroscedastic-sine",
    summary="Synthetic 1-D regression: 7 sin x with noise 3 |cos(x/2)|, at three clusters of x.",
    options=SineOptions,
    references=(
        "Depeweg, Hernandez-Lobato, Doshi-Velez & Udluft (2018), Decomposition of uncertainty in"
        " Bayesian deep learning, arXiv 1710.07283.",
    ),
    tags={"task": "regression", "source": "synthetic"},
    notes="y = 7 sin x + noise |cos(x/2)| N(0, 1); x is N(-4, 0.4^2), N(0, 0.9^2) or N(4, 0.4^2)"
    " with equal probability. Test inputs are evenly spaced from -6 to 6. truth holds f, f_test,"
    " noise and noise_test, one value a row.",
)
def heteroscedastic_sine(options: SineOptions) -> Dataset:
    """The data set of these options."""
    rng = np.random.default_rng(options.seed)
    cluster = rng.integers(3, size=options.n)
    x = rng.normal(CENTRES[cluster], SPREADS[cluster])[:, None]
    x_test = np.linspace(-6.0, 6.0, options.n_test)[:, None]
    return noisy_regression(
        "heteroscedastic-sine",
        options,
        rng,
        x,
        x_test,
        lambda x: 7.0 * np.sin(x[:, 0]),
        lambda x: options.noise * np.abs(np.cos(x[:, 0] / 2.0)),
    )
