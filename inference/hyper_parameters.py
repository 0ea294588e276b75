"""Hyper-parameters that are tuned: logarithms of widths in groups, and of a known noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from bnnzoo import registry
from bnnzoo.errors import InputError, OptionError, hint
from bnnzoo.inference.fitted_prior import with_prior
from bnnzoo.models.model import Model
from bnnzoo.models.network import BoundNetwork
from bnnzoo.models.noise import AdditiveNoise
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.posterior import Posterior
from bnnzoo.models.prior import Prior
from bnnzoo.models.priors.gp_matched import width_unit
from bnnzoo.models.priors.grouped_gaussian import GroupedGaussian
from bnnzoo.models.score import base
from bnnzoo.specs import Component

GROUPS = ("global", "layer", "input", "unit")
"""global: one width of all kernels, one of all else; layer: one an array of parameters; input: as
layer, with one an input of the network; unit: as layer, with one a unit of every hidden layer."""

NOISE = "noise"
"""Name of the noise among hyper-parameters; no parameter path has one word."""

FIRST_NOISE = 1.0
"""Where the search of a noise begins that the model learns: all of the targets, modelled units."""

Hyper = dict[str, Array]
"""Logarithms by name: of a group's width, or of the noise's standard deviation."""


class Groups(NamedTuple):
    """Which parameters share a width; hashable.

    Attributes:
        of_path: ``(path, group)`` of every parameter.
        noise: the noise is a hyper-parameter too.
    """

    of_path: tuple[tuple[str, str], ...]
    noise: bool


def make_groups(
    model: Model, bound: BoundNetwork, groups: str, noise: bool
) -> tuple[Groups, Hyper]:
    """The groups, and where their search starts: at the widths the model has.

    Args:
        model: a zoo model, bound.
        bound: its network.
        groups: one of :data:`GROUPS`.
        noise: tune the scale of additive noise, where the model has one number for it.

    Raises:
        OptionError: no such grouping.
        InputError: a prior that is not Gaussian with fixed widths.
    """
    if groups not in GROUPS:
        raise OptionError(f"groups = {groups!r}{hint(groups, GROUPS)}")
    widths = {info.path: _width(model.prior, info) for info in bound.infos}
    kernels = [i for i in bound.infos if i.role in ("kernel", "embedding")]
    first = _reads_input(bound) if groups == "input" else ()
    of_path: list[tuple[str, str]] = []
    start: dict[str, list[np.ndarray]] = {}
    for info in bound.infos:
        name = info.path
        shape: tuple[int, ...] = ()
        if groups == "global":
            name = "kernels" if info in kernels else "others"
        elif info.path in first:
            shape = (info.shape[-2], 1)
        elif groups == "unit" and info in kernels and not info.writes_output:
            shape = (info.shape[-1],)
        of_path.append((info.path, name))
        start.setdefault(name, []).append(np.full(shape, np.log(widths[info.path])))
    hyper = {name: jnp.asarray(np.mean(given, axis=0)) for name, given in start.items()}
    likelihood = model.likelihood
    if noise and isinstance(likelihood, AdditiveNoise) and likelihood.noise != "heteroscedastic":
        known = likelihood.noise == "fixed"
        hyper[NOISE] = jnp.log(jnp.asarray(float(likelihood.number) if known else FIRST_NOISE))
    return Groups(tuple(of_path), NOISE in hyper), hyper


def grouped(model: Model, groups: Groups, hyper: Mapping[str, Any], words: str = "") -> Model:
    """The model with these widths as its prior ``grouped-gaussian``, and this noise.

    Args:
        model: a zoo model.
        groups: which parameters share one.
        hyper: logarithms.
        words: what they were fitted to; empty for nothing.
    """
    widths: dict[str, Any] = {}
    for path, name in groups.of_path:
        value = np.exp(np.asarray(hyper[name], float))
        if value.ndim == 0:
            widths[path] = _digits(value)
        else:
            kind = "input" if value.ndim == 2 else "unit"
            widths[path] = {kind: [_digits(v) for v in value.ravel()]}
    options: dict[str, Any] = {"widths": widths} | ({"fitted_to": words} if words else {})
    made = with_prior(model, Component(name="grouped-gaussian", options=options))
    if not groups.noise:
        return made
    assert made.spec is not None and isinstance(model.likelihood, AdditiveNoise)
    kept = {k: v for k, v in made.spec.likelihood.options.items() if k != "noise_scale"}
    scale = {model.likelihood.site: _digits(np.exp(np.asarray(hyper[NOISE], float)))}
    likelihood = Component(
        name=made.spec.likelihood.name, options={**kept, "noise": "fixed", **scale}
    )
    assert likelihood.name is not None
    made.spec = made.spec.model_copy(update={"likelihood": likelihood})
    made.likelihood = registry.get("likelihoods", likelihood.name).build(likelihood.options)
    return made


def placed(posterior: Posterior, groups: Groups, hyper: Mapping[str, Any]) -> Posterior:
    """The posterior with other widths and noise; traced, differentiable by ``hyper``.

    Args:
        posterior: of a model that :func:`grouped` made.
        groups: which parameters share one.
        hyper: logarithms.
    """
    leaves, sites = posterior.tree_flatten()
    children, shape = leaves[0].tree_flatten()
    prior, likelihood, augmentation = children
    assert isinstance(prior, GroupedGaussian)
    widths = {path: jnp.exp(hyper[name]) for path, name in groups.of_path}
    prior = dataclasses.replace(prior, widths=widths)
    if groups.noise:
        likelihood = dataclasses.replace(likelihood, number=jnp.exp(hyper[NOISE]))
    model = Model.tree_unflatten(shape, (prior, likelihood, augmentation))
    return Posterior.tree_unflatten(sites, (model, *leaves[1:]))


def _width(prior: Prior, info: ParameterInfo) -> float:
    """A fixed Gaussian's width in units of :func:`width_unit`, its mean over the elements."""
    plain = type(prior).sample is Prior.sample
    plain = plain and type(prior).sample_parameter is Prior.sample_parameter
    law = base(prior.distribution(info)) if plain else None
    if not isinstance(law, dist.Normal):
        raise InputError(
            f"tune: the prior of {info.path!r} is no Gaussian of fixed width, whose width could be "
            "tuned; give the model prior 'gaussian'"
        )
    return float(np.mean(np.asarray(law.scale))) / width_unit(info)


def _reads_input(bound: BoundNetwork) -> tuple[str, ...]:
    found = tuple(i.path for i in bound.infos if i.reads_input and len(i.shape) == 2)
    if not found:
        raise InputError(
            "tune: groups = 'input' needs a dense layer on the inputs; give groups = 'layer'"
        )
    return found


def _digits(value: Any) -> float:
    return float(f"{float(value):.9g}")
