"""What simulated regressions share: a function, a spread, and the truth kept beside the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from pydantic import Field

from bnnzoo.datasets._dataset import Dataset, Scale
from bnnzoo.datasets._make import make_dataset
from bnnzoo.options import Options


class SyntheticOptions(Options):
    """Options of every simulated data set."""

    n: Annotated[int, Field(ge=4)] = Field(200, description="Training rows.")
    n_test: Annotated[int, Field(ge=0)] = Field(200, description="Test rows.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of inputs and noise.")
    scale: Scale = Field("auto", description="'standard', 'none', or 'auto': for zoo models only.")


def noisy_regression(
    name: str,
    options: SyntheticOptions,
    rng: np.random.Generator,
    x: np.ndarray,
    x_test: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    noise: Callable[[np.ndarray], np.ndarray],
) -> Dataset:
    """Targets ``function(x)`` with independent Gaussian noise of standard deviation ``noise(x)``.

    Args:
        name: of the data set.
        options: its options.
        rng: the generator that drew the inputs.
        x: ``(row, feature)`` training inputs.
        x_test: ``(test_row, feature)`` test inputs; none at all where there are no rows.
        function: values ``(row,)`` at inputs.
        noise: standard deviations ``(row,)`` at inputs, in units of y.

    Returns:
        The data; ``truth`` holds ``f`` and ``noise`` of every row, and ``f_test`` and
        ``noise_test`` where there are test rows.
    """
    truth = {"f": function(x), "noise": noise(x)}
    y = truth["f"] + truth["noise"] * rng.standard_normal(len(x))
    if not len(x_test):
        return make_dataset(x, y, task="regression", scale=options.scale, name=name, truth=truth)
    truth |= {"f_test": function(x_test), "noise_test": noise(x_test)}
    y_test = truth["f_test"] + truth["noise_test"] * rng.standard_normal(len(x_test))
    return make_dataset(
        x, y, x_test, y_test, task="regression", scale=options.scale, name=name, truth=truth
    )
