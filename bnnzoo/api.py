"""From a spec to a run: what a TOML file or the command line asks for, checked and then done."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnnzoo.errors import DataError, DataWarning, InputError, OptionError, RunError, hint
from bnnzoo.specs import MODEL_PARTS, Component, RunSpec, read_tree, spec_from_tree

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset
    from bnnzoo.inference import Run
    from bnnzoo.models import Model

LIKELIHOODS = {"regression": "gaussian", "classification": "categorical"}
"""The likelihood of a task where a spec names none."""


@dataclass(frozen=True)
class Plan:
    """A spec whose names and options were checked, with its data and model at hand.

    Attributes:
        data: the data set.
        model: a zoo model or a hand-written one.
        spec: everything, with defaults filled in.
    """

    data: Dataset
    model: Any
    spec: RunSpec

    def folder(self, parent: str | os.PathLike[str] = "runs") -> Path:
        """Where the run goes if nobody says: a name that is a function of what is run.

        The same spec on the same data gives the same folder, so that a finished run is found and
        an unfinished one is gone on with.
        """
        from bnnzoo.inference.run import external_hash

        record = [self.spec.to_tree(), self.data.hash, external_hash(self.model)]
        digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
        prior = self.spec.prior.name or self.spec.model.name or "rules"
        names = [Path(self.data.name).stem, prior, self.spec.inference.backend]
        words = [re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "run" for name in names]
        return Path(parent) / "-".join([*words, digest[:8]])

    def state(self, folder: str | os.PathLike[str]) -> str:
        """What a folder holds of this very run: ``"complete"``, ``"stopped"``, ``"running"``.

        Empty where there is nothing, another run or something else; :meth:`check` says which.
        """
        from bnnzoo.store import read_manifest

        folder = Path(folder)
        try:
            same = (folder / "run.toml").read_text(encoding="utf-8") == self.spec.to_toml()
            return str(read_manifest(folder).get("state", "")) if same else ""
        except (OSError, ValueError, RunError):
            return ""

    def check(self, folder: str | os.PathLike[str]) -> None:
        """Raise, as :meth:`fit` would, where a folder cannot become this run's.

        Raises:
            RunExistsError: it holds another run, or files that are not a run.
            CorruptRunError: it holds a run that cannot be read.
            StorageError: it is no folder.
        """
        from bnnzoo.inference.run import external_hash, fingerprint
        from bnnzoo.store import look

        look(Path(folder), self.spec.to_toml(), fingerprint(self.data, external_hash(self.model)))

    def fit(
        self,
        out: str | os.PathLike[str] | None = None,
        *,
        progress: bool = True,
        max_time: float | None = None,
    ) -> Run:
        """Do it; see :func:`bnnzoo.fit`. Who made the plan has its ``data.warnings`` to show."""
        from bnnzoo.inference import fit

        arguments = self.spec.inference.model_dump()
        options = arguments.pop("options")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            return fit(
                self.model,
                self.data,
                out=out,
                progress=progress,
                max_time=max_time,
                **arguments,
                **options,
            )


def fit_spec(
    spec: RunSpec | Mapping[str, Any] | str | os.PathLike[str],
    *,
    model: Any = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    max_time: float | None = None,
) -> Run:
    """Run what a spec says: all of :func:`bnnzoo.fit` in one piece of data.

    Args:
        spec: a path to a TOML file with sections ``[data]``, ``[model]``, ``[network]``,
            ``[prior]``, ``[likelihood]``, ``[augmentation]`` and ``[inference]``, or the same as
            nested data.
        model: a hand-written NumPyro model, in place of what the spec says of one.
        out: run folder; a temporary one if not given.
        progress: draw a progress bar on a terminal.
        max_time: seconds after which to stop.

    Returns:
        The run.

    Raises:
        InputError: something in the spec cannot be used; nothing was written.
        RunError: as :func:`bnnzoo.fit`.
    """
    planned = plan(spec, model)
    for line in planned.data.warnings:
        warnings.warn(line, DataWarning, stacklevel=2)
    return planned.fit(out, progress=progress, max_time=max_time)


def plan(spec: RunSpec | Mapping[str, Any] | str | os.PathLike[str], model: Any = None) -> Plan:
    """Check a spec, load its data and build its model; nothing is run and nothing written.

    Args:
        spec: as :func:`fit_spec` takes it.
        model: a hand-written model, or None.

    Raises:
        InputError: the first thing that cannot be used.
    """
    if isinstance(spec, (str, os.PathLike)):
        spec = read_tree(os.fspath(spec))
    if not isinstance(spec, RunSpec):
        spec = spec_from_tree(spec)
    from bnnzoo.inference.fitting import complete

    inference = complete(spec.inference)
    data = _load(spec.data, spec.likelihood.name if model is None else None)
    built = _build(spec, data.task) if model is None else _take(spec, model)
    built.bind(data)  # says what does not fit; fit binds again
    source = Component(name=data.name, options=dict(data.source))  # its defaults spelled out
    return Plan(data, built, built.spec.model_copy(update={"data": source, "inference": inference}))


def plan_grid(tree: Mapping[str, Any], axes: Mapping[str, Any]) -> tuple[Dataset, dict[str, Model]]:
    """Load the data of a spec and build a model for every combination of some of its options.

    Args:
        tree: sections as :func:`fit_spec` takes them, without ``[model]``.
        axes: as :func:`bnnzoo.model_grid` takes them.

    Raises:
        InputError: the first thing that cannot be used.
    """
    from bnnzoo.inference.model_grid import model_grid

    if tree.get("model"):
        raise InputError("a grid varies networks, priors and likelihoods: leave [model] out")
    spec = spec_from_tree(tree)
    data = _load(spec.data, None if "likelihood.name" in axes else spec.likelihood.name)
    base = {part: dict(tree[part]) for part in MODEL_PARTS if part in tree}
    if "likelihood.name" not in axes:
        base.setdefault("likelihood", {}).setdefault("name", LIKELIHOODS[data.task])
    return data, model_grid(axes, base)


def _load(component: Component, likelihood: str | None) -> Dataset:
    """The data set; of a table that names no task, a likelihood that is named decides it."""
    from bnnzoo import registry
    from bnnzoo.datasets import load_dataset
    from bnnzoo.datasets._file import SUFFIXES

    if component.name is None:
        raise InputError(
            "no data set is given: name one, or a CSV or Parquet file"
            + hint("", registry.list_names("datasets"))
        )
    name, options = component.name, component.options
    is_table = Path(name).suffix.lower() in SUFFIXES
    if likelihood is None or not is_table or options.get("task") is not None:
        return load_dataset(name, **options)
    task = registry.get("likelihoods", likelihood).card.tags.get("task")
    if task is None:
        return load_dataset(name, **options)
    try:
        data = load_dataset(name, **options)
        if data.task == task:
            return data
    except DataError:
        pass  # what cannot be told of the target may be no question for a task that is known
    data = load_dataset(name, **{**options, "task": task})
    said = f"no task given: {task}, as likelihood {likelihood!r} is for it"
    return replace(data, warnings=(said, *data.warnings))


def _build(spec: RunSpec, task: str) -> Any:
    """The zoo's model, with the likelihood that fits the task where none is named."""
    from bnnzoo.models.model import build_model

    if spec.model.name is None and spec.likelihood.name is None:
        likelihood = spec.likelihood.model_copy(update={"name": LIKELIHOODS[task]})
        spec = spec.model_copy(update={"likelihood": likelihood})
    return build_model(spec)


def _take(spec: RunSpec, model: Any) -> Any:
    """A model given as an object; what a spec says of another one would be passed over."""
    from bnnzoo.models.handwritten import as_model

    for section in MODEL_PARTS:
        if getattr(spec, section) != Component():
            raise InputError(f"a hand-written model has its own {section}: leave [{section}] out")
    for option in spec.model.options:
        if option != "source":  # which run.toml records
            raise OptionError(f"unknown option model.{option} of a hand-written model")
    return as_model(model)
