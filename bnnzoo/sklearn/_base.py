"""What both estimators share: from parameters and arrays to a run, and from rows to predictions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from bnnzoo.datasets._check import as_floats
from bnnzoo.errors import DataError, DataWarning, OptionError, hint
from bnnzoo.options import Options, Positive, parse_options
from bnnzoo.registry import list_names
from bnnzoo.sklearn._convergence import doubts
from bnnzoo.sklearn._defaults import prior_options, sizes
from bnnzoo.specs import Component, InferenceSpec

if TYPE_CHECKING:
    import numpy as np

    from bnnzoo.datasets import Dataset
    from bnnzoo.inference import Prediction, Run
    from bnnzoo.models import Model


class Running(Options):
    """How a fit goes about it, apart from what it draws."""

    out: Path | None = Field(description="Run folder; None: a temporary one.")
    progress: bool = Field(description="Draw a progress bar on a terminal.")
    max_time: Positive | None = Field(description="Seconds after which to stop.")


def checked(
    estimator: BaseEstimator, X: Any, y: Any, read: Callable[..., Any], **options: Any
) -> tuple[Any, Any]:
    """scikit-learn's ``validate_data``, whose messages say what is wrong, and here also where.

    Args:
        estimator: whose data they are.
        X: inputs.
        y: targets or labels.
        read: ``as_targets`` or ``as_labels``.
        **options: of ``validate_data``.

    Raises:
        ValueError: what scikit-learn refuses; :class:`DataError` where the cell is found.
    """
    try:
        X, y = validate_data(estimator, X, y, **options)
    except ValueError as error:
        names = [str(name) for name in getattr(X, "columns", ())]
        place = _refusal(lambda: as_floats(X, "X", names)) or _refusal(lambda: read(y, "y"))
        if " row " not in place:
            raise
        raise DataError(f"{str(error).splitlines()[0].rstrip('.')}: {place}") from None
    return X, y


def _refusal(read: Callable[[], Any]) -> str:
    """What is said of values that cannot be read; empty where they can."""
    try:
        read()
    except DataError as found:
        return str(found)
    except (TypeError, ValueError, AttributeError):  # sparse, or no array at all
        pass
    return ""


class BaseBNN(BaseEstimator):
    """A Bayesian neural network as an estimator; its parameters are those of the subclasses."""

    run_: Run
    """The :class:`bnnzoo.Run`, after fit."""

    def _fit(self, data: Dataset) -> None:
        """Draw from the posterior that the parameters describe, and say what is doubtful."""
        from bnnzoo.api import Plan
        from bnnzoo.inference.fitting import complete

        model = self._model()
        assert model.spec is not None
        spec = model.spec.model_copy(update={"inference": complete(self._inference())})
        running = parse_options(Running, self._parameters(Running), "")
        for line in data.warnings:
            warnings.warn(line, DataWarning, stacklevel=3)
        self.run_ = Plan(data, model, spec).fit(**running.model_dump())
        if said := doubts(self.run_):
            name = type(self).__name__
            warnings.warn(f"{name} did not converge: {said}", ConvergenceWarning, stacklevel=3)

    def _model(self) -> Model:
        from bnnzoo.models import make_model

        network, prior, likelihood = map(self._part, ("network", "prior", "likelihood"))
        return make_model(
            network.name or self.network,
            prior.name,
            str(likelihood.name),
            network_options=network.options,
            prior_options=prior_options(prior.name, prior.options),
            likelihood_options=likelihood.options,
        )

    def _part(self, part: str) -> Component:
        """A name and its options, checked to be text and a table; a factory has no name."""
        name = getattr(self, part)
        if name is None and part != "prior":
            raise OptionError(f"{part} = None: a name is needed{hint('', list_names(f'{part}s'))}")
        if part == "network" and callable(name):
            name = None
        return parse_options(Component, {"name": name, "options": self._options(part)}, part)

    def _options(self, part: str) -> Any:
        given = getattr(self, f"{part}_options")
        return {} if given is None else given

    def _parameters(self, of: type[Options]) -> dict[str, Any]:
        """The parameters that are named as fields of ``of``."""
        return {n: v for n, v in self.get_params(deep=False).items() if n in of.model_fields}

    def _inference(self) -> InferenceSpec:
        given = self._parameters(InferenceSpec)
        given |= {"seed": self._seed(), "options": self._options("backend")}
        unsaid = [n for n in ("chains", "draws", "warmup") if given[n] is None]
        settings = {n: v for n, v in given.items() if n not in unsaid}
        asked = parse_options(InferenceSpec, settings, "inference")
        if not unsaid:
            return asked
        own = sizes(asked.backend, asked.options)
        settings |= {n: own[n] for n in unsaid}
        return parse_options(InferenceSpec, settings, "inference")

    def _seed(self) -> int:
        """An integer is the seed itself, so that ``bnnzoo.fit`` makes the same draws of it."""
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _prediction(self, X: Any) -> Prediction:
        check_is_fitted(self, "run_")
        return self.run_.predict(validate_data(self, X, reset=False))

    def _feature_names(self) -> list[str] | None:
        """Columns of the data frame that was fitted, or None for arrays."""
        names: np.ndarray | None = getattr(self, "feature_names_in_", None)
        return None if names is None else names.tolist()
