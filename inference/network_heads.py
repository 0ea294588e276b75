"""A posterior taken apart at the network's outputs: its heads, and the loss of a row given them.

A network enters a model through one call of :meth:`BoundNetwork.apply`. To stand another object in
its place is to record what it returns, to give it, or to linearise it, and everything else of the
model stays what it is: priors, noise, augmentations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
from jax import Array

from bnnzoo.models.model import Model
from bnnzoo.models.network import BoundNetwork
from bnnzoo.models.posterior import Posterior
from bnnzoo.models.score import Scored, base


@dataclass(frozen=True)
class _Recorded(BoundNetwork):
    """The network, and what it was called with and returned."""

    calls: list[tuple[Mapping[str, Array], Array, Array]] = field(default_factory=list)

    def apply(self, parameters: Mapping[str, Array], x: Array) -> Array:
        out = super().apply(parameters, x)
        self.calls.append((parameters, x, out))
        return out


@dataclass(frozen=True)
class _Given(BoundNetwork):
    """Returns what it was given, whatever the parameters."""

    head: Any = None

    def apply(self, parameters: Mapping[str, Array], x: Array) -> Array:
        return self.head.reshape(x.shape[0], self.outputs)


@dataclass(frozen=True)
class Linearised(BoundNetwork):
    """f(x; c) + J(x; c) (w - c), the network's linearisation about ``centre``."""

    centre: Any = None

    def apply(self, parameters: Mapping[str, Array], x: Array) -> Array:
        at = {i.path: self.centre[i.path] for i in self.infos}
        step = {i.path: parameters[i.path] - at[i.path] for i in self.infos}
        value, change = jax.jvp(lambda w: super(Linearised, self).apply(w, x), (at,), (step,))
        return value + change


def _replaced(posterior: Posterior, kind: Callable[..., BoundNetwork], extra: Any) -> Posterior:
    """The same posterior with another network; inside a traced function alone."""
    model, own = posterior.model, posterior.network
    assert isinstance(model, Model) and own is not None
    network = kind(own.graph, own.infos, own.in_shape, own.outputs, extra, turns=own.turns)
    leaves, sites = posterior.tree_flatten()
    children, (_, outputs) = model.tree_flatten()
    other = Model.tree_unflatten((network, outputs), children)
    return Posterior.tree_unflatten(sites, (other, *leaves[1:]))


def with_linearised_network(posterior: Posterior, centre: Mapping[str, Array]) -> Posterior:
    """The posterior of the linearised model; traced.

    Args:
        posterior: of a zoo model.
        centre: value of every network parameter by path, where the linearisation touches.
    """
    return _replaced(posterior, Linearised, dict(centre))


def network_parameters(posterior: Posterior, seen: Scored) -> dict[str, Array]:
    """Value of every network parameter by path; a non-centred one is a deterministic site."""
    found = {**seen.deterministic, **seen.values}
    assert posterior.network is not None
    return {i.path: found[i.path] for i in posterior.network.infos}


def network_calls(
    posterior: Posterior, u: Array, batch: Array
) -> tuple[Mapping[str, Array], Array, Array]:
    """Parameters, inputs and outputs of the network's one call on some training rows; traced.

    The inputs are the rows, or under an augmentation every row's first copy, then every second.

    Args:
        posterior: of a zoo model.
        u: unconstrained vector ``(dim,)``.
        batch: row numbers.
    """
    calls: list[Any] = []
    _replaced(posterior, _Recorded, calls).pointwise_log_likelihood(u, batch)
    return calls[0]


def heads(posterior: Posterior, u: Array, batch: Array) -> Array:
    """What the network returns for each row ``(row, head)``, its copies side by side; traced."""
    out, rows = network_calls(posterior, u, batch)[2], batch.shape[0]
    return out.reshape(-1, rows, out.shape[-1]).swapaxes(0, 1).reshape(rows, -1)


def row_loss(posterior: Posterior, u: Array, head: Array, row: Array) -> Array:
    """-log p(y_row | head, noise(u)), untempered; traced.

    Args:
        posterior: of a zoo model.
        u: unconstrained vector ``(dim,)``, for what is unknown besides the network.
        head: the row's ``(head,)``, as in :func:`heads`.
        row: its number.
    """
    given = _replaced(posterior, _Given, head)
    return -given.pointwise_log_likelihood(u, row[None])[0]


def prior_loss(posterior: Posterior, u: Array) -> Array:
    """-(tempered log prior + log-Jacobian): what the target has besides the likelihood; traced."""
    seen = posterior._score(u)
    return -(posterior._tempered_log_prior(seen) + seen.log_jacobian)


def elementwise(fn: Any) -> bool:
    """Whether the elements of a site are independent given the sites it depends on."""
    return not base(fn).event_shape
