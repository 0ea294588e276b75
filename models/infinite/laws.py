"""What the limit of wide layers needs of a prior: the law of each parameter's elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro import handlers

from bnnzoo.errors import InputError
from bnnzoo.models.correlated import CorrelatedNormal
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.prior import Prior


class ElementLaw(NamedTuple):
    """One parameter's elements.

    Attributes:
        law: of an element, batch shape that of one element or of all.
        covariance: of the elements of a filter ``(element, element)``, in units of the law's
            variance; None where elements are independent.
    """

    law: dist.Distribution
    covariance: Array | None = None


def element_laws(
    prior: Prior, infos: Sequence[ParameterInfo], filters: bool = False
) -> dict[str, ElementLaw]:
    """The law of every parameter's elements by path.

    Args:
        prior: of the parameters.
        infos: the parameters.
        filters: the positions of a convolution's filter may be correlated.

    Raises:
        InputError: hyper-parameters, or elements that depend on each other in another way.
    """
    zeros = {info.path: jnp.zeros(info.shape) for info in infos}
    with (
        handlers.trace() as trace,
        handlers.seed(rng_seed=0),
        handlers.substitute(data=zeros),
    ):
        prior.sample(infos)
    sites = {name: site for name, site in trace.items() if site["type"] == "sample"}
    bases = {f"{path}.base" for path in zeros}
    for name in sites:
        if name not in zeros and name not in bases:
            raise InputError(
                f"prior: {name!r} is sampled with the weights, so the limit is a mixture of "
                "Gaussian processes and none itself; fix it, or choose a prior without "
                "hyper-parameters (of inverse-gamma-scale: InfiniteNetwork(model, data, "
                "scale_mixture='prior'))"
            )
    found = {}
    for info in infos:
        if info.path in sites:
            law = sites[info.path]["fn"]
        else:  # a linear map of independent values is stated as the law of its result
            law = prior.distribution(info)
            if type(law) is not CorrelatedNormal:
                raise InputError(f"prior of {info.path!r}: it is no random variable of its own")
        found[info.path] = _elements(law, info, filters)
    return found


def _elements(law: dist.Distribution, info: ParameterInfo, filters: bool) -> ElementLaw:
    while isinstance(law, dist.Independent):
        law = law.base_dist
    if type(law) is CorrelatedNormal and jnp.ndim(law.scale) == 0:
        if not law.groups:
            return ElementLaw(dist.Normal(0.0, law.scale))
        positions = (tuple(range(info.filter_axes)),)
        if filters and info.filter_axes and law.groups == positions:
            factor = jnp.asarray(law.factors[0])
            return ElementLaw(dist.Normal(0.0, law.scale), factor @ factor.T)
    if law.event_shape != ():
        raise InputError(
            f"prior of {info.path!r}: its elements are not independent ({type(law).__name__}), "
            "and the central limit theorem as used here asks that of them"
        )
    while isinstance(law, dist.ExpandedDistribution):
        law = law.base_dist
    return ElementLaw(law)


def check_law(
    law: dist.Distribution, info: ParameterInfo, reads_input: bool, approximate_inputs: bool
) -> None:
    """Raise where the limit is not Gaussian or its covariance not a recursion of variances.

    Args:
        law: of the elements.
        info: the parameter.
        reads_input: a kernel whose sums are over inputs, which do not grow in number.
        approximate_inputs: such sums are taken as Gaussian.

    Raises:
        InputError: of a law that has no such limit.
    """
    where = f"prior of {info.path!r}"
    try:
        variance, mean = np.asarray(law.variance), np.asarray(law.mean)
    except NotImplementedError:
        raise InputError(
            f"{where}: the variance of {type(law).__name__} has no closed form here"
        ) from None
    if not np.isfinite(variance).all():
        raise InputError(
            f"{where}: {type(law).__name__} has no finite variance, so the network does not become "
            "a Gaussian process (but a stable one) as it grows"
        )
    if not (mean == 0).all():
        raise InputError(f"{where}: its mean is not 0, as the limit needs")
    spread = np.broadcast_to(variance, info.shape)
    dense_input = reads_input and not info.filter_axes  # it may have a variance an input
    if not (spread == (spread[:, :1] if dense_input else spread.flat[0])).all():
        raise InputError(
            f"{where}: variances differ between units, which have none of their own in the limit"
        )
    gaussian = isinstance(law, dist.Normal)
    if info.role == "bias" and not gaussian:
        raise InputError(
            f"{where}: {type(law).__name__}, but a bias is not summed over, so it has to be "
            "Gaussian for the limit to be"
        )
    if reads_input and not gaussian and not approximate_inputs:
        raise InputError(
            f"{where}: {type(law).__name__}, but there are {info.fan_in} inputs however wide the "
            "network, so their weights have to be Gaussian (a rule for "
            f"{info.path!r} with name = 'gaussian'; or approximate_inputs=True)"
        )
