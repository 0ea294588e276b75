"""A finished (or stopped) run: its draws, its record, its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from bnnzoo import metrics, store
from bnnzoo.datasets import Dataset
from bnnzoo.errors import CorruptRunError, InputError, RunError
from bnnzoo.inference.linearised import read_values
from bnnzoo.inference.precision import precision
from bnnzoo.inference.prediction import Prediction
from bnnzoo.inference.tree import tree_draws
from bnnzoo.models.handwritten import HandwrittenModel, as_model, source_hash
from bnnzoo.models.model import build_model
from bnnzoo.models.posterior import Posterior
from bnnzoo.specs import MODEL_PARTS, Component, RunSpec, spec_from_toml


class Run:
    """Draws of a posterior with everything needed to read, repeat and extend them.

    Attributes:
        path: the run folder.
        spec: what was run.
        manifest: how it went; see ``docs/design.md``.
        tree: an ``xarray.DataTree`` in ArviZ's schema.
        posterior: the posterior the draws are from.
        origin: ``"new"``, ``"resumed"``, ``"reused"`` (it was finished already) or ``"loaded"``.
    """

    def __init__(
        self,
        path: Path,
        spec: RunSpec,
        manifest: Mapping[str, Any],
        tree: xr.DataTree,
        posterior: Posterior | None = None,
    ) -> None:
        self.path, self.spec, self.manifest, self.tree = path, spec, manifest, tree
        self.origin = "loaded"
        self._posterior = posterior
        self._temporary: Any = None  # the handle of a temporary folder, which goes with the run

    @property
    def label(self) -> str:
        """A few words: model, prior, backend, temperatures."""
        return str(self.manifest["label"])

    @property
    def posterior(self) -> Posterior:
        """The posterior the draws are from.

        Raises:
            RunError: the model is not from the registry: give it again to ``load_run``.
        """
        if self._posterior is None:
            raise RunError(
                f"{self.path}: its model {self.manifest['model']['description']!r} is not in the "
                "registry; give it again: load_run(path, model=...)"
            )
        return self._posterior

    def predict(self, x: Any, raw: bool = False) -> Any:
        """Predict new rows.

        Args:
            x: inputs ``(row, *in_shape)``, original units; one feature may be ``(row,)``.
            raw: give the noise-free function values instead.

        Returns:
            A :class:`Prediction`; with ``raw`` an array ``(chain, draw, row, output)``, original
            units (logits for classes).

        Raises:
            DataError: rows that do not have the features of the training data.
            InputError: the model has latent sites that belong to the training rows.
        """
        posterior = self.posterior
        assert posterior.data is not None
        rows = posterior.data.check_inputs(x)
        if posterior.model.handwritten and not np.array_equal(rows, posterior.data.x):
            with precision(self.spec.inference.dtype):
                posterior.check_rows_are_free()
        values = tree_draws(self.tree, posterior)
        posterior, values = read_values(posterior, values, self.tree)
        inference = self.spec.inference
        prediction = Prediction(posterior, values, rows, inference.seed, inference.dtype)
        return prediction.f if raw else prediction

    def metrics(self) -> dict[str, float]:
        """Test metrics in original units.

        Returns:
            ``rmse``, ``nll``, ``crps``, ``coverage_50``, ``coverage_90`` for regression;
            ``accuracy``, ``nll``, ``brier``, ``ece`` for classification.

        Raises:
            InputError: the data have no test rows.
        """
        if "test_scores" not in self.tree.children:
            raise InputError(f"{self.label}: the data have no test rows to score")
        return test_metrics(self.tree)

    def __getstate__(self) -> dict[str, Any]:
        # What was pickled does not keep a temporary folder alive, and can do without one.
        for node in self.tree.subtree:  # DataTree.load passes over a variable named as its group
            for variable in node.variables.values():
                variable.load()
        return {**self.__dict__, "_temporary": None}

    def __repr__(self) -> str:
        sizes = self.tree["posterior"].sizes
        return f"<Run {self.label}: {sizes['chain']} chains x {sizes['draw']} draws, {self.path}>"


def test_metrics(tree: xr.DataTree) -> dict[str, float]:
    """The metrics of a tree's ``test_scores``."""
    scores = tree["test_scores"].to_dataset()
    y = tree["predictions_constant_data"]["y"].to_numpy()
    found = {"nll": metrics.mixture_nll(scores["log_density"].to_numpy())}
    if "probabilities" in scores:
        probabilities = scores["probabilities"].to_numpy()
        found["accuracy"] = metrics.accuracy(probabilities, y)
        found["brier"] = metrics.brier(probabilities, y)
        found["ece"] = metrics.ece(probabilities, y)
    else:
        found["rmse"] = metrics.rmse(scores["mean"].to_numpy(), y)
        found["crps"] = float(np.mean(scores["crps"].to_numpy()))
        if "pit" in scores:
            pit = scores["pit"].to_numpy()
            found |= {f"coverage_{p}": metrics.coverage(pit, p / 100) for p in (50, 90)}
    return found


def load_run(path: str | Path, model: Any = None) -> Run:
    """Read a finished run; every file is checked against its hash, no code in the folder is run.

    Args:
        path: the run folder.
        model: the model itself where it is not from the registry; without it predictions are
            refused, the draws are there.

    Raises:
        RunError: no such run, or not finished.
        CorruptRunError: a file is missing, truncated or changed.
        InputError: a model that is not the one that was run.
    """
    path = Path(path)
    manifest = store.read_manifest(path)
    if manifest.get("state") == "running":
        raise RunError(f"{path} is not finished: bnnzoo resume {path}")
    tree = store.read_tree(path)
    spec = read_spec(path)
    data = _dataset(path, manifest, tree)
    built = rebuild_model(spec, manifest, model)
    posterior = None
    if built is not None:
        inference = spec.inference
        with precision(inference.dtype):
            posterior = Posterior(
                built, data, inference.posterior_temperature, inference.likelihood_temperature
            )
    return Run(path, spec, manifest, tree, posterior)


def fingerprint(data: Dataset, external: str) -> dict[str, str]:
    """What tells runs of one spec apart, for the run folder.

    Args:
        data: the data set.
        external: what :func:`external_hash` gives of the model.
    """
    return {"data": data.hash, "scale": data.scale, "model": external}


def read_spec(path: Path) -> RunSpec:
    """The spec of a run folder."""
    try:
        text = (path / "run.toml").read_text(encoding="utf-8")
    except OSError:
        raise CorruptRunError(f"{path / 'run.toml'} is missing") from None
    return spec_from_toml(text, str(path / "run.toml"))


def rebuild_model(spec: RunSpec, manifest: Mapping[str, Any], model: Any) -> Any:
    """The model of a run: given again where it was hand-written, else from the registry."""
    recorded = manifest["model"]
    if not recorded["external"]:
        if model is not None:
            raise InputError(
                f"model {recorded['description']!r} is from the registry: leave model out"
            )
        return build_model(spec)
    if model is None:
        return None
    if external_hash(model) != recorded["external"]:
        raise InputError(
            f"the model given is not the one that was run ({recorded['description']!r}): "
            "its source differs"
        )
    model = as_model(model)
    for section in MODEL_PARTS:
        given, ran = getattr(model.spec, section), getattr(spec, section)
        if given != ran:
            raise InputError(
                f"the model given is not the one that was run: its {section} is {_flat(given)}, "
                f"recorded is {_flat(ran)}"
            )
    return model


def _flat(component: Component) -> dict[str, Any]:
    return {"name": component.name, **component.options}


def external_hash(model: Any) -> str:
    """Hash of what the registry cannot rebuild of a model; empty where it can rebuild all."""
    model = as_model(model)
    if isinstance(model, HandwrittenModel):
        return source_hash(model.fn)
    return model.external


def _dataset(path: Path, manifest: Mapping[str, Any], tree: xr.DataTree) -> Dataset:
    def array(group: str, name: str) -> np.ndarray | None:
        return tree[group][name].to_numpy() if group in tree.children else None

    try:
        metadata = manifest["data"]["metadata"]
    except (KeyError, TypeError):
        raise CorruptRunError(f"{path / 'manifest.json'} does not describe its data") from None
    return Dataset.rebuild(
        metadata,
        array("constant_data", "x"),
        array("observed_data", "y"),
        array("predictions_constant_data", "x"),
        array("predictions_constant_data", "y"),
    )
