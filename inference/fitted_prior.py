"""What priors that were found for a network share: a model that has them, and its file."""

from __future__ import annotations

import os
from pathlib import Path

import tomli_w

from bnnzoo.models.model import Model
from bnnzoo.models.prior import make_prior
from bnnzoo.specs import MODEL_PARTS, Component


def with_prior(model: Model, prior: Component) -> Model:
    """The model with another prior, its spec saying so.

    Args:
        model: a zoo model.
        prior: name and options.
    """
    assert model.spec is not None and model.network is not None
    spec = model.spec.model_copy(update={"prior": prior, "model": Component()})
    made = Model(model.network, make_prior(prior), model.likelihood, spec, model.augmentation)
    made.external = model.external
    return made


def save_model(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model as a TOML file: for ``fit_spec``, ``--config``, or another model's prior.

    Args:
        model: a zoo model.
        path: of the file.
    """
    assert model.spec is not None
    tree = model.spec.to_tree()
    kept = {section: tree[section] for section in MODEL_PARTS if section in tree}
    Path(path).write_text(tomli_w.dumps(kept), encoding="utf-8")
