"""Many devices: chains side by side on some, each chain's training rows split over others.

The devices are a mesh of axes ``chain`` and ``data``. Along ``chain`` the program is cut by hand:
every row of the mesh runs its own chains, and their loops wait for nobody. Along ``data`` it is cut
by XLA's partitioner: the program is written for all rows and means the same however they lie, each
device computes the terms of its own rows, and one sum goes over a row of the mesh for every
gradient. Rows that do not divide are filled up by copies of the last one that count for nothing.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bnnzoo import registry
from bnnzoo.errors import InputError, OptionError
from bnnzoo.inference import processes
from bnnzoo.inference.backend import Backend
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import parse_options
from bnnzoo.specs import InferenceSpec

CHAIN, DATA = "chain", "data"
"""Axes of the mesh."""


def spell_out(inference: InferenceSpec) -> InferenceSpec:
    """The same with the devices it is to have spelled out; none where it has one.

    Args:
        inference: with its number of chains known.

    Raises:
        OptionError: more devices than there are, or a layout that is none.
    """
    shards = inference.data_shards or 1
    several = processes.several()
    if not several and inference.devices in (None, 1) and shards == 1:
        return inference.model_copy(update={"devices": None, "data_shards": None})
    have = jax.device_count()
    devices = inference.devices or (have if several else shards)
    if devices > have:
        raise OptionError(f"inference.devices = {devices}: {_there_are(have, devices)}")
    if several and devices != have:
        raise OptionError(
            f"inference.devices = {devices}: the {jax.process_count()} processes have {have} "
            f"together, and every one takes part; give {have}, or leave it out"
        )
    if several and have != jax.process_count() * jax.local_device_count():
        raise OptionError(
            f"this process has {jax.local_device_count()} of {have} devices: give each of the "
            f"{jax.process_count()} processes as many as the others"
        )
    if devices % shards:
        nearest = max(n for n in range(1, shards + 1) if devices % n == 0)
        raise OptionError(
            f"inference.data_shards = {shards}: {devices} devices cannot be dealt to rows of "
            f"{shards}; nearest: data_shards = {nearest}, or {-(-devices // shards) * shards} "
            "devices"
        )
    if inference.chains < devices // shards:
        raise OptionError(
            f"inference.chains = {inference.chains}: fewer than the {devices // shards} devices "
            f"they would be spread over; give {devices // shards} chains, or devices = "
            f"{inference.chains * shards}"
        )
    return inference.model_copy(update={"devices": devices, "data_shards": shards})


def lay_again(
    inference: InferenceSpec, devices: int | None, data_shards: int | None
) -> InferenceSpec:
    """The same on other devices, for a run that goes on.

    Args:
        inference: of the run.
        devices: how many; those of the run if not given.
        data_shards: of each chain; those of the run if not given.

    Raises:
        OptionError: as :func:`spell_out`.
    """
    given = {"devices": devices, "data_shards": data_shards}
    given = {name: number for name, number in given.items() if number is not None}
    parse_options(InferenceSpec, given, "inference")
    return spell_out(inference.model_copy(update=given))


def _there_are(have: int, wanted: int) -> str:
    first = jax.devices()[0]
    text = f"there {'is' if have == 1 else 'are'} {have} ({first.device_kind}); give {have}"
    if first.platform == "cpu":
        flag = f"XLA_FLAGS=--xla_force_host_platform_device_count={wanted}"
        text += f", or set {flag} in the environment for a CPU to count as {wanted}"
    return text


def spread(inference: InferenceSpec) -> Devices | None:
    """The devices of a run, as :func:`spell_out` has left them; None where it has the one.

    Args:
        inference: of the run.
    """
    if inference.devices is None:
        return None
    return Devices(inference.devices, inference.data_shards or 1)


def building(devices: Devices | None) -> contextlib.AbstractContextManager[Any]:
    """Context in which a posterior is built: one whose rows will be split, in the host's memory.

    Args:
        devices: of the run, or None.
    """
    if devices is not None and devices.splits_rows:
        with contextlib.suppress(RuntimeError):  # a JAX that was told to have no CPU
            return jax.default_device(jax.local_devices(backend="cpu")[0])
    return contextlib.nullcontext()


class Devices:
    """A mesh of devices, and how a run lies on it.

    Args:
        devices: how many; a multiple of ``data_shards``.
        data_shards: parts that the training rows are split into.

    Attributes:
        mesh: axes ``chain`` and ``data``; the shards of one chain are neighbours, so that where a
            host has as many devices their sums stay within it.
    """

    def __init__(self, devices: int, data_shards: int = 1) -> None:
        self.data_shards = data_shards
        laid = np.asarray(jax.devices()[:devices]).reshape(-1, data_shards)
        self.mesh = Mesh(laid, (CHAIN, DATA))

    @property
    def splits_rows(self) -> bool:
        """Whether no device has all training rows."""
        return self.data_shards > 1

    @property
    def across_processes(self) -> bool:
        """Whether some devices are another process's."""
        return len({device.process_index for device in self.mesh.devices.flat}) > 1

    def check(self, posterior: Posterior, name: str, backend: Backend) -> None:
        """Raise where a run cannot lie on these devices.

        Args:
            posterior: the target, not yet placed.
            name: of the backend.
            backend: itself.

        Raises:
            InputError: the backend or the model cannot have its rows split.
        """
        if not self.splits_rows:
            return
        if not backend.splits_rows:
            raise InputError(
                f"backend {name!r} works on single training rows, which inference.data_shards = "
                f"{self.data_shards} would tear apart (nearest that can: {_who_can(name)})"
            )
        if self.data_shards > posterior.rows:
            raise InputError(
                f"inference.data_shards = {self.data_shards}: there are {posterior.rows} training "
                f"rows; give {posterior.rows} or fewer"
            )
        if self._padding(posterior):
            self._check_repeats(posterior)

    def place(self, posterior: Posterior) -> Posterior:
        """The posterior with its training rows on these devices, each shard where it belongs.

        Args:
            posterior: the target.
        """
        made, padding = copy.copy(posterior), self._padding(posterior)
        rows = np.minimum(np.arange(posterior.rows + padding), posterior.rows - 1)
        by_row = NamedSharding(self.mesh, PartitionSpec(DATA))

        def put(array: np.ndarray) -> jax.Array:
            shape = (len(rows), *array.shape[1:])
            return jax.make_array_from_callback(shape, by_row, lambda at: array[rows[_first(at)]])

        made.x, made.y = put(np.asarray(posterior.x)), put(np.asarray(posterior.y))
        made.padding = padding
        # A block would be rows of every device.
        made.in_blocks = posterior.in_blocks and not self.splits_rows
        return made

    def over_chains(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A program ``(backend, posterior, state, key data, *rest)`` for the chains of all devices.

        Args:
            function: the same of one chain, with a typed key; always the same object, for its
                program to be compiled once.

        Returns:
            Takes states and key data with first axis ``chain``, and gives outputs that have it,
            on the host.
        """

        def call(backend: Backend, posterior: Posterior, state: Any, key: Any, *rest: Any) -> Any:
            chains = key.shape[0]
            rows = self.mesh.shape[CHAIN]
            # A chain that fills up a device's share is computed twice and looked at once.
            dealt = np.minimum(np.arange(-(-chains // rows) * rows), chains - 1)
            by_chain = NamedSharding(self.mesh, PartitionSpec(CHAIN))

            def put(leaf: Any) -> jax.Array:
                leaf = np.asarray(leaf)
                shape = (len(dealt), *leaf.shape[1:])
                return jax.make_array_from_callback(
                    shape, by_chain, lambda at: leaf[dealt[_first(at)]]
                )

            program = _program(function, self.mesh, len(dealt) == rows)
            out = program(backend, posterior, jax.tree.map(put, state), put(key), *rest)
            return jax.tree.map(lambda leaf: leaf[:chains], processes.on_host(out))

        return call

    def record(self, posterior: Posterior) -> dict[str, Any]:
        """What a run's manifest says of its devices.

        Args:
            posterior: the target, not placed.
        """
        flat = list(self.mesh.devices.flat)
        return {
            "devices": len(flat),
            CHAIN: self.mesh.shape[CHAIN],
            DATA: self.data_shards,
            "processes": len({device.process_index for device in flat}),
            "kind": flat[0].device_kind,
            "rows_a_device": (posterior.rows + self._padding(posterior)) // self.data_shards,
            "padding": self._padding(posterior),
        }

    def _padding(self, posterior: Posterior) -> int:
        return -posterior.rows % self.data_shards

    def _check_repeats(self, posterior: Posterior) -> None:
        """Padding leaves the terms of the real rows as they were; a user's model may see it."""
        if not posterior.model.handwritten:
            return
        few = min(3, posterior.rows)
        divisors = [n for n in range(1, self.data_shards) if posterior.rows % n == 0]
        cure = (
            f"{posterior.rows} rows do not divide by inference.data_shards = {self.data_shards}, "
            f"and the model cannot be given a copy of one to fill up; give data_shards = "
            f"{max(divisors)}, or leave out {posterior.rows % self.data_shards} rows"
        )
        found = []
        for rows in (np.arange(few), np.minimum(np.arange(few + 1), few - 1)):
            some = copy.copy(posterior)
            some.x, some.y = posterior.x[rows], posterior.y[rows]
            u = jax.random.normal(jax.random.key(0), (4, posterior.dimension), posterior.x.dtype)
            try:
                terms = jax.vmap(some.pointwise_log_likelihood)(u)
            except Exception as error:
                # The model fixes its number of rows, or samples one site a row: whatever it
                # raises, others do not run.
                raise InputError(cure) from error
            found.append(np.asarray(terms)[:, :few])
        if not np.allclose(found[0], found[1], rtol=1e-4, atol=1e-4, equal_nan=True):
            raise InputError(cure)


def _first(index: Any) -> slice:
    """The rows, or chains, of a shard."""
    part: slice = index[0]
    return part


def _who_can(name: str) -> str:
    """Backends that can have their rows split: those of the family, or else the usual one."""
    family = registry.describe("backends", name).tags["family"]
    found = [
        other
        for other in registry.list_names("backends", family=family)
        if registry.get("backends", other).build({}, "inference").splits_rows
    ]
    return ", ".join(found or ["hmc"])


@functools.lru_cache
def _program(function: Callable[..., Any], mesh: Mesh, alone: bool) -> Callable[..., Any]:
    """The compiled program of all chains; ``alone``: every device has one and needs no vmap."""

    def here(backend: Any, posterior: Any, state: Any, key: Any, *rest: Any) -> Any:
        def one(state: Any, key: Any) -> Any:
            return function(backend, posterior, state, jax.random.wrap_key_data(key), *rest)

        if not alone:
            return jax.vmap(one)(state, key)
        out = one(jax.tree.map(lambda leaf: leaf[0], state), key[0])
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], out)

    def call(backend: Any, posterior: Any, state: Any, key: Any, *rest: Any) -> Any:
        whole, by_chain = PartitionSpec(), PartitionSpec(CHAIN)
        cut = jax.shard_map(
            here,
            mesh=mesh,
            in_specs=(whole, whole, by_chain, by_chain, *(whole for _ in rest)),
            out_specs=by_chain,
            axis_names={CHAIN},
            check_vma=False,
        )
        return cut(backend, posterior, state, key, *rest)

    return jax.jit(call)
