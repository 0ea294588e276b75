"""The contract of an inference backend, and the stages the loop takes it through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from jax import Array
from jax.typing import ArrayLike

from bnnzoo.models.posterior import Posterior


class Stage(IntEnum):
    """What one step is for; a schedule is an array of these."""

    IDLE = 0
    FAST = 1
    SLOW = 2
    SLOW_END = 3
    SAMPLE = 4


class Step(NamedTuple):
    """What one step reports.

    Attributes:
        u: unconstrained position ``(dim,)``.
        stats: one scalar for each of the backend's ``stats``.
    """

    u: Array
    stats: dict[str, Array]


class Backend(ABC):
    """An algorithm that gives draws from a posterior, one step at a time.

    A subclass is a pytree: numbers that may change without a new compilation are leaves, what
    shapes the program is structure. The loop owns chains, segments, checkpoints and keys.
    """

    stats: tuple[str, ...] = ()
    """Names of the scalars that every step reports."""
    default_chains: int = 4
    default_draws: int = 1000
    default_warmup: int = 1000
    splits_rows: bool = False
    """Whether it sees the training rows through the posterior's own densities alone, whose sums may
    then go over several devices."""
    follows_target: bool = True
    """Whether draws are meant to spread as the target does; if not, no virial ratio is judged."""

    @abstractmethod
    def schedule(self, warmup: int) -> np.ndarray:
        """Stages of the warm-up steps, length ``warmup``."""

    def planned(self, warmup: int) -> Backend:
        """This backend, told how many warm-up steps it will have.

        Args:
            warmup: number of warm-up steps.

        Raises:
            OptionError: a number it can do nothing with.
        """
        return self

    @abstractmethod
    def init(self, posterior: Posterior, u: Array) -> Any:
        """State (a pytree of arrays) at the starting position; traced.

        Args:
            posterior: the target.
            u: unconstrained position ``(dim,)``.
        """

    @abstractmethod
    def step(self, posterior: Posterior, state: Any, stage: Array, key: Array) -> tuple[Any, Step]:
        """One step; traced.

        Args:
            posterior: the target.
            state: what :meth:`init` or the last step gave.
            stage: what the step is for, a :class:`Stage`; never ``IDLE``.
            key: a typed random key that no other step is given.

        Returns:
            The next state, and what the step reports.
        """

    @abstractmethod
    def gradients(self, stats: dict[str, np.ndarray]) -> int:
        """Number of log-density gradients behind some steps.

        Args:
            stats: their statistics, ``(step,)`` each.
        """

    def check(self, posterior: Posterior) -> None:  # noqa: B027
        """Raise where this backend cannot treat a posterior; most treat all.

        Args:
            posterior: the target.

        Raises:
            InputError: what it cannot treat.
        """

    def remarks(self, posterior: Posterior) -> list[Flag]:
        """What a user must know of every chain on this posterior, whatever comes out of it.

        Args:
            posterior: the target.
        """
        return []

    def linearisation(self, state: Any) -> ArrayLike | None:
        """Where a chain's network is linearised, for functions of its draws; None for nowhere.

        Args:
            state: where the chain ended.

        Returns:
            Unconstrained ``(dim,)``. It is kept in the tree of the run, group ``mode``.
        """
        return None

    def flags(self, stats: dict[str, np.ndarray], warmup: dict[str, np.ndarray]) -> list[Flag]:
        """What a user must know of one finished chain.

        Args:
            stats: statistics of its draws, ``(step,)`` each.
            warmup: those of its warm-up.
        """
        return []


class Flag(NamedTuple):
    """Something that makes a chain's draws doubtful.

    Attributes:
        kind: ``nan``, ``divergent``, ``stuck``, ``unconverged``, ``virial`` or ``warning``.
        message: one line.
    """

    kind: str
    message: str
