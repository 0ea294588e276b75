"""Fitting: from a model and data to a run folder, resumable at any moment."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import warnings
from pathlib import Path
from typing import Any

import xarray as xr

from bnnzoo import registry, store
from bnnzoo.datasets import Dataset
from bnnzoo.errors import DataWarning, InputError, OptionError, RunError, hint
from bnnzoo.inference import processes
from bnnzoo.inference.backend import Backend
from bnnzoo.inference.chains import Chains
from bnnzoo.inference.checkpoint import Checkpoint, keep_data
from bnnzoo.inference.devices import Devices, building, lay_again, spell_out, spread
from bnnzoo.inference.environment import describe_data, device, now, versions
from bnnzoo.inference.extending import check_draws, keep_ends, lengthen, reopen
from bnnzoo.inference.following import SharedCheckpoint, SharedDraws
from bnnzoo.inference.linearised import linearisation_points
from bnnzoo.inference.loop import run_chains
from bnnzoo.inference.precision import begin, precision
from bnnzoo.inference.programs import make_room
from bnnzoo.inference.progress import ProgressBar
from bnnzoo.inference.run import (
    Run,
    external_hash,
    fingerprint,
    load_run,
    read_spec,
    rebuild_model,
    test_metrics,
)
from bnnzoo.inference.tree import build_tree, site_draws
from bnnzoo.inference.virial import virial_flags
from bnnzoo.models.arguments import check_data
from bnnzoo.models.handwritten import as_model
from bnnzoo.models.posterior import Posterior
from bnnzoo.options import parse_options
from bnnzoo.specs import Component, InferenceSpec, RunSpec, spec_from_toml


def fit(
    model: Any,
    data: Dataset,
    backend: str = "nuts",
    *,
    chains: int | None = None,
    draws: int | None = None,
    warmup: int | None = None,
    seed: int = 0,
    posterior_temperature: float = 1.0,
    likelihood_temperature: float = 1.0,
    dtype: str = "float32",
    devices: int | None = None,
    data_shards: int | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    max_time: float | None = None,
    **backend_options: Any,
) -> Run:
    """Draw from the posterior of a model given data.

    Args:
        model: from ``make_model`` or ``load_model``, or a NumPyro model ``(x, y=None)``.
        data: from ``load_dataset`` or ``make_dataset``.
        backend: a registered backend.
        chains: independent chains; the backend's own number if not given, 4 for most.
        draws: kept draws of each; the backend's own number if not given, 1000 for most.
        warmup: steps of adaptation (of optimisation, for a variational backend) before them; the
            backend's own number if not given, 1000 for samplers.
        seed: of every random number.
        posterior_temperature: T, divides the whole log posterior.
        likelihood_temperature: L, divides the log-likelihood alone.
        dtype: ``float32`` or ``float64``.
        devices: how many to spread the chains over; one if not given, and all of them where
            several processes make the run (:func:`bnnzoo.start_distributed`).
        data_shards: how many of each chain's devices share its training rows: for a posterior too
            big for one. It divides ``devices``.
        out: run folder; a temporary one, gone with the run, if not given. A folder that holds
            this very run is finished or given back, one that holds another is refused.
        progress: draw a progress bar on a terminal.
        max_time: seconds after which to stop; what is there by then is the run, and ``resume``
            goes on.
        **backend_options: options of the backend.

    Returns:
        The run.

    Raises:
        InputError: something given cannot be used; nothing was written.
        RunExistsError: ``out`` holds something else.
        StorageError: ``out`` cannot be written.
        RunError: no draw could be made.
    """
    check_data(data, model)
    make_room()
    settings = {
        "backend": backend,
        "seed": seed,
        "posterior_temperature": posterior_temperature,
        "likelihood_temperature": likelihood_temperature,
        "dtype": dtype,
        "options": backend_options,
    }
    sizes = {"chains": chains, "draws": draws, "warmup": warmup}
    sizes |= {"devices": devices, "data_shards": data_shards}
    settings |= {name: size for name, size in sizes.items() if size is not None}
    inference = complete(parse_options(InferenceSpec, settings, "inference"))
    model = as_model(model)
    source = Component(name=data.name, options=dict(data.source or {}))
    spec = model.spec.model_copy(update={"data": source, "inference": inference})
    for line in data.warnings:
        warnings.warn(line, DataWarning, stacklevel=2)
    external = external_hash(model)
    if external:
        begin(dtype)
    laid = spread(inference)
    with precision(dtype), building(laid):
        posterior = Posterior(model, data, posterior_temperature, likelihood_temperature)
        _backend(inference).check(posterior)
        if laid is not None:
            laid.check(posterior, inference.backend, _backend(inference))
    if out is None and processes.several():
        raise InputError("several processes make one run: give it a folder (out) that all see")
    folder, handle = store.temporary_folder() if out is None else (Path(out), None)
    marks = fingerprint(data, external)

    def prepare(held: contextlib.ExitStack) -> str:
        # Who finds a finished run only reads it.
        if store.look(folder, spec.to_toml(), marks) == "complete":
            return "complete"
        held.enter_context(store.alone(folder))
        return store.prepare(folder, spec.to_toml(), marks)

    with contextlib.ExitStack() as held:
        found = processes.led(lambda: prepare(held))
        processes.check_seen(folder)
        if found == "complete":
            run = load_run(folder, model if external else None)
            run.origin = "reused"
            return run
        try:
            if found == "new":
                processes.led(lambda: keep_data(folder, posterior, external))
            with processes.together(folder):
                run = _sample(folder, spec, posterior, external, laid, progress, max_time, handle)
        except Exception:
            if found == "new" and processes.leads():
                store.discard_unstarted(folder)
            raise
        run.origin = "new" if found == "new" else "resumed"
        return run


def complete(inference: InferenceSpec) -> InferenceSpec:
    """The same with the backend's own defaults spelled out: its options and its sizes.

    Raises:
        UnknownNameError: no such backend.
        OptionError: an option that neither the backend nor every run has, or warm-up for a backend
            that has none.
    """
    entry = registry.get("backends", inference.backend)
    known = {*InferenceSpec.model_fields, *entry.options.model_fields} - {"options"}
    for name in inference.options:
        if name not in entry.options.model_fields:
            takers = _takers(name)
            raise OptionError(
                f"unknown option inference.{name} with backend {inference.backend!r}"
                + (f"; it is one of {takers}" if takers else hint(name, known, limit=20))
            )
    backend = _backend(inference)
    changes: dict[str, Any] = {
        size: getattr(backend, f"default_{size}")
        for size in ("chains", "draws", "warmup")
        if size not in inference.model_fields_set
    }
    backend.planned(changes.get("warmup", inference.warmup))
    options = entry.parse(inference.options, "inference")
    changes["options"] = options.model_dump(mode="json", exclude_none=True)
    return spell_out(inference.model_copy(update=changes))


def _takers(option: str) -> str:
    """The backends that have an option, by name."""
    names = registry.list_names("backends")
    return ", ".join(n for n in names if option in registry.get("backends", n).options.model_fields)


def _backend(inference: InferenceSpec) -> Backend:
    return registry.get("backends", inference.backend).build(inference.options, "inference")


def resume(
    path: str | os.PathLike[str],
    model: Any = None,
    *,
    draws: int | None = None,
    devices: int | None = None,
    data_shards: int | None = None,
    progress: bool = True,
    max_time: float | None = None,
) -> Run:
    """Go on with an unfinished run, to the draws it would have had; a finished one is given back.

    With ``draws`` a run goes on to so many, a finished one as well: the same draws, bit for bit on
    one machine, as a run of that length.

    Args:
        path: the run folder.
        model: the model itself where it is not from the registry.
        draws: of each chain, in all; as many as the run was to have if not given.
        devices: how many to go on with; as many as the run was begun with if not given. The draws
            are the same to rounding, which a chain amplifies.
        data_shards: as for ``fit``; those it was begun with if not given.
        progress: draw a progress bar on a terminal.
        max_time: seconds after which to stop again.

    Raises:
        RunError: no such run, or its model has to be given.
        InputError: fewer ``draws`` than the run has, or is to have.
        CorruptRunError: what the folder holds cannot be read.
    """
    folder = Path(path)
    manifest = store.read_manifest(folder)
    spec = read_spec(folder)
    draws = check_draws(folder, draws, spec.inference.draws)
    longer = draws > spec.inference.draws
    if manifest.get("state") == "complete":
        run = load_run(folder, model)
        if not longer:
            run.origin = "reused"
            return run
    layout = lay_again(spec.inference, devices, data_shards)

    def prepare(held: contextlib.ExitStack) -> str:
        held.enter_context(store.alone(folder))
        if store.read_manifest(folder) != manifest:
            raise RunError(f"{folder}: another process wrote to it just now; try again")
        if manifest.get("state") == "complete":
            reopen(run, draws)
        elif longer:
            lengthen(folder, spec, draws)
        store.sweep(folder)
        return read_spec(folder).to_toml()

    with contextlib.ExitStack() as held:
        spec = spec_from_toml(processes.led(lambda: prepare(held)))
        return _go_on(folder, spec, layout, model, progress, max_time)


def _go_on(
    folder: Path,
    spec: RunSpec,
    layout: InferenceSpec,
    model: Any,
    progress: bool,
    max_time: float | None,
) -> Run:
    """What is left of the run in a folder that is held."""
    kept = store.load_checkpoint(folder, "data")
    if kept is None:
        raise RunError(f"{folder} was stopped before it kept anything: start it again with fit")
    arrays, meta = kept
    data = Dataset.rebuild(meta["data"], *(arrays.get(n) for n in ("x", "y", "x_test", "y_test")))
    built = rebuild_model(spec, {"model": meta["model"]}, model)
    if built is None:
        raise RunError(
            f"{folder}: its model {meta['model']['description']!r} is not in the registry; give it "
            "again: resume(path, model=...)"
        )
    inference = spec.inference
    if meta["model"]["external"]:
        begin(inference.dtype)
    laid = spread(layout)
    with precision(inference.dtype), building(laid):
        posterior = Posterior(
            built, data, inference.posterior_temperature, inference.likelihood_temperature
        )
        if laid is not None:
            laid.check(posterior, inference.backend, _backend(inference))
    external = meta["model"]["external"]
    with processes.together(folder):
        run = _sample(folder, spec, posterior, external, laid, progress, max_time)
    run.origin = "resumed"
    return run


def _sample(
    folder: Path,
    spec: RunSpec,
    posterior: Posterior,
    external: str,
    laid: Devices | None,
    progress: bool,
    max_time: float | None,
    temporary: Any = None,
) -> Run:
    """Run the loop, build the tree, write the run.

    ``temporary`` is the handle of a temporary folder, which what is read of it keeps. Of several
    processes the first writes; the others help to sum over rows they hold, and wait.
    """
    begun = time.perf_counter()
    inference = spec.inference
    backend = _backend(inference).planned(inference.warmup)
    label = _label(posterior, spec)
    total = inference.chains * (inference.warmup + inference.draws)
    leads = processes.leads()
    checkpoint = SharedCheckpoint(folder) if processes.several() else Checkpoint(folder)
    bar_shown = progress and leads
    with precision(inference.dtype), ProgressBar(inference.backend, total, bar_shown) as bar:
        target = posterior if laid is None else laid.place(posterior)
        chains = run_chains(
            backend,
            target,
            chains=inference.chains,
            draws=inference.draws,
            warmup=inference.warmup,
            seed=inference.seed,
            dtype=inference.dtype,
            monitor=bar,
            checkpoint=checkpoint,
            max_time=max_time,
            devices=laid,
        )
        if chains.u.shape[1] == 0:
            remedy = "give it more time, or a folder (out) to go on in later"
            if temporary is None:
                remedy = f"go on with bnnzoo resume {folder}"
            raise RunError(
                f"{label}: stopped in warm-up after {max_time:g} s, before the first draw; {remedy}"
            )
        points = linearisation_points(backend, chains.states)
        summing = target if laid is not None and laid.splits_rows else None
        shared = chains
        if summing is not None and processes.several():
            shared = dataclasses.replace(chains, u=SharedDraws(chains.u))
        tree = xr.DataTree()
        if leads or summing is not None:
            tree = build_tree(posterior, shared, inference.seed, inference.dtype, points, summing)

        def write() -> str:
            tree.attrs["label"] = label
            store.write_tree(folder, tree, site_draws(posterior, chains.u))
            for flag in backend.remarks(posterior):
                chains.flags += [(chain, flag) for chain in range(inference.chains)]
            if backend.follows_target:
                chains.flags += virial_flags(tree["sample_stats"]["virial"].to_numpy())
            manifest = _manifest(folder, spec, posterior, backend, chains, external, label)
            if laid is not None:
                manifest["layout"] = laid.record(posterior)
            if "test_scores" in tree.children:
                manifest["metrics"] = test_metrics(tree)
            if chains.complete:
                keep_ends(folder, chains)
            manifest["wall_seconds"] = checkpoint.seconds_before + time.perf_counter() - begun
            manifest["files"] = store.file_hashes(folder)
            store.write_manifest(folder, manifest)
            if chains.complete:
                store.remove_checkpoints(folder)
            return processes.digest(folder / "manifest.json")

        processes.await_file(folder / "manifest.json", processes.led(write))
    tree = store.open_tree(folder, temporary)
    run = Run(folder, spec, store.read_manifest(folder), tree, posterior)
    run._temporary = temporary
    return run


def _manifest(
    folder: Path,
    spec: RunSpec,
    posterior: Posterior,
    backend: Backend,
    chains: Chains,
    external: str,
    label: str,
) -> dict[str, Any]:
    data = posterior.data
    assert data is not None
    flags = [{"chain": c, "kind": f.kind, "message": f.message} for c, f in chains.flags]
    return {
        "state": "complete" if chains.complete else "stopped",
        "label": label,
        "created": now(),
        "versions": versions(),
        "device": device(),
        "data": {**describe_data(data), "metadata": data.metadata()},
        "model": {
            "description": posterior.model.label,
            "dimension": posterior.dimension,
            "handwritten": posterior.model.handwritten,
            "external": external,
        },
        "gradients": backend.gradients(chains.stats) + backend.gradients(chains.warmup_stats),
        "compile_seconds": chains.compile_seconds,
        "warmup_seconds": chains.warmup_seconds,
        "sampling_seconds": chains.sampling_seconds,
        "metrics": {},
        "flags": flags,
    }


def _label(posterior: Posterior, spec: RunSpec) -> str:
    inference = spec.inference
    text = f"{posterior.model.label}, {inference.backend}, T={inference.posterior_temperature:g}"
    L = inference.likelihood_temperature
    return text if L == 1 else f"{text}, L={L:g}"
