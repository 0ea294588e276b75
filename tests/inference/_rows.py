"""Small models of every network, prior and likelihood of the registry, for tests of them all."""

import functools
import os

import numpy as np
import pytest

from bnnzoo import registry
from bnnzoo.datasets import make_dataset
from bnnzoo.models import make_model

SEED = int(os.environ.get("BNNZOO_TEST_SEED", "0"))
ROWS, TEST_ROWS, FEATURES, CLASSES = 20, 5, 3, 3

SMALL = {
    ("networks", "mlp"): {"widths": [3]},
    ("networks", "deep-linear"): {"widths": [3]},
    ("networks", "additive"): {"widths": [2]},
    ("networks", "cnn"): {"channels": [2], "pool": "none", "shape": [1, FEATURES]},
    ("networks", "resnet20"): {"width": 1, "depth": 8, "shape": [1, FEATURES]},
    ("networks", "lstm"): {"units": 2},
    ("networks", "transformer"): {"width": 2, "heads": 1, "hidden": 2, "depth": 1},
    ("backends", "swag"): {"every": 2},
    ("backends", "deep-ensemble"): {"steps": 200},
    ("backends", "map"): {"steps": 200},
}
VARIANTS = {
    ("networks", "mlp"): [
        {"activation": "relu"},
        {"widths": [3, 3], "residual": "1/blocks"},
        {"parameterisation": "ntk"},
    ],
    ("likelihoods", "gaussian"): [
        {"noise": "fixed", "noise_std": 0.5},
        {"noise": "heteroscedastic"},
    ],
    ("likelihoods", "student-t"): [
        {"noise": "fixed", "scale": 0.5, "df": 4.0},
        {"noise": "heteroscedastic"},
    ],
    ("priors", "gaussian"): [{"rules": {"*": {"name": "laplace"}}}],
    ("priors", "student-t"): [{"df": 1.5, "match": "iqr"}],
    ("priors", "hierarchical-gaussian"): [
        {"shape": 1.0, "rate": 1.0},
        {"share": "network", "bias_variance": True},
    ],
    ("priors", "ard"): [{"relevance": "half-cauchy"}],
    ("priors", "spike-and-slab"): [{"group": "incoming"}],
}


def entries(kind, variants=False):
    """Name and options of every entry of a kind, in their small form."""
    found = []
    for name in registry.list_names(kind):
        if registry.describe(kind, name).tags.get("needs") == "match":
            continue  # a prior for one network alone: test_match_prior.py
        small = SMALL.get((kind, name), {})
        extra = VARIANTS.get((kind, name), []) if variants else []
        found += [(name, small | options) for options in ({}, *extra)]
    return found


def parts(variants):
    return {
        "prior": entries("priors", variants),
        "network": entries("networks", variants),
        "likelihood": entries("likelihoods", variants),
    }


def label(row):
    def text(value):
        if not isinstance(value, tuple):
            return str(value)
        name, options = value
        small = SMALL.get(("networks", name), {}).keys() | {"rules", "widths"}
        changed = ",".join(f"{k}={v}" for k, v in options.items() if k not in small)
        return f"{name}({changed or 'rules'})" if "rules" in options or changed else name

    return "-".join(text(value) for value in row.values())


def rows_of(rows):
    return pytest.mark.parametrize("row", [pytest.param(row, id=label(row)) for row in rows])


def target_of(row):
    """What kind of target the likelihood is for: the tag that every likelihood's card carries."""
    return registry.describe("likelihoods", row["likelihood"][0]).tags["target"]


@functools.cache
def dataset(target, seed=0):
    random = np.random.default_rng([SEED, seed])
    x = random.normal(size=(ROWS + TEST_ROWS, FEATURES))
    y = x[:, 0] + 0.3 * random.normal(size=len(x))
    task = "classification" if "classes" in target else "regression"
    if task == "classification":
        y = np.argsort(np.argsort(y)) % (2 if target == "two classes" else CLASSES)
    elif target == "counts":
        y = random.poisson(np.exp(y)).astype(float)
    return make_dataset(x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:], task=task)


def make(row, **prior_options):
    (prior, of_prior), (network, of_network) = row["prior"], row["network"]
    likelihood, of_likelihood = row["likelihood"]
    return make_model(
        network,
        prior,
        likelihood,
        network_options=of_network,
        prior_options=of_prior | prior_options,
        likelihood_options=of_likelihood,
    )
