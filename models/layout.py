"""The latent sites of a model: found once by abstract evaluation, nothing compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.extend.core import Jaxpr, Literal
from numpyro.distributions.transforms import (
    IdentityTransform,
    IndependentTransform,
    biject_to,
)

from bnnzoo.errors import InputError
from bnnzoo.models import score
from bnnzoo.models.score import Site


def find_sites(model: Callable[..., Any], x: Any, y: Any) -> tuple[Site, ...]:
    """Every latent site in the order the model samples them, with its place in the flat vector.

    Args:
        model: a NumPyro model ``(x, y)``.
        x: inputs, modelled units.
        y: targets, modelled units.

    Raises:
        InputError: no latent site, or two whose names collide in a tree (``a/b`` and ``a.b``).
    """
    shapes = site_shapes(model, x, y)
    if not shapes:
        raise InputError("the model samples nothing: it needs a latent numpyro.sample site")
    _refuse_collisions(shapes)
    conditional = _conditional_sites(model, x, y, {n: shape for n, (shape, _, _) in shapes.items()})
    sites: list[Site] = []
    for name, (shape, free_shape, free) in shapes.items():
        offset = sites[-1].offset + sites[-1].size if sites else 0
        sites.append(Site(name, shape, free_shape, offset, name in conditional, free))
    return tuple(sites)


def site_shapes(
    model: Callable[..., Any], x: Any, y: Any
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...], bool]]:
    """Shape and unconstrained shape of every latent site, by abstract evaluation.

    With them, whether its constrained value is the unconstrained one.
    """
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...], bool]] = {}

    def note(name: str, fn: dist.Distribution) -> tuple[Array, Array]:
        transform = biject_to(fn.support)
        shape = tuple(fn.shape())
        free_shape = tuple(transform.inverse_shape(shape))
        shapes[name] = (shape, free_shape, _is_identity(transform))
        return transform(jnp.zeros(free_shape)), jnp.zeros(())

    def trace(x: Any, y: Any) -> Array:
        return score.run(model, x, y, note).log_jacobian

    jax.eval_shape(trace, x, y)
    return shapes


def _is_identity(transform: Any) -> bool:
    while isinstance(transform, IndependentTransform):
        transform = transform.base_transform
    return isinstance(transform, IdentityTransform)


RESERVED = ("chain", "draw")
"""Names of a tree's own axes."""


def _conditional_sites(
    model: Callable[..., Any], x: Any, y: Any, shapes: Mapping[str, tuple[int, ...]]
) -> set[str]:
    """Sites whose distribution depends on another latent site."""

    def parameters(values: dict[str, Array], fixed: dict[str, Array]) -> dict[str, list[Any]]:
        # The density at a fixed value as well: a distribution of the user's own may hold its
        # parameters where a pytree does not show them.
        seen = score.run(model, x, y, lambda name, fn: (values[name], jnp.zeros(())))
        return {
            name: [fn.log_prob(fixed[name]), *jax.tree.leaves(fn)] for name, fn in seen.fns.items()
        }

    real = jnp.result_type(float)
    example = {name: jax.ShapeDtypeStruct(shape, real) for name, shape in shapes.items()}
    closed, out_shapes = jax.make_jaxpr(parameters, return_shape=True)(example, example)
    outputs = [name for name, leaves in sorted(out_shapes.items()) for _ in leaves]
    reached = depends_on_first(closed.jaxpr, len(example))
    return {name for name, depends in zip(outputs, reached, strict=True) if depends}


def depends_on_first(jaxpr: Jaxpr, count: int) -> list[bool]:
    """For each output, whether one of the first inputs reaches it; inner calls mix theirs."""
    tainted = set(jaxpr.invars[:count])

    def touched(variables: Iterable[Any]) -> bool:
        return any(not isinstance(v, Literal) and v in tainted for v in variables)

    for equation in jaxpr.eqns:
        if touched(equation.invars):
            tainted.update(equation.outvars)
    return [touched([v]) for v in jaxpr.outvars]


def _refuse_collisions(names: Iterable[str]) -> None:
    in_tree: dict[str, str] = {}
    for name in names:
        dotted = tree_name(name)
        if dotted in RESERVED:
            raise InputError(f"site {name!r} has the name of a tree's axis; rename it")
        if dotted in in_tree:
            raise InputError(
                f"sites {in_tree[dotted]!r} and {name!r} would both be {dotted!r} in a tree"
            )
        in_tree[dotted] = name


def tree_name(site: str) -> str:
    """Name of a site in trees: ``/`` would start a group there."""
    return site.replace("/", ".")
