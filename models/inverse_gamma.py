"""The inverse-gamma variance that several priors share."""

from __future__ import annotations

from bnnzoo.errors import OptionError


def rate_of_mean_one(shape: float, rate: float | None) -> float:
    """The rate that was given, or that which makes the mean of an inverse-gamma 1.

    Args:
        shape: a.
        rate: b, or None.

    Raises:
        OptionError: no rate, and a shape for which there is no mean.
    """
    if rate is not None:
        return rate
    if shape <= 1.0:
        raise OptionError(
            f"prior.shape = {shape:g}: an inverse-gamma of shape <= 1 has no mean to set to 1; "
            "give prior.rate as well"
        )
    return shape - 1.0
