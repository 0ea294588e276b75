"""Pre-activations drawn for every row, in place of one set of weights for all of them.

A network's jaxpr is gone through with means and variances in place of its parameters. Linear
operations carry both along; the first operation that is not linear gets a draw. That is exact where
every element of a row depends on weights of its own (Kingma, Salimans & Welling 2015, sec. 3.1):
dense layers on rows. Anything else is refused by :func:`why_not`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Jaxpr, Literal, Var

from bnnzoo.models.network import BoundNetwork
from bnnzoo.models.posterior import Posterior

SHAPING = {"broadcast_in_dim", "convert_element_type", "copy", "reshape", "squeeze"}
"""Operations that only move elements: a variance moves with its mean."""


class NotRowwiseError(Exception):
    """A parameter is used in a way that does not give every element of a row its own weights."""


class Uncertain(NamedTuple):
    """Independent Gaussians not drawn yet.

    Attributes:
        mean: of any shape.
        variance: the same shape.
        rows: whether the leading axis is that of rows; False for parameters.
    """

    mean: Array
    variance: Array
    rows: bool


@dataclass(frozen=True, eq=False)
class RowwiseNetwork(BoundNetwork):
    """A bound network whose weights are Gaussians: stands in for it in a model.

    Attributes:
        means: of every parameter by path.
        variances: of every parameter by path.
        key: typed key of the draws.
    """

    means: Mapping[str, Array]
    variances: Mapping[str, Array]
    key: Array

    @classmethod
    def of(
        cls,
        bound: BoundNetwork,
        means: Mapping[str, Array],
        variances: Mapping[str, Array],
        key: Array,
    ) -> RowwiseNetwork:
        """A network with its weights replaced by Gaussians."""
        shapes = bound.graph, bound.infos, bound.in_shape, bound.outputs
        return cls(*shapes, means, variances, key)

    def apply(self, parameters: Mapping[str, Array], x: Array) -> Array:
        """Outputs ``(row, output)`` with pre-activations drawn; the parameters are not read.

        Args:
            parameters: draws of the weights, of which only the shapes matter.
            x: inputs ``(row, *in_shape)``.
        """
        paths = sorted(parameters)
        shapes = {path: jax.ShapeDtypeStruct(self.means[path].shape, x.dtype) for path in paths}
        closed = jax.make_jaxpr(super().by_rows)(shapes, jax.ShapeDtypeStruct(x.shape, x.dtype))
        weights = [Uncertain(self.means[path], self.variances[path], False) for path in paths]
        walk = _Walk(self.key)
        (out,) = walk.run(closed.jaxpr, closed.consts, [*weights, x])
        return walk.drawn(out)


def with_gaussian_weights(
    posterior: Posterior, mean: Array, variance: Array, key: Array
) -> Posterior:
    """The posterior whose likelihood draws pre-activations; its prior is as it was.

    Args:
        posterior: the target, for which :func:`why_not` gives None.
        mean: of every unconstrained coordinate ``(dim,)``.
        variance: of each ``(dim,)``.
        key: typed key.
    """
    bound = posterior.network
    assert bound is not None
    sites = {site.name: site for site in posterior.sites}
    paths = [info.path for info in bound.infos]
    means, variances = ({p: sites[p].take(v) for p in paths} for v in (mean, variance))
    made, model = copy.copy(posterior), object.__new__(type(posterior.model))
    # Not copy.copy: that pickles, and a model inside a traced function cannot be.
    model.__dict__ |= posterior.model.__dict__ | {
        "bound": RowwiseNetwork.of(bound, means, variances, key)
    }
    made.model = model
    return made


def why_not(posterior: Posterior) -> str | None:
    """Why pre-activations cannot be drawn for a posterior, in a few words; None where they can.

    Args:
        posterior: the target.
    """
    bound = posterior.network
    if bound is None:
        return "the network of a hand-written model cannot be seen"
    if getattr(posterior.model, "augmentation", None) is not None:
        return "copies of a row share one set of weights"
    sites = {site.name: site for site in posterior.sites}
    for info in bound.infos:
        if info.path not in sites or not sites[info.path].free:
            return f"{info.path!r} is not Gaussian where the approximation is"
    rows = jax.ShapeDtypeStruct((3, *posterior.x.shape[1:]), posterior.x.dtype)
    u = jnp.zeros(posterior.dimension, posterior.x.dtype)

    def trace(x: Array, u: Array) -> Array:
        made = with_gaussian_weights(posterior, u, u + 1.0, jax.random.key(0))
        assert isinstance(made.network, RowwiseNetwork)
        return made.network.apply(made.network.means, x)

    try:
        jax.eval_shape(trace, rows, u)
    except NotRowwiseError as error:
        return str(error)
    return None


class _Walk:
    """One pass over a jaxpr.

    Args:
        key: of all draws.
    """

    def __init__(self, key: Array) -> None:
        self.key = key
        self.draws = 0

    def drawn(self, value: Any) -> Array:
        """A value that is certain, drawn if it is not yet."""
        if not isinstance(value, Uncertain):
            return value
        if not value.rows:
            raise NotRowwiseError(
                "its network uses a parameter elsewhere than in a dense layer on rows"
            )
        self.draws += 1
        own = jax.random.fold_in(self.key, self.draws)
        noise = jax.random.normal(own, value.mean.shape, value.mean.dtype)
        # A row of zeros leaves no variance, and a root no gradient there.
        floor = jnp.finfo(value.mean.dtype).tiny
        return value.mean + jnp.sqrt(jnp.maximum(value.variance, floor)) * noise

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        """Outputs of a jaxpr, certain or not."""
        known: dict[Var, Any] = {}
        uses: dict[Var, int] = {}
        for variable in (*(v for e in jaxpr.eqns for v in e.invars), *jaxpr.outvars):
            if not isinstance(variable, Literal):
                uses[variable] = uses.get(variable, 0) + 1

        def write(variable: Any, value: Any) -> None:
            if isinstance(value, Uncertain) and uses.get(variable, 0) > 1:
                # Two uses of one Gaussian are dependent: they must see the same draw.
                value = self.drawn(value)
            known[variable] = value

        for variable, value in zip(jaxpr.constvars, consts, strict=True):
            write(variable, value)
        for variable, value in zip(jaxpr.invars, args, strict=True):
            write(variable, value)
        for equation in jaxpr.eqns:
            given = [v.val if isinstance(v, Literal) else known[v] for v in equation.invars]
            results = self._equation(equation, given)
            for variable, value in zip(equation.outvars, results, strict=True):
                write(variable, value)
        return [v.val if isinstance(v, Literal) else known[v] for v in jaxpr.outvars]

    def _equation(self, equation: Any, given: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if not any(isinstance(value, Uncertain) for value in given):
            return _bind(equation, given)
        if name in ("pjit", "jit"):
            inner = equation.params["jaxpr"]
            return self.run(inner.jaxpr, inner.consts, given)
        if name in SHAPING:
            return [_shaped(equation, given[0])]
        if name == "dot_general" and (result := _dense(equation, *given)) is not None:
            return [result]
        if name in ("add", "sub") and (result := _sum(equation, *given)) is not None:
            return [result]
        if name in ("mul", "div") and (result := _scaled(equation, *given)) is not None:
            return [result]
        return _bind(equation, [self.drawn(value) for value in given])


def _bind(equation: Any, given: list[Any]) -> list[Any]:
    """The equation as it stands, on other values."""
    primitive = equation.primitive
    bound = primitive.get_bind_params(equation.params)
    # Older releases of JAX give functions apart.
    functions, parameters = bound if isinstance(bound, tuple) else ((), bound)
    out = primitive.bind(*functions, *given, **parameters)
    return list(out) if primitive.multiple_results else [out]


def _shaped(equation: Any, value: Uncertain) -> Uncertain:
    """Elements moved; a parameter may be repeated along the rows alone."""
    mean, variance = (_bind(equation, [part])[0] for part in value[:2])
    if equation.primitive.name in ("reshape", "squeeze") and value.rows:
        if mean.shape[:1] != value.mean.shape[:1]:
            raise NotRowwiseError("its network mixes rows")
        return Uncertain(mean, variance, True)
    if mean.size == value.mean.size:
        return Uncertain(mean, variance, value.rows)
    if value.rows or mean.size != value.mean.size * mean.shape[0]:
        raise NotRowwiseError("its network uses a parameter more than once in a row")
    leading = 0 not in equation.params["broadcast_dimensions"] or value.mean.shape[0] == 1
    if not leading:
        raise NotRowwiseError("its network uses a parameter more than once in a row")
    return Uncertain(mean, variance, True)


def _dense(equation: Any, left: Any, right: Any) -> Uncertain | None:
    """Certain rows ``(row, in)`` times a kernel ``(in, out)`` that is not."""
    contracted, batched = equation.params["dimension_numbers"]
    plain = tuple(map(tuple, contracted)) == ((1,), (0,)) and not any(batched)
    if isinstance(left, Uncertain) or not plain or left.ndim != 2 or right.mean.ndim != 2:
        return None
    if right.rows:
        return None
    (mean,) = _bind(equation, [left, right.mean])
    (variance,) = _bind(equation, [left**2, right.variance])
    return Uncertain(mean, variance, True)


def _sum(equation: Any, left: Any, right: Any) -> Uncertain | None:
    """Means add, and so do variances: each parameter is used once, so the terms are independent."""
    shape = equation.outvars[0].aval.shape
    parts = [value for value in (left, right) if isinstance(value, Uncertain)]
    together = len(parts) == 2 and not any(part.rows for part in parts)
    for part in parts:
        # A parameter becomes one of rows by standing for each of them, and for nothing more.
        ok = part.mean.shape == (shape if part.rows or together else (1, *shape[1:]))
        if not ok:
            return None
    first, second = (v.mean if isinstance(v, Uncertain) else v for v in (left, right))
    mean = first + second if equation.primitive.name == "add" else first - second
    variance = jnp.broadcast_to(sum(part.variance for part in parts), shape)
    return Uncertain(mean, variance, not together)


def _scaled(equation: Any, left: Any, right: Any) -> Uncertain | None:
    """A certain factor or divisor: its square is that of the variance."""
    first = isinstance(left, Uncertain)
    if first and isinstance(right, Uncertain):
        return None
    if not first and equation.primitive.name == "div":
        return None
    value, factor = (left, right) if first else (right, left)
    if value.mean.shape != equation.outvars[0].aval.shape:
        return None
    if equation.primitive.name == "div":
        factor = 1.0 / factor
    return Uncertain(value.mean * factor, value.variance * jnp.square(factor), value.rows)
