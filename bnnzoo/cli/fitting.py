"""``bnnzoo fit`` and ``bnnzoo resume``: making runs."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnnzoo import registry
from bnnzoo.cli import options as o
from bnnzoo.cli.console import Json, console, counted, facts, print_json
from bnnzoo.cli.summary import describe_run, show_run
from bnnzoo.cli.userfile import load_function, require_model
from bnnzoo.errors import ProcessLostError

if TYPE_CHECKING:
    from bnnzoo.api import Plan
    from bnnzoo.specs import InferenceSpec, RunSpec


def fit(
    dataset: o.DatasetFlag = None,
    target: o.TargetFlag = None,
    task: o.TaskFlag = None,
    model: o.ModelFlag = None,
    network: o.NetworkFlag = None,
    prior: o.PriorFlag = None,
    likelihood: o.LikelihoodFlag = None,
    augmentation: o.AugmentationFlag = None,
    backend: o.BackendFlag = None,
    chains: o.ChainsFlag = None,
    draws: o.DrawsFlag = None,
    warmup: o.WarmupFlag = None,
    seed: o.SeedFlag = None,
    posterior_temperature: o.PosteriorTemperatureFlag = None,
    likelihood_temperature: o.LikelihoodTemperatureFlag = None,
    dtype: o.DtypeFlag = None,
    devices: o.DevicesFlag = None,
    data_shards: o.DataShardsFlag = None,
    coordinator: o.CoordinatorFlag = None,
    processes: o.ProcessesFlag = None,
    process_id: o.ProcessIdFlag = None,
    out: o.OutFlag = None,
    config: o.ConfigFlag = None,
    assignments: o.SetFlag = None,
    max_time: o.MaxTimeFlag = None,
    no_progress: o.ProgressFlag = False,
    as_json: o.JsonFlag = False,
) -> None:
    """Fit a model to data and keep the run in a folder.

    The same command again gives the finished run back, or goes on with an unfinished one.
    """
    given = locals()
    tree = o.make_tree(config, {name: given[name] for name in o.PLACES}, assignments or [])
    limit = o.read_seconds(max_time)
    speaks = o.join(coordinator, processes, process_id)
    from bnnzoo.api import plan

    reference = o.file_model(tree)
    planned = plan(tree, load_function(reference) if reference else None)
    folder = out or planned.folder()
    planned.check(folder)  # before anything is said of what will be done
    before = planned.state(folder)
    if speaks and not as_json:
        _announce(planned, folder, before)
    with _resumable(folder):
        run = planned.fit(folder, progress=not (no_progress or as_json), max_time=limit)
    if not speaks:
        return
    if as_json:
        notes = list(planned.data.warnings)
        print_json({**describe_run(run), "reused": before == "complete", "notes": notes})
    else:
        show_run(console(), run, reused=before == "complete")


def resume(
    run: Annotated[Path, typer.Argument(help="Folder of the run.")],
    model: o.AgainFlag = None,
    draws: Annotated[
        int | None,
        typer.Option(help="Draws of each chain in all: more than a finished run has.", metavar="N"),
    ] = None,
    max_time: Annotated[
        str | None, typer.Option(help="Stop again after so many seconds.", metavar="SECONDS")
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(help="Go on with so many; default those it was begun with.", metavar="N"),
    ] = None,
    data_shards: Annotated[
        int | None, typer.Option(help="Likewise of each chain, for its rows.", metavar="N")
    ] = None,
    coordinator: o.CoordinatorFlag = None,
    processes: o.ProcessesFlag = None,
    process_id: o.ProcessIdFlag = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
    as_json: Json = False,
) -> None:
    """Go on with an unfinished run, or add draws to a finished one.

    The draws are those the run would have had, had nobody stopped it.
    """
    from bnnzoo.store import read_manifest

    limit = o.read_seconds(max_time)
    speaks = o.join(coordinator, processes, process_id)
    complete = read_manifest(run).get("state") == "complete"
    if not (complete and draws is None):
        require_model(run, model)
    function = load_function(model) if model is not None else None
    from bnnzoo.inference import resume as go_on
    from bnnzoo.inference.extending import check_draws
    from bnnzoo.inference.run import read_spec

    planned = read_spec(run).inference.draws
    finished = check_draws(run, draws, planned) == planned and complete

    if speaks and not as_json:
        console().print(f"{run}: already finished" if finished else f"Going on with {run}")
    with _resumable(run):
        done = go_on(
            run,
            function,
            draws=draws,
            devices=devices,
            data_shards=data_shards,
            progress=not (no_progress or as_json),
            max_time=limit,
        )
    if not speaks:
        return
    if as_json:
        print_json({**describe_run(done), "reused": finished})
    else:
        show_run(console(), done, reused=finished)


def drop_chains(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    chains: Annotated[
        list[int], typer.Argument(help="Chains to leave out, from 0.", metavar="CHAIN...")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for what is left.", metavar="FOLDER")
    ],
    model: o.AgainFlag = None,
    as_json: Json = False,
) -> None:
    """Copy a run without some of its chains.

    A chain that is flagged stays in every average until it is left out here.
    """
    require_model(run, model)
    function = load_function(model) if model is not None else None
    from bnnzoo.inference import drop_chains as drop
    from bnnzoo.inference import load_run

    left = drop(load_run(run, function), chains, out)
    if as_json:
        print_json(describe_run(left))
    else:
        show_run(console(), left, reused=True)
        console().print(f"Wrote {left.path}")


def _sizes(inference: InferenceSpec) -> str:
    """How much will be done, in the words of samplers or of optimisers."""
    family = registry.get("backends", inference.backend).card.tags["family"]
    draws = counted(inference.draws, "draw")
    if family in ("mcmc", "sgmcmc", "smc"):
        chains = counted(inference.chains, "chain")
        return f"{chains} of {draws} after {inference.warmup:,} warm-up steps"
    steps = f" of {inference.warmup:,} optimisation steps" if inference.warmup else ""
    return f"{counted(inference.chains, 'restart')}{steps}, {draws} of each"


def _announce(planned: Plan, folder: Path, before: str) -> None:
    """What will be done, and what was noticed of the data, before it starts."""
    data, inference = planned.data, planned.spec.inference
    rows = counted(data.rows, "training row")
    test = counted(data.test_rows, "test row") if data.test_rows else "no test rows"
    features = counted(data.x[0].size, "feature")
    temperature = f"T = {inference.posterior_temperature:g}"
    if inference.likelihood_temperature != 1:
        temperature += f", L = {inference.likelihood_temperature:g}"
    lines = [
        ("data", f"{data.name}: {rows}, {test}, {features}, {data.task}"),
        ("model", _label(planned.model)),
        ("run", f"{inference.backend}: {_sizes(inference)}, {temperature}"),
        *_layout(inference),
        ("folder", str(folder)),
    ]
    notes = [*data.warnings, *_fitted(planned.spec)]
    console().print(facts([*lines, *(("note", line) for line in notes)]))
    if before == "complete":
        console().print("already finished: reusing it")
    elif before:
        console().print("unfinished: going on with it")


def _fitted(spec: RunSpec) -> list[str]:
    from bnnzoo.specs import fitted_before

    words = fitted_before(spec.prior)
    if not words:
        return []
    return [f"the prior was fitted beforehand ({words}): rows it has seen are no test of it"]


def _layout(inference: InferenceSpec) -> list[tuple[str, str]]:
    """How many devices, where it is not the one."""
    if inference.devices is None:
        return []
    shards = inference.data_shards or 1
    split = f", the rows of each chain over {shards}" if shards > 1 else ""
    return [("devices", f"{inference.devices}{split}")]


def _label(model: Any) -> str:
    return f"{model.label} (hand-written)" if model.handwritten else model.label


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """An interrupt ends with the command that goes on.

    Of several processes the one that stops leaves at once, and so does one that has lost another:
    JAX would first wait for the others, and they for it.
    """
    from bnnzoo.inference.processes import several

    try:
        yield
    except KeyboardInterrupt:
        begun = (folder / "manifest.json").is_file()
        again = f"; go on with: bnnzoo resume {shlex.quote(str(folder))}" if begun else ""
        print(f"bnnzoo: interrupted{again}", file=sys.stderr, flush=True)
        if several():
            os._exit(130)
        raise typer.Exit(130) from None
    except ProcessLostError as error:
        print(f"bnnzoo: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
