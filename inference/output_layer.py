"""Which latent sites belong to the output layer of a model, and to what comes after it."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.extend.core import Literal

from bnnzoo.errors import InputError
from bnnzoo.models.network import BoundNetwork
from bnnzoo.models.posterior import Posterior

SHAPING = {
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
    "reshape",
    "squeeze",
    "transpose",
}
"""Operations after which a parameter is still the same parameter."""


def output_module(bound: BoundNetwork) -> str:
    """Path of the module whose parameters a network uses last, such as ``layers.1``.

    Args:
        bound: the network.
    """
    paths = sorted(info.path for info in bound.infos)
    shapes = {i.path: jax.ShapeDtypeStruct(i.shape, "float32") for i in bound.infos}
    rows = jax.ShapeDtypeStruct((2, *bound.in_shape), "float32")
    jaxpr = jax.make_jaxpr(bound.by_rows)(shapes, rows).jaxpr
    holds = dict(zip(jaxpr.invars, paths, strict=False))  # The rows come after the parameters.
    last: dict[str, int] = {}
    for number, equation in enumerate(jaxpr.eqns):
        for variable in equation.invars:
            if isinstance(variable, Literal) or variable not in holds:
                continue
            last[holds[variable]] = number
            if equation.primitive.name in SHAPING:
                holds[equation.outvars[0]] = holds[variable]
    return max(last, key=lambda path: last[path]).rpartition(".")[0]


def output_sites(posterior: Posterior, given: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the output layer's sites, with those of the noise.

    Args:
        posterior: the target.
        given: names, or beginnings of names, that say which; None to find them in a zoo model.

    Raises:
        InputError: a name that begins no site, or none given for a hand-written model.
    """
    names = [site.name for site in posterior.sites]
    if given is not None:
        for start in given:
            if not any(name.startswith(start) for name in names):
                raise InputError(
                    f"inference.sites: no latent site begins with {start!r}; there are "
                    f"{', '.join(names)}"
                )
        return tuple(name for name in names if name.startswith(tuple(given)))
    bound = posterior.network
    if bound is None:
        raise InputError(
            "last-layer-vi cannot see the output layer of a hand-written model: give "
            "inference.sites, or take full-rank-vi, or nuts for exact draws"
        )
    module = output_module(bound)
    weights = tuple(info.path for info in bound.infos)
    # A network of one module has parameters without a dot: all of it is its output layer.
    own = [path for path in weights if path.rpartition(".")[0] == module]
    return tuple(
        name
        for name in names
        if name in own
        or any(name.startswith(f"{path}.") for path in own)
        or not name.startswith(weights)
    )


def elements(posterior: Posterior, names: Sequence[str]) -> np.ndarray:
    """Whether each coordinate of ``u`` belongs to a site of these names ``(dim,)``.

    Args:
        posterior: the target.
        names: of sites.
    """
    which = np.zeros(posterior.dimension, bool)
    for site in posterior.sites:
        if site.name in names:
            which[site.offset : site.offset + site.size] = True
    return which
