"""The regressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_random_state, column_or_1d

from bnnzoo.errors import InputError
from bnnzoo.sklearn import _defaults
from bnnzoo.sklearn._base import BaseBNN, checked

if TYPE_CHECKING:
    from sklearn.utils import Tags


class BNNRegressor(RegressorMixin, BaseBNN):
    """A Bayesian neural network for numbers, with scikit-learn's interface.

    Inputs and targets are standardised inside; everything given and returned is in original units.

    Args:
        network: a registered network, or a factory of modules as :func:`bnnzoo.make_model` takes.
        prior: a registered prior; None where ``prior_options["rules"]`` name one for every
            parameter.
        likelihood: a registered likelihood of numbers.
        network_options: options of the network, such as ``{"widths": [50, 50]}``.
        prior_options: options of the prior; ``std`` is 2 where the prior has one and none is given.
        likelihood_options: options of the likelihood, such as ``{"noise": "heteroscedastic"}``.
        backend: a registered inference backend.
        backend_options: its options, such as ``{"target_acceptance": 0.95}``.
        chains: independent chains; one a processor core runs at the same time. If None 2, or the
            backend's own number where it is no sampler.
        draws: kept draws of each; if None 500, or the backend's own.
        warmup: steps of adaptation of each; if None 500, or the backend's own.
        posterior_temperature: T, divides the whole log posterior.
        likelihood_temperature: L, divides the log-likelihood alone.
        dtype: ``float32`` or ``float64``.
        random_state: seed of every random number; a ``RandomState`` is drawn a seed from, None is
            NumPy's own.
        max_time: seconds after which the chains stop with the draws they have; None for never.
        progress: draw a progress bar on a terminal.
        out: run folder, which must not hold another run; None for a temporary one.

    Attributes:
        run_: the :class:`bnnzoo.Run`: draws, diagnostics, predictions.
        n_features_in_: number of features.
        feature_names_in_: their names, where X was a data frame with text as column names.
        n_outputs_: number of targets.
    """

    def __init__(
        self,
        network: Any = "mlp",
        prior: Any = "gaussian",
        likelihood: Any = _defaults.LIKELIHOOD,
        *,
        network_options: Any = None,
        prior_options: Any = None,
        likelihood_options: Any = None,
        backend: Any = _defaults.BACKEND,
        backend_options: Any = None,
        chains: Any = None,
        draws: Any = None,
        warmup: Any = None,
        posterior_temperature: Any = 1.0,
        likelihood_temperature: Any = 1.0,
        dtype: Any = "float32",
        random_state: Any = None,
        max_time: Any = None,
        progress: Any = False,
        out: Any = None,
    ) -> None:
        self.network = network
        self.prior = prior
        self.likelihood = likelihood
        self.network_options = network_options
        self.prior_options = prior_options
        self.likelihood_options = likelihood_options
        self.backend = backend
        self.backend_options = backend_options
        self.chains = chains
        self.draws = draws
        self.warmup = warmup
        self.posterior_temperature = posterior_temperature
        self.likelihood_temperature = likelihood_temperature
        self.dtype = dtype
        self.random_state = random_state
        self.max_time = max_time
        self.progress = progress
        self.out = out

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> BNNRegressor:
        """Draw from the posterior given training rows.

        Args:
            X: ``(row, feature)`` numbers, an array or a data frame.
            y: targets ``(row,)`` or ``(row, output)``.

        Returns:
            Itself.

        Raises:
            InputError: a parameter that cannot be used; nothing was run.
            ValueError: rows that cannot be used.
            RunError: no draw could be made.
        """
        from bnnzoo.datasets import make_dataset
        from bnnzoo.datasets._check import as_targets

        needs = {"multi_output": True, "y_numeric": True, "ensure_min_samples": 2}
        X, y = checked(self, X, y, as_targets, dtype=np.float64, **needs)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self._fit(make_dataset(X, y, task="regression", feature_names=self._feature_names()))
        self.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predictive mean, and the standard deviation with the noise in it.

        Args:
            X: rows ``(row, feature)``.
            return_std: give the standard deviation as well.

        Returns:
            Mean ``(row,)`` or ``(row, output)``; with ``return_std`` the pair of mean and standard
            deviation, each of that shape.
        """
        prediction = self._prediction(X)
        return (prediction.mean, prediction.std) if return_std else prediction.mean

    def predict_quantiles(self, X: Any, q: Sequence[float] = (0.05, 0.5, 0.95)) -> np.ndarray:
        """Quantiles of the predictive distribution, noise included.

        Args:
            X: rows ``(row, feature)``.
            q: probabilities, 0 to 1.

        Returns:
            ``(row, quantile)``, or ``(row, output, quantile)`` for several outputs.

        Raises:
            InputError: a probability outside [0, 1].
        """
        return np.moveaxis(self._prediction(X).quantile(np.atleast_1d(q)), 0, -1)

    def predict_interval(self, X: Any, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of the central predictive interval.

        Args:
            X: rows ``(row, feature)``.
            level: probability inside.

        Returns:
            Both ``(row,)``, or ``(row, output)`` for several outputs.

        Raises:
            InputError: a level outside [0, 1].
        """
        return self._prediction(X).interval(level)

    def sample_y(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """Targets drawn from the predictive distribution, jointly over rows: a network a sample.

        Args:
            X: rows ``(row, feature)``.
            n_samples: how many, at most the draws of the run.
            random_state: which of the draws; None is NumPy's own.

        Returns:
            ``(row, sample)``, or ``(row, output, sample)`` for several outputs.

        Raises:
            InputError: more samples than there are draws.
        """
        prediction = self._prediction(X)
        draws = prediction.draws
        draws = draws.reshape(-1, *draws.shape[2:])
        if not 0 < n_samples <= len(draws):
            raise InputError(
                f"n_samples = {n_samples}; choices: 1 to {len(draws)}, the run's draws"
            )
        chosen = check_random_state(random_state).permutation(len(draws))[:n_samples]
        return np.moveaxis(draws[chosen], 0, -1)

    def log_prob(self, X: Any, y: Any) -> np.ndarray:
        """Log density of targets under the predictive mixture over draws.

        Args:
            X: rows ``(row, feature)``.
            y: targets ``(row,)`` or ``(row, output)``.

        Returns:
            ``(row,)``, nats, in original units of y: a density a unit, of several outputs jointly.
        """
        prediction = self._prediction(X)
        wanted = (prediction.rows,) if self.n_outputs_ == 1 else (prediction.rows, self.n_outputs_)
        y = np.asarray(y, float)
        if y.shape != wanted:
            raise InputError(f"y has shape {y.shape}; {wanted} is needed")
        return prediction.log_prob(y)
