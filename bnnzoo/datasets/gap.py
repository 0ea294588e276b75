"""One-dimensional regression with a gap in x, where only the prior says what happens."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from bnnzoo.datasets._dataset import Dataset, Scale
from bnnzoo.datasets._make import make_dataset
from bnnzoo.options import Count, Options, Positive
from bnnzoo.registry import register

CLUSTERS = ((-2.0, -0.7), (0.7, 2.0))
"""Intervals that hold the training inputs."""

GRID = (-3.0, 3.0)
"""Interval that the test inputs cover: both clusters, the gap between them and both outsides."""


class GapOptions(Options):
    """Options of ``gap``."""

    n: Annotated[int, Field(ge=4)] = Field(60, description="Training rows, half in each cluster.")
    noise: Positive = Field(0.1, description="Standard deviation of the noise, in units of y.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of inputs and noise.")
    n_test: Count = Field(100, description="Test rows, evenly spaced from -3 to 3.")
    scale: Scale = Field("auto", description="'standard', 'none', or 'auto': for zoo models only.")


@register(
    "datasets",
    "gap",
    summary="Synthetic 1-D regression: sin(3x) + x/2 at two clusters of x, tested across the gap.",
    options=GapOptions,
    references=(
        "Foong, Li, Hernandez-Lobato & Turner (2019), In-between uncertainty, arXiv 1906.11537.",
    ),
    tags={"task": "regression", "source": "synthetic"},
    notes="Test targets carry the same noise; truth['f_test'] is the noise-free curve.",
)
def gap(options: GapOptions) -> Dataset:
    """Noisy values of :func:`curve` with nothing between the clusters."""
    rng = np.random.default_rng(options.seed)
    left = options.n // 2
    x = np.concatenate(
        [rng.uniform(*CLUSTERS[0], left), rng.uniform(*CLUSTERS[1], options.n - left)]
    )
    x_test = np.linspace(*GRID, options.n_test)
    f, f_test = curve(x), curve(x_test)
    return make_dataset(
        x,
        f + options.noise * rng.standard_normal(x.shape),
        x_test,
        f_test + options.noise * rng.standard_normal(x_test.shape),
        task="regression",
        scale=options.scale,
        name="gap",
        truth={"f": f, "f_test": f_test, "noise": np.array(options.noise)},
    )


def curve(x: np.ndarray) -> np.ndarray:
    """The noise-free function: sin(3x) + x/2."""
    return np.sin(3 * x) + x / 2
