"""Samplers with a planted bug, which tests of correctness must catch."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

from jax.tree_util import register_dataclass

from bnnzoo.inference.backends.hmc import HMC, HMCOptions, fields


@functools.partial(
    register_dataclass,
    data_fields=("target_acceptance", "trajectory", "jitter", "max_steps", "restarts"),
    meta_fields=("dense", "tuned"),
)
@dataclass(frozen=True)
class Untempered(HMC):
    """HMC that samples at T = 1 whatever the posterior says."""

    def init(self, posterior, u):
        return super().init(_at_one(posterior), u)

    def step(self, posterior, state, stage, key):
        return super().step(_at_one(posterior), state, stage, key)


def _at_one(posterior):
    made = copy.copy(posterior)
    made.posterior_temperature = 1.0
    return made


def untempered_hmc():
    return Untempered(**fields(HMCOptions()))
