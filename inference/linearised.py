"""Reading draws through the network's linearisation about a point of their chain.

What a backend says with :meth:`Backend.linearisation` is kept in the tree of a run, group ``mode``,
one value a chain and site. Where that group is, functions, targets and likelihoods of the draws are
those of the linearised model, in a fit as in what is read of its folder later: every draw carries
its chain's point with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from bnnzoo.inference.draws import Draws
from bnnzoo.inference.network_heads import network_parameters, with_linearised_network
from bnnzoo.models import score
from bnnzoo.models.layout import tree_name
from bnnzoo.models.posterior import Posterior, Predictive
from bnnzoo.models.score import Scored

GROUP = "mode"
"""Group of the tree."""

PREFIX = "centre of "
"""Marks, among the values of a draw, those of the point the network is linearised about."""


@jax.tree_util.register_pytree_node_class
class LinearisedPosterior(Posterior):
    """The posterior of a zoo model whose network is linearised, about a point every draw brings.

    Its vectors ``u`` are ``(2 dim,)``: the draw, then the point; of its values, those of the point
    are marked. Derivatives in the point are zero.

    Args:
        posterior: of a zoo model.
    """

    def __init__(self, posterior: Posterior) -> None:
        self.__dict__ |= posterior.__dict__

    def plain(self) -> Posterior:
        """The posterior itself."""
        leaves, sites = self.tree_flatten()
        return Posterior.tree_unflatten(sites, leaves)

    def constrain(self, u: Array) -> dict[str, Array]:
        """Constrained values of the draw, and marked, those of the point."""
        own, centre = jnp.split(u, 2)
        about = self.plain().constrain(centre)
        return self.plain().constrain(own) | {PREFIX + name: v for name, v in about.items()}

    def predictive(self, values: Mapping[str, Array], x: Array) -> Predictive:
        """See :meth:`Posterior.predictive`."""
        about = {k.removeprefix(PREFIX): v for k, v in values.items() if k.startswith(PREFIX)}
        own = {k: v for k, v in values.items() if not k.startswith(PREFIX)}
        return self._about(about).predictive(own, x)

    def _score(self, u: Array, batch: Array | None = None) -> Scored:
        own, centre = jnp.split(u, 2)
        about = self.plain().constrain(jax.lax.stop_gradient(centre))
        return self._about(about)._score(own, batch)

    def _about(self, values: Mapping[str, Array]) -> Posterior:
        plain = self.plain()

        def supply(name: str, fn: Any) -> tuple[Array, Array]:
            return values[name], jnp.zeros(())

        seen = score.run(plain.model, plain.x, plain.y, supply)
        return with_linearised_network(plain, network_parameters(plain, seen))


class WithCentres(Draws):
    """Draws, each beside the point of its chain.

    Args:
        draws: of all chains: vectors, or values by site.
        centres: of every chain the same, with first axis ``chain``.
    """

    def __init__(self, draws: Draws, centres: Any) -> None:
        self.shape, self._draws, self._centres = draws.shape, draws, centres

    def take(self, chain: int, which: slice) -> Any:
        own = self._draws.take(chain, which)
        if not isinstance(own, Mapping):
            return np.concatenate([own, self._copies(self._centres[chain], len(own))], axis=1)
        count = len(next(iter(own.values())))
        about = {PREFIX + n: self._copies(v[chain], count) for n, v in self._centres.items()}
        return {**own, **about}

    def _copies(self, centre: Any, count: int) -> np.ndarray:
        centre = np.asarray(centre)
        return np.broadcast_to(centre, (count, *centre.shape))


def linearisation_points(backend: Any, states: Sequence[Any]) -> np.ndarray | None:
    """Where a backend linearises each chain's network ``(chain, dim)``; None where it does not.

    Args:
        backend: whose draws they are.
        states: where every chain ended.
    """
    points = [backend.linearisation(state) for state in states]
    return None if points[0] is None else np.stack([np.asarray(p) for p in points])


def read_vectors(
    posterior: Posterior, u: Draws, points: np.ndarray | None
) -> tuple[Posterior, Draws]:
    """The posterior and the draws with which functions of unconstrained draws are found.

    Args:
        posterior: the target.
        u: unconstrained draws.
        points: of :func:`linearisation_points`.
    """
    if points is None:
        return posterior, u
    return LinearisedPosterior(posterior), WithCentres(u, points)


def read_values(posterior: Posterior, values: Draws, tree: xr.DataTree) -> tuple[Posterior, Draws]:
    """The posterior and the draws with which predictions of a run's constrained draws are made.

    Args:
        posterior: the target.
        values: constrained draws by site.
        tree: of the run.
    """
    if GROUP not in tree.children:
        return posterior, values
    group = tree[GROUP].to_dataset()
    centres = {s.name: group[tree_name(s.name)].to_numpy() for s in posterior.sites}
    return LinearisedPosterior(posterior), WithCentres(values, centres)


def mode_group(posterior: Posterior, points: np.ndarray) -> xr.Dataset:
    """The tree's group: constrained value of every site at every chain's point.

    Args:
        posterior: the target.
        points: unconstrained ``(chain, dim)``.
    """
    values = [jax.device_get(posterior.constrain(jnp.asarray(p))) for p in points]
    made = {}
    for site in posterior.sites:
        array = np.stack([v[site.name] for v in values])
        name = tree_name(site.name)
        dims = ("chain", *(f"{name}_dim_{i}" for i in range(array.ndim - 1)))
        made[name] = xr.DataArray(array, dims=dims)
    return xr.Dataset(made, coords={"chain": np.arange(len(points))})
