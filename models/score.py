"""One pass over a NumPyro model that gives every term of its tempered density."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions.transforms import biject_to

from bnnzoo.errors import InputError


@dataclass(frozen=True)
class Site:
    """Where one latent site lives in the flat unconstrained vector.

    Attributes:
        name: the NumPyro site.
        shape: of the constrained value.
        free_shape: of the unconstrained value.
        offset: its first element in ``u``.
        conditional: its distribution depends on another latent site.
        free: its value is its unconstrained value.
    """

    name: str
    shape: tuple[int, ...]
    free_shape: tuple[int, ...]
    offset: int
    conditional: bool = False
    free: bool = False

    @property
    def size(self) -> int:
        """Number of unconstrained elements."""
        return math.prod(self.free_shape)

    def take(self, u: Array) -> Array:
        """This site's part of a flat vector, in its unconstrained shape."""
        return u[self.offset : self.offset + self.size].reshape(self.free_shape)


@dataclass
class Scored:
    """What one pass saw.

    Attributes:
        values: constrained value of every latent site.
        fns: distribution of every latent site.
        log_jacobian: summed log |d value / d u|.
        observed: distribution, value and weight (``handlers.scale``) of every observed site.
        deterministic: values of ``numpyro.deterministic`` sites.
        factors: names of ``numpyro.factor`` sites.
    """

    values: dict[str, Array]
    fns: dict[str, dist.Distribution]
    log_jacobian: Array
    observed: dict[str, tuple[dist.Distribution, Array, Any]]
    deterministic: dict[str, Array]
    factors: list[str]


Supply = Callable[[str, dist.Distribution], tuple[Array, Array]]
"""Name and distribution of a latent site -> constrained value and log-Jacobian term."""


class _Score(numpyro.primitives.Messenger):
    """Supplies every latent value and records every distribution.

    It is entered outermost, so distributions arrive already expanded by their plates.
    ``latent`` names the latent sites when predicting; None takes every unobserved site as one.
    """

    def __init__(self, supply: Supply, latent: frozenset[str] | None = None) -> None:
        super().__init__(None)
        self.supply = supply
        self.latent = latent
        self.seen = Scored({}, {}, jnp.zeros(()), {}, {}, [])

    def process_message(self, msg: Any) -> None:
        kind = msg["type"]
        if kind == "control_flow":
            raise InputError(
                "numpyro's scan and cond hide the sites inside them; write the loop out, or give "
                "the whole path one site"
            )
        if kind == "prng_key":
            raise InputError(
                "the model draws a key (numpyro.prng_key, or a module with apply_rng): random "
                "numbers outside numpyro.sample have no density"
            )
        name = msg.get("name", kind)
        if kind in ("param", "mutable"):
            raise InputError(
                f"site {name!r} is a numpyro.{kind}, which stays unsampled; give it a prior with "
                "numpyro.sample"
            )
        if kind == "plate" and msg["args"][1] not in (None, msg["args"][0]):
            raise InputError(
                f"plate {name!r} subsamples: leave subsample_size out, backends draw minibatches"
            )
        if kind != "sample":
            return
        if name in self.seen.values or name in self.seen.observed:
            raise InputError(f"site {name!r} is sampled twice; give every site a name of its own")
        if not msg["is_observed"] and (extra := msg["kwargs"].get("sample_shape")):
            msg["fn"] = msg["fn"].expand((*extra, *msg["fn"].batch_shape))
            msg["kwargs"]["sample_shape"] = ()
        fn = msg["fn"]
        if msg["is_observed"]:
            if isinstance(base(fn), dist.Unit):
                self.seen.factors.append(name)
            self.seen.observed[name] = (fn, msg["value"], _weight(msg))
        elif self.latent is not None and name not in self.latent:
            # The target of a prediction: its distribution is what counts, its value is never used.
            msg["value"] = jnp.zeros(fn.shape())
            self.seen.observed[name] = (fn, msg["value"], _weight(msg))
        elif fn.support.is_discrete:
            raise InputError(
                f"site {name!r} is discrete: no backend samples it; sum it out of the model"
            )
        elif msg["scale"] is not None:
            raise InputError(
                f"latent site {name!r} is scaled: a scaled prior has no temperature of its own"
            )
        else:
            value, term = self.supply(name, fn)
            self.seen.values[name] = msg["value"] = value
            self.seen.fns[name] = fn
            self.seen.log_jacobian = self.seen.log_jacobian + term

    def postprocess_message(self, msg: Any) -> None:
        if msg["type"] == "deterministic":
            self.seen.deterministic[msg["name"]] = msg["value"]


def run(model: Callable[..., Any], x: Any, y: Any, supply: Supply) -> Scored:
    """Run a model on data with latent values from ``supply``."""
    score = _Score(supply)
    with score:
        model(x, y)
    return score.seen


def run_predictive(model: Callable[..., Any], x: Any, values: Mapping[str, Array]) -> Scored:
    """Run a model on new inputs with constrained latent values given by name."""

    def supply(name: str, fn: dist.Distribution) -> tuple[Array, Array]:
        _same_shape(name, fn, jnp.shape(values[name]))
        return values[name], jnp.zeros(())

    score = _Score(supply, frozenset(values))
    with score:
        model(x, None)
    return score.seen


def from_vector(u: Array, sites: tuple[Site, ...]) -> Supply:
    """Supply latent values from a flat unconstrained vector."""
    by_name = {site.name: site for site in sites}

    def supply(name: str, fn: dist.Distribution) -> tuple[Array, Array]:
        site = by_name[name]
        _same_shape(name, fn, site.shape)
        transform = biject_to(fn.support)
        free = site.take(u)
        value = transform(free)
        return value, jnp.sum(transform.log_abs_det_jacobian(free, value))

    return supply


def _same_shape(name: str, fn: dist.Distribution, shape: tuple[int, ...]) -> None:
    if tuple(fn.shape()) != shape:
        raise InputError(
            f"latent site {name!r} has shape {tuple(fn.shape())} on these rows and {shape} on the "
            "training rows: minibatches and predictions for new rows are not defined for this model"
        )


class UndrawableError(Exception):
    """A site's distribution has no sampler; not what a model itself has not implemented."""


def from_prior(key: Array) -> Supply:
    """Supply latent values drawn from their priors; ``UndrawableError`` where one cannot be."""

    def supply(name: str, fn: dist.Distribution) -> tuple[Array, Array]:
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        try:
            return fn.sample(own), jnp.zeros(())
        except NotImplementedError:
            raise UndrawableError(name) from None

    return supply


def unconstrained(seen: Scored) -> dict[str, Array]:
    """The unconstrained form of every latent value that was seen."""
    return {name: biject_to(fn.support).inv(seen.values[name]) for name, fn in seen.fns.items()}


def _weight(msg: Any) -> Any:
    return 1.0 if msg["scale"] is None else msg["scale"]


def base(fn: dist.Distribution) -> dist.Distribution:
    """The distribution inside expansions and declared events."""
    while hasattr(fn, "base_dist") and not isinstance(fn, dist.TransformedDistribution):
        fn = fn.base_dist
    return fn
