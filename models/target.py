"""Which site of a model is its target, and a target of classes in one form."""

from __future__ import annotations

import jax.numpy as jnp
import numpyro.distributions as dist

from bnnzoo.errors import InputError
from bnnzoo.models import score
from bnnzoo.models.augmentation import class_logits
from bnnzoo.models.score import Scored


def target_of(seen: Scored) -> dist.Distribution:
    """Distribution of the target: the site ``y``, or the only observed one.

    Args:
        seen: what a pass over the model saw.

    Raises:
        InputError: no such site, or several.
    """
    if "y" in seen.observed:
        return seen.observed["y"][0]
    targets = sorted(set(seen.observed) - set(seen.factors))
    if len(targets) != 1:
        raise InputError(
            f"a model to predict with needs one target site, named 'y'; found {targets}"
        )
    return seen.observed[targets[0]][0]


def as_classes(fn: dist.Distribution) -> dist.Distribution:
    """A target of classes as a categorical one ``(row, class)``: 0 or 1 is two classes.

    Args:
        fn: of class numbers.
    """
    inner = score.base(fn)
    logits = class_logits(inner)
    if logits is None:
        return fn
    return dist.Categorical(logits=jnp.broadcast_to(logits, (*fn.batch_shape, logits.shape[-1])))
