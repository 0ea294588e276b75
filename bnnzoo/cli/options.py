"""The flags of ``bnnzoo fit``, and the tree of a run they make together with a TOML file."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bnnzoo.errors import OptionError, written_as


def _flag(panel: str, help_text: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel, metavar=metavar)


DATA, MODEL, RUN, OUTPUT = "What to model", "Model", "Inference", "Run and output"
DEVICES = "Devices and processes"

DatasetFlag = Annotated[
    str | None,
    _flag(DATA, "A name of `bnnzoo list datasets`, or a CSV or Parquet file.", metavar="NAME|FILE"),
]
TargetFlag = Annotated[
    list[str] | None,
    _flag(
        DATA, "Column of a file to predict; default the last. Repeatable, or a,b.", metavar="COLUMN"
    ),
]
TaskFlag = Annotated[
    str | None,
    _flag(
        DATA,
        "regression or classification; default by the likelihood that is named, or the target.",
        metavar="TASK",
    ),
]
ModelFlag = Annotated[
    str | None,
    _flag(
        MODEL,
        "A name of `bnnzoo list models`, or a NumPyro model of your own: my.py:model.",
        metavar="NAME|FILE:FUNCTION",
    ),
]
NetworkFlag = Annotated[str | None, _flag(MODEL, "Default mlp.", metavar="NAME")]
PriorFlag = Annotated[str | None, _flag(MODEL, "Default gaussian.", metavar="NAME")]
LikelihoodFlag = Annotated[
    str | None, _flag(MODEL, "Default gaussian, or categorical for classes.", metavar="NAME")
]
AugmentationFlag = Annotated[
    str | None, _flag(MODEL, "Default none; --set augmentation.OPTION=VALUE.", metavar="NAME")
]
BackendFlag = Annotated[str | None, _flag(RUN, "Default nuts.", metavar="NAME")]
ChainsFlag = Annotated[
    str | None, _flag(RUN, "Independent chains; default the backend's own.", metavar="N")
]
DrawsFlag = Annotated[
    str | None, _flag(RUN, "Kept draws a chain; default the backend's own.", metavar="N")
]
WarmupFlag = Annotated[
    str | None,
    _flag(RUN, "Steps before the first draw; default the backend's own.", metavar="N"),
]
SeedFlag = Annotated[str | None, _flag(RUN, "Default 0.", metavar="N")]
PosteriorTemperatureFlag = Annotated[
    str | None,
    _flag(RUN, "T: divides the whole log posterior; default 1.", metavar="T"),
]
LikelihoodTemperatureFlag = Annotated[
    str | None,
    _flag(RUN, "L: divides the log-likelihood alone; default 1.", metavar="L"),
]
DtypeFlag = Annotated[str | None, _flag(RUN, "float32 (default) or float64.", metavar="TYPE")]
DevicesFlag = Annotated[
    str | None,
    _flag(DEVICES, "Spread the chains over so many; default one, or all processes'.", metavar="N"),
]
DataShardsFlag = Annotated[
    str | None,
    _flag(DEVICES, "Split the training rows over so many devices of each chain.", metavar="N"),
]
CoordinatorFlag = Annotated[
    str | None,
    _flag(
        DEVICES,
        "Make this process one of several: where the first listens, or auto under SLURM or Open "
        "MPI.",
        metavar="HOST:PORT|auto",
    ),
]
ProcessesFlag = Annotated[int | None, _flag(DEVICES, "How many processes.", metavar="N")]
ProcessIdFlag = Annotated[int | None, _flag(DEVICES, "Which this is, from 0.", metavar="I")]
OutFlag = Annotated[
    Path | None,
    _flag(OUTPUT, "Run folder; default runs/, named by what is run.", metavar="FOLDER"),
]
ConfigFlag = Annotated[
    Path | None, _flag(OUTPUT, "TOML file with the same settings; flags win.", metavar="FILE")
]
SetFlag = Annotated[
    list[str] | None,
    _flag(
        OUTPUT,
        "Any option, as prior.df=5 or network.widths=[50]; wins over all. Repeatable.",
        "--set",
        metavar="SECTION.OPTION=VALUE",
    ),
]
MaxTimeFlag = Annotated[
    str | None,
    _flag(OUTPUT, "Stop after so many seconds; resume goes on.", metavar="SECONDS"),
]
ProgressFlag = Annotated[
    bool, typer.Option("--no-progress", help="No progress bar.", rich_help_panel=OUTPUT)
]
JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print JSON, for scripts.", rich_help_panel=OUTPUT)
]

# Of commands that fit nothing, and so have no section [inference] to keep them in.
EstimateFlag = Annotated[
    str, typer.Option("--method", help="A name of `bnnzoo list estimators`.", metavar="NAME")
]
PlainSeedFlag = Annotated[int, typer.Option("--seed", help="Default 0.", metavar="N")]
PlainDtypeFlag = Annotated[
    str, typer.Option("--dtype", help="float32 (default) or float64.", metavar="TYPE")
]
KeepFlag = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="JSON file to keep it in, with all that repeats it; bnnzoo report takes it.",
        rich_help_panel=OUTPUT,
        metavar="FILE",
    ),
]

AgainFlag = Annotated[
    str | None,
    typer.Option(help="The run's own hand-written model: my.py:model.", metavar="FILE:FUNCTION"),
]

PLACES: dict[str, tuple[str, str]] = {
    "dataset": ("data", "name"),
    "target": ("data", "target"),
    "task": ("data", "task"),
    "model": ("model", "name"),
    "network": ("network", "name"),
    "prior": ("prior", "name"),
    "likelihood": ("likelihood", "name"),
    "augmentation": ("augmentation", "name"),
    "backend": ("inference", "backend"),
    "chains": ("inference", "chains"),
    "draws": ("inference", "draws"),
    "warmup": ("inference", "warmup"),
    "seed": ("inference", "seed"),
    "posterior_temperature": ("inference", "posterior_temperature"),
    "likelihood_temperature": ("inference", "likelihood_temperature"),
    "dtype": ("inference", "dtype"),
    "devices": ("inference", "devices"),
    "data_shards": ("inference", "data_shards"),
}
"""Where each flag stands in the tree."""

NUMBERS = {
    *("chains", "draws", "warmup", "seed", "posterior_temperature", "likelihood_temperature"),
    *("devices", "data_shards"),
}
"""Flags that are read as ``--set`` reads values: the spec says what is wrong with them."""


def make_tree(
    config: Path | None, flags: Mapping[str, Any], assignments: Sequence[str]
) -> dict[str, Any]:
    """The tree of a run: the file, then the flags over it, then ``--set`` over both.

    Args:
        config: a TOML file, or None.
        flags: by the names of :data:`PLACES`; None where not given.
        assignments: ``section.option=value``.

    Raises:
        InputError: a file that cannot be read.
        OptionError: an assignment that cannot be read, or a section that is none.
    """
    from bnnzoo.specs import override, read_tree, read_value

    tree = read_tree(config) if config is not None else {}
    for flag, value in flags.items():
        if value is None or value == []:
            continue
        if flag == "target" and len(value) == 1:
            (value,) = value
        section, option = PLACES[flag]
        part = tree.setdefault(section, {})
        if not isinstance(part, dict):
            raise OptionError(f"{config}: {section} = {part!r}: a section is expected")
        part[option] = read_value(value) if flag in NUMBERS else value
    return override(tree, assignments)


def written(section: str, option: str, value: Any) -> str:
    """An option as a command line has it: what messages write it with.

    Args:
        section: of a run's file.
        option: its name.
        value: what to set it to; a list of one is that one.
    """
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    for flag, place in PLACES.items():
        if place == (section, option):
            return f"--{flag.replace('_', '-')} {shlex.quote(str(value))}"
    return f"--set {shlex.quote(f'{section}.{option}={value}')}"


@contextmanager
def written_in(own: str) -> Iterator[None]:
    """Within it, messages write options of an inference as those of a section of its own.

    What an estimator or a tuner makes of a backend has the backend's options, under their name.

    Args:
        own: the section.
    """

    def writer(section: str, option: str, value: Any) -> str:
        flagged = (section, option) in PLACES.values()
        return written(own if section == "inference" and not flagged else section, option, value)

    with written_as(writer):
        yield


def without_inference(given: Mapping[str, Any]) -> dict[str, Any]:
    """Flags of the data and the model alone, by the names of :data:`PLACES`.

    Args:
        given: a command's arguments.
    """
    places = {name for name, (section, _) in PLACES.items() if section != "inference"}
    return {name: value for name, value in given.items() if name in places}


def split_section(assignments: Sequence[str], section: str) -> tuple[dict[str, Any], list[str]]:
    """Options of one section that is no part of a run, and the assignments of the others.

    Args:
        assignments: ``section.option=value``.
        section: its name.

    Raises:
        OptionError: an option of an inference, which nothing would read.
    """
    from bnnzoo.specs import read_value

    own: dict[str, Any] = {}
    others = []
    for text in assignments:
        place, equals, value = text.partition("=")
        if place.startswith("inference."):
            name = place.removeprefix("inference.")
            raise OptionError(
                f"--set {text}: this command fits nothing, so that {place} is not read; options of "
                f"its own are --set {section}.OPTION=VALUE"
                + (f", and there is --{name}" if name in ("seed", "dtype") else "")
            )
        if equals and place.startswith(f"{section}."):
            own[place.removeprefix(f"{section}.")] = read_value(value)
        else:
            others.append(text)
    return own, others


def read_seconds(text: str | None) -> float | None:
    """What ``--max-time`` says; raises ``OptionError``."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not value > 0:
        raise OptionError(f"--max-time {text}: a number of seconds above 0 is needed")
    return value


def join(coordinator: str | None, processes: int | None, process_id: int | None) -> bool:
    """Make this process one of several where that is asked for; before JAX computes anything.

    Args:
        coordinator: ``HOST:PORT``, ``auto`` or None.
        processes: how many.
        process_id: which this is.

    Returns:
        Whether it is the one that speaks.

    Raises:
        InputError: something that cannot be used.
        RunError: the processes did not find one another.
    """
    if coordinator is None and processes is None and process_id is None:
        return True
    from bnnzoo.inference.processes import leads, start_distributed

    # What carries sums between CPUs greets on standard output, which is for what was asked for.
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    start_distributed(None if coordinator == "auto" else coordinator, processes, process_id)
    return leads()


def file_model(tree: dict[str, Any]) -> str | None:
    """Take ``my.py:model`` out of a tree whose model is a function in a file, else None."""
    model = tree.get("model")
    if not isinstance(model, dict):
        return None
    name = model.get("name")
    if not isinstance(name, str) or not re.search(r"\.py(:|$)", name):
        return None
    del model["name"]
    return name
