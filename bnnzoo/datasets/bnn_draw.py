"""Data drawn from a known Bayesian network: the model is right, so its posterior can be judged."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from bnnzoo.datasets._dataset import Dataset, Scale
from bnnzoo.datasets._make import make_dataset
from bnnzoo.options import Count, Options, Positive
from bnnzoo.registry import register


class BnnDrawOptions(Options):
    """Options of ``bnn-draw``."""

    n: Annotated[int, Field(ge=2)] = Field(100, description="Training rows.")
    features: Count = Field(5, description="Inputs a row, each N(0, 1).")
    width: Count = Field(50, description="Hidden units.")
    noise: Positive = Field(0.1, description="Standard deviation of the noise, in units of y.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of weights, inputs and noise.")
    n_test: Annotated[int, Field(ge=0)] = Field(100, description="Test rows, of the same law.")
    scale: Scale = Field(
        "none", description="Scaling for models; 'none' keeps the generating prior the right one."
    )


@register(
    "datasets",
    "bnn-draw",
    summary="Regression data from one draw of a one-hidden-layer tanh network with known prior.",
    options=BnnDrawOptions,
    tags={"task": "regression", "source": "synthetic"},
    notes="Weights are N(0, 1/fan_in), biases N(0, 1). truth holds the weights as the network"
    " 'mlp' names them, the noise-free values f and f_test, and the noise.",
)
def bnn_draw(options: BnnDrawOptions) -> Dataset:
    """One draw of weights, then of rows."""
    rng = np.random.default_rng(options.seed)
    weights = {
        "layers.0.kernel": rng.normal(0, options.features**-0.5, (options.features, options.width)),
        "layers.0.bias": rng.normal(size=options.width),
        "layers.1.kernel": rng.normal(0, options.width**-0.5, (options.width, 1)),
        "layers.1.bias": rng.normal(size=1),
    }
    x = rng.normal(size=(options.n, options.features))
    y = network(weights, x) + options.noise * rng.normal(size=options.n)
    truth = weights | {"f": network(weights, x), "noise": np.array(options.noise)}
    x_test = y_test = None
    if options.n_test:
        x_test = rng.normal(size=(options.n_test, options.features))
        truth["f_test"] = network(weights, x_test)
        y_test = truth["f_test"] + options.noise * rng.normal(size=options.n_test)
    return make_dataset(
        x,
        y,
        x_test,
        y_test,
        task="regression",
        scale=options.scale,
        name="bnn-draw",
        truth=truth,
    )


def network(weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Values ``(row,)`` of the tanh network at ``(row, feature)``; kernels are ``(in, out)``."""
    hidden = np.tanh(x @ weights["layers.0.kernel"] + weights["layers.0.bias"])
    return (hidden @ weights["layers.1.kernel"] + weights["layers.1.bias"])[:, 0]
