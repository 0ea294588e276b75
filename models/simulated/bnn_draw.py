"""Data drawn from any model of the zoo, with its true weights kept."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from bnnzoo.datasets import Dataset
from bnnzoo.datasets._dataset import Scale
from bnnzoo.errors import OptionError
from bnnzoo.options import Count, Options, Positive
from bnnzoo.registry import register

NOISE = 0.1
"""Standard deviation of the Gaussian noise where nothing is said of it."""


class BnnDrawOptions(Options):
    """Options of ``bnn-draw``."""

    n: Annotated[int, Field(ge=2)] = Field(100, description="Training rows.")
    n_test: Annotated[int, Field(ge=0)] = Field(100, description="Test rows, of the same law.")
    features: Count = Field(5, description="Inputs a row, each N(0, 1).")
    outputs: Count | None = Field(
        None, description="Targets a row (1), or classes (2), or what the likelihood's options say."
    )
    network: str = Field("mlp", description="Name of the network.")
    prior: str = Field("gaussian", description="Name of the prior the weights are drawn from.")
    likelihood: str = Field("gaussian", description="Name of the likelihood of the targets.")
    network_options: dict[str, Any] = Field(default_factory=dict, description="Of the network.")
    prior_options: dict[str, Any] = Field(default_factory=dict, description="Of the prior.")
    likelihood_options: dict[str, Any] = Field(
        default_factory=dict, description="Of the likelihood."
    )
    noise: Positive | None = Field(
        None,
        description="Known standard deviation of the noise (0.1); for the likelihood 'gaussian'"
        " without likelihood_options.",
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of weights, inputs and noise.")
    scale: Scale = Field(
        "none", description="Scaling for models; 'none' keeps the generating prior the right one."
    )


@register(
    "datasets",
    "bnn-draw",
    summary="Data from one draw of the weights of any zoo model, which are kept.",
    options=BnnDrawOptions,
    tags={"task": ("regression", "classification"), "source": "synthetic"},
    notes="By default a regression from the network mlp, 50 tanh units, weights N(0, 1/fan-in),"
    " biases N(0, 1), noise 0.1. truth holds every latent site by its name, and the noise-free f"
    " and f_test. draw_dataset of bnnzoo.models.simulated does the same for a model object.",
)
def bnn_draw(options: BnnDrawOptions) -> Dataset:
    """One draw of weights, then of rows."""
    from bnnzoo.models.model import make_model
    from bnnzoo.models.simulated._draw import draw_dataset

    model = make_model(
        options.network,
        options.prior,
        options.likelihood,
        network_options=options.network_options,
        prior_options=options.prior_options,
        likelihood_options=_likelihood_options(options),
    )
    outputs = options.outputs
    if outputs is None and model.outputs is None and model.likelihood.task == "classification":
        outputs = 2
    rows = options.n + options.n_test
    x = np.random.default_rng(options.seed).normal(size=(rows, options.features))
    return draw_dataset(
        model,
        x[: options.n],
        x[options.n :] if options.n_test else None,
        outputs=outputs,
        seed=options.seed,
        scale=options.scale,
        name="bnn-draw",
    )


def _likelihood_options(options: BnnDrawOptions) -> dict[str, Any]:
    """Those given, or known Gaussian noise."""
    plain = options.likelihood == "gaussian" and not options.likelihood_options
    if plain:
        return {"noise": "fixed", "noise_std": NOISE if options.noise is None else options.noise}
    if options.noise is not None:
        raise OptionError(
            f"data.noise = {options.noise:g} is for the likelihood 'gaussian' without options of"
            " its own: set data.likelihood_options instead"
        )
    return options.likelihood_options
