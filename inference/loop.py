"""The one loop that runs every backend: segments of many steps, and the host between them.

A segment is one compiled program. Between segments the host sees a progress tick, keeps the
finished draws, writes a checkpoint and looks for NaN. On a CPU each chain is called from a host
thread and all share one single-chain program; on an accelerator the chains are one vmapped program,
and on several devices one that is spread over them.
The key of step ``i`` of a chain is a function of the seed, the chain and ``i`` alone, so a run
that is stopped anywhere goes on to the same draws.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bnnzoo.inference import processes
from bnnzoo.inference.backend import Backend, Flag, Stage
from bnnzoo.inference.chains import ChainResult, Chains, gather
from bnnzoo.inference.checkpoint import Checkpoint
from bnnzoo.inference.devices import Devices
from bnnzoo.inference.precision import precision, strongly_typed
from bnnzoo.inference.programs import side_by_side
from bnnzoo.inference.start import find_start
from bnnzoo.models.posterior import Posterior

SEGMENT_STEPS = 100
"""Most steps of a segment: enough to hide the host's part."""

SEGMENT_SECONDS = 2.0
"""A segment of slow steps has fewer: so long until Ctrl-C, a time limit or a NaN is seen."""

FIRST_STEPS = 1
"""Steps of a chain's first segment, before its pace is known."""

GROWTH = 8
"""Most by which a segment has more steps than the one before it."""

SEGMENT_BYTES = 16_000_000
"""Most memory one chain's segment of draws may take on the device."""

CHECKPOINT_SECONDS = 10.0
"""Least time between two checkpoints of one chain."""


@runtime_checkable
class Monitor(Protocol):
    """Who is told of progress."""

    def start(self, done: int) -> None:
        """Programs are compiled; so many steps of all chains were done before."""

    def advance(
        self, chain: int, steps: int, sampling: bool, gradients: int, divergences: int
    ) -> None:
        """A chain has finished this many more steps."""


def chains_on_threads() -> bool:
    """Whether host threads call the chains: on a CPU, where vmapping costs half the speed."""
    return jax.default_backend() == "cpu"


def segment_steps(dimension: int) -> int:
    """Steps of one segment: a function of the model alone, so that programs are shared."""
    return int(np.clip(SEGMENT_BYTES // (4 * dimension), 1, SEGMENT_STEPS))


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
def _init(backend: Backend, posterior: Posterior, u: Array) -> Any:
    return strongly_typed(backend.init(posterior, u))


def _segment(
    backend: Backend,
    posterior: Posterior,
    state: Any,
    key: Array,
    first: Array,
    stages: Array,
    count: Array,
) -> tuple[Any, Array, dict[str, Array]]:
    """``count`` steps from step number ``first``; a count of 0 compiles and does nothing."""
    length = stages.shape[0]
    real = posterior.x.dtype
    us = jnp.zeros((length, posterior.dimension), real)
    stats = {name: jnp.zeros(length, real) for name in backend.stats}

    def body(i: Array, carry: Any) -> Any:
        state, us, stats = carry
        own = jax.random.fold_in(key, first + i)
        state, step = backend.step(posterior, state, stages[i], own)
        us = us.at[i].set(step.u)
        stats = {name: stats[name].at[i].set(step.stats[name].astype(real)) for name in stats}
        return state, us, stats

    return jax.lax.fori_loop(0, count, body, (state, us, stats))


CPU_OPTIONS = {"xla_cpu_prefer_vector_width": 512}
"""Vectors of 512 bits where the processor has them (XLA takes 256): random numbers, and what small
networks do beside products of matrices, then take two thirds of the time."""

_one_chain = jax.jit(_segment, compiler_options=CPU_OPTIONS)
_all_chains = jax.jit(jax.vmap(_segment, in_axes=(None, None, 0, 0, None, None, None)))


def run_chains(
    backend: Backend,
    posterior: Posterior,
    *,
    chains: int,
    draws: int,
    warmup: int,
    seed: int,
    dtype: str,
    monitor: Monitor | None = None,
    checkpoint: Checkpoint | None = None,
    max_time: float | None = None,
    devices: Devices | None = None,
) -> Chains:
    """Run a backend to the end of its schedule, or until time is up.

    Args:
        backend: the algorithm.
        posterior: its target, on ``devices`` where they are given.
        chains: their number.
        draws: kept draws of each.
        warmup: warm-up steps of each.
        seed: of every random number.
        dtype: ``float32`` or ``float64``; the caller is inside :func:`precision` already.
        monitor: told of progress, from several threads.
        checkpoint: where finished segments are kept; what it holds already is gone on from.
        max_time: seconds after which chains stop; each does at least a segment.
        devices: what the chains are spread over; the one there is if not given.

    Raises:
        RunError: no chain has a start of positive density.
    """
    begun = time.perf_counter()
    stages = np.concatenate([backend.schedule(warmup), np.full(draws, Stage.SAMPLE, np.int32)])
    root = jax.random.key(seed)
    keys = [jax.random.fold_in(root, chain) for chain in range(chains)]
    results = _starts(backend, posterior, keys, checkpoint, dtype, devices is None)
    if devices is not None:
        for result in results:
            result.state = processes.on_host(result.state)
    length = segment_steps(posterior.dimension)
    engine = _Engine(
        backend, posterior, keys, stages, warmup, length, dtype, monitor, checkpoint, devices
    )
    compile_seconds = engine.compile(results, begun)
    if checkpoint is not None:
        checkpoint.compile_seconds += compile_seconds
        compile_seconds = checkpoint.compile_seconds
    if max_time is not None:
        engine.deadline = time.perf_counter() + max_time
    if monitor is not None:
        monitor.start(sum(r.position for r in results))
    engine.run(results)
    like = np.zeros(posterior.dimension, posterior.x.dtype)
    return gather(backend, results, len(stages), like, compile_seconds, engine.at_once(chains))


class _Pace(NamedTuple):
    """Steps and seconds of a chain's last segment."""

    steps: int
    seconds: float


class _Engine:
    """The segments of one run, on threads or vmapped."""

    def __init__(
        self,
        backend: Backend,
        posterior: Posterior,
        keys: Sequence[Array],
        stages: np.ndarray,
        warmup: int,
        length: int,
        dtype: str,
        monitor: Monitor | None,
        checkpoint: Checkpoint | None,
        devices: Devices | None,
    ) -> None:
        self.backend, self.posterior, self.keys = backend, posterior, keys
        self.stages, self.warmup, self.length, self.dtype = stages, warmup, length, dtype
        self.monitor, self.checkpoint = monitor, checkpoint
        self.deadline = float("inf")
        self.stop = threading.Event()
        self.paces: dict[int, _Pace] = {}
        self.devices = devices
        self.vmapped = devices is not None or not chains_on_threads()

    def compile(self, results: list[ChainResult], begun: float) -> float:
        """Compile the segment in this thread: NumPyro's handlers are not safe to trace in two."""
        states = [r.state for r in results]
        stages = jnp.zeros(self.length, jnp.int32)
        if self.vmapped:
            jax.block_until_ready(self._call_all(states, 0, stages, 0))
        else:
            jax.block_until_ready(self._call_one(states[0], 0, 0, stages, 0))
        return time.perf_counter() - begun

    def at_once(self, chains: int) -> int:
        """How many chains run at the same time."""
        return chains if self.vmapped else min(chains, os.cpu_count() or 1)

    def run(self, results: list[ChainResult]) -> None:
        if self.vmapped:
            self._run_vmapped(results)
            return
        # Chains take turns, a segment each, so that those beyond the number of cores are about as
        # far as the others when time is up.
        waiting: SimpleQueue[tuple[int, int]] = SimpleQueue()
        for chain, result in enumerate(results):
            waiting.put((chain, result.position))
        workers = self.at_once(len(results))
        with side_by_side(workers > 1), ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(self._work, results, waiting) for _ in range(workers)]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                self.stop.set()  # An interrupt or a full disk: the others stop at their segment.
                raise

    def _work(self, results: list[ChainResult], waiting: SimpleQueue[tuple[int, int]]) -> None:
        """One thread: the next segment of whichever chain has waited longest, until none waits."""
        with precision(self.dtype):
            while True:
                try:
                    chain, entered = waiting.get_nowait()
                except Empty:
                    return
                if self._advance(chain, results[chain], entered):
                    waiting.put((chain, entered))
                else:
                    self._save(chain, results[chain], force=True)

    def _advance(self, chain: int, result: ChainResult, entered: int) -> bool:
        """One segment of one chain; False where it has come to its end or must stop."""
        planned = self._plan(chain, result.position, entered)
        if planned is None:
            return False
        stages, count, sampling = planned
        begun = time.perf_counter()
        out = self._call_one(result.state, chain, result.position, stages, count)
        state, us, stats = jax.device_get(out)
        seconds = time.perf_counter() - begun
        self.paces[chain] = _Pace(count, seconds)
        return self._keep(chain, result, state, us, stats, count, sampling, seconds)

    def _run_vmapped(self, results: list[ChainResult]) -> None:
        try:
            self._go_on_vmapped(results)
        finally:  # An interrupt in the middle of a segment: what the ones before it gave is whole.
            for chain, result in enumerate(results):
                self._save(chain, result, force=True)

    def _go_on_vmapped(self, results: list[ChainResult]) -> None:
        entered = min(r.position for r in results)
        while going := [c for c, r in enumerate(results) if not r.has_nan]:
            # A kill between two chains' checkpoints leaves one behind: it catches up first, and
            # what the program gives for the others meanwhile is dropped.
            position = min(results[c].position for c in going)
            ahead = [r.position for r in results if r.position > position]
            planned = self._plan(0, position, entered)
            if planned is None:
                return
            stages, count, sampling = planned
            count = min([count, *(other - position for other in ahead)])
            begun = time.perf_counter()
            out = self._call_all([r.state for r in results], position, stages, count)
            out = jax.device_get(out)
            seconds = time.perf_counter() - begun
            self.paces[0] = _Pace(count, seconds)
            for chain in going:
                if results[chain].position == position:
                    state, us, stats = jax.tree.map(lambda leaf, c=chain: leaf[c], out)
                    self._keep(chain, results[chain], state, us, stats, count, sampling, seconds)

    def _plan(self, chain: int, position: int, entered: int) -> tuple[np.ndarray, int, bool] | None:
        """Padded stages and length of the next segment: all warm-up or all sampling.

        Time is up only after a first segment, so that every resumption gets somewhere. How steps
        are cut into segments changes no draw.
        """
        total = len(self.stages)
        left = self.deadline - time.perf_counter()
        if position >= total or self.stop.is_set():
            return None
        count = FIRST_STEPS
        if pace := self.paces.get(chain):
            fitting = min(SEGMENT_SECONDS, max(left, 0.0)) * pace.steps / max(pace.seconds, 1e-9)
            count = int(np.clip(fitting, 1, pace.steps * GROWTH))
        if position > entered and left <= 0:
            count = 0
        if self.devices is not None:
            count = processes.tell_number(count)  # clocks differ, and the program is one
        if count == 0:
            return None
        sampling = position >= self.warmup
        end = min(position + min(count, self.length), total if sampling else self.warmup)
        stages = np.zeros(self.length, np.int32)
        stages[: end - position] = self.stages[position:end]
        return stages, end - position, sampling

    def _keep(
        self,
        chain: int,
        result: ChainResult,
        state: Any,
        us: np.ndarray,
        stats: dict[str, np.ndarray],
        count: int,
        sampling: bool,
        seconds: float,
    ) -> bool:
        """Take in one segment; False where the chain has turned NaN and must stop."""
        us, stats = us[:count], {name: values[:count] for name, values in stats.items()}
        finite = np.isfinite(us).all(1)
        result.state = state
        if sampling:
            result.u.append(us)
            result.stats.append(stats)
            result.sampling_seconds += seconds
        else:
            result.warmup.append(stats)
            result.warmup_seconds += seconds
        if not finite.all():
            step = result.position + int(np.argmin(finite))
            result.flags.append(
                Flag("nan", f"the position is not finite from step {step} on; stopped there")
            )
        result.position += count
        if finite.all():
            self._save(chain, result)
        if self.monitor is not None:
            gradients = self.backend.gradients(stats)
            divergences = int(np.nansum(stats.get("diverging", 0)))
            self.monitor.advance(chain, count, sampling, gradients, divergences)
        return bool(finite.all())

    def _save(self, chain: int, result: ChainResult, force: bool = False) -> None:
        if self.checkpoint is not None and not result.has_nan:
            self.checkpoint.save(chain, result, every=0.0 if force else CHECKPOINT_SECONDS)

    def _call_one(self, state: Any, chain: int, first: int, stages: Any, count: int) -> Any:
        return _one_chain(
            self.backend,
            self.posterior,
            state,
            self.keys[chain],
            np.int32(first),
            stages,
            np.int32(count),
        )

    def _call_all(self, states: list[Any], first: int, stages: Any, count: int) -> Any:
        if self.devices is not None:
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
            keys = np.stack([np.asarray(jax.random.key_data(key)) for key in self.keys])
            rest = (np.int32(first), np.asarray(stages), np.int32(count))
            return self.devices.over_chains(_segment)(
                self.backend, self.posterior, stacked, keys, *rest
            )
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        return _all_chains(
            self.backend,
            self.posterior,
            stacked,
            jnp.stack(list(self.keys)),
            np.int32(first),
            stages,
            np.int32(count),
        )


def _starts(
    backend: Backend,
    posterior: Posterior,
    keys: Sequence[Array],
    checkpoint: Checkpoint | None,
    dtype: str,
    alone: bool,
) -> list[ChainResult]:
    """Every chain where its checkpoint left it, or at a start of its own.

    The first start is searched in this thread, which compiles; the others then on a thread each,
    unless devices share the programs, who must all call them in one order.
    """
    found = [_resumed(backend, posterior, chain, checkpoint) for chain in range(len(keys))]
    fresh = [chain for chain, result in enumerate(found) if result is None]

    def start(chain: int) -> ChainResult:
        with precision(dtype):
            u = find_start(posterior, keys[chain], f"chain {chain}")
            return ChainResult(jax.block_until_ready(_init(backend, posterior, u)))

    made = [start(chain) for chain in fresh[:1]]
    if alone and chains_on_threads() and len(fresh) > 2:
        with side_by_side(), ThreadPoolExecutor(os.cpu_count()) as pool:
            made += pool.map(start, fresh[1:])
    else:
        made += map(start, fresh[1:])
    begun = dict(zip(fresh, made, strict=True))
    return [begun[c] if result is None else result for c, result in enumerate(found)]


def _resumed(
    backend: Backend, posterior: Posterior, chain: int, checkpoint: Checkpoint | None
) -> ChainResult | None:
    if checkpoint is None:
        return None
    # Only its structure is needed of a state that is about to be replaced.
    here = jax.ShapeDtypeStruct((posterior.dimension,), posterior.x.dtype)
    result = ChainResult(jax.eval_shape(_init, backend, posterior, here))
    return result if checkpoint.load_into(chain, result) else None
