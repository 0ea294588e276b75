"""The classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from bnnzoo.errors import DataError, InputError, listed
from bnnzoo.sklearn import _defaults
from bnnzoo.sklearn._base import BaseBNN, checked


class BNNClassifier(ClassifierMixin, BaseBNN):
    """A Bayesian neural network for classes, with scikit-learn's interface.

    Inputs are standardised inside.

    Args:
        network: a registered network, or a factory of modules as :func:`bnnzoo.make_model` takes.
        prior: a registered prior; None where ``prior_options["rules"]`` name one for every
            parameter.
        likelihood: a registered likelihood of classes.
        network_options: options of the network, such as ``{"widths": [50, 50]}``.
        prior_options: options of the prior; ``std`` is 2 where the prior has one and none is given.
        likelihood_options: options of the likelihood.
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
        classes_: the labels, sorted; columns of probabilities are in this order.
        n_features_in_: number of features.
        feature_names_in_: their names, where X was a data frame with text as column names.
    """

    def __init__(
        self,
        network: Any = "mlp",
        prior: Any = "gaussian",
        likelihood: Any = "categorical",
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

    def fit(self, X: Any, y: Any) -> BNNClassifier:
        """Draw from the posterior given training rows.

        Args:
            X: ``(row, feature)`` numbers, an array or a data frame.
            y: labels ``(row,)``: whole numbers, booleans or text.

        Returns:
            Itself.

        Raises:
            InputError: a parameter that cannot be used; nothing was run.
            ValueError: rows that cannot be used, or a single class.
            RunError: no draw could be made.
        """
        from bnnzoo.datasets import make_dataset
        from bnnzoo.datasets._check import as_labels

        X, y = checked(self, X, y, as_labels, ensure_min_samples=2, dtype=np.float64)
        if y.dtype.kind == "O":
            as_labels(y, "y")  # None among text has no order: say which row, before it is sorted
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) == 1:
            only = self.classes_.tolist()[0]
            raise DataError(f"y holds one class only, {only!r}; at least 2 classes are needed")
        data = make_dataset(
            X,
            numbers,
            task="classification",
            feature_names=self._feature_names(),
            class_names=[str(label) for label in self.classes_],
        )
        self._fit(data)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label ``(row,)`` of each row.

        Args:
            X: rows ``(row, feature)``.
        """
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities ``(row, class)``, averaged over draws.

        Args:
            X: rows ``(row, feature)``.
        """
        return self._prediction(X).probabilities

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of :meth:`predict_proba`; minus infinity where it is 0.

        Args:
            X: rows ``(row, feature)``.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def log_prob(self, X: Any, y: Any) -> np.ndarray:
        """Log probability of labels under the predictive mixture over draws.

        Args:
            X: rows ``(row, feature)``.
            y: labels ``(row,)``, each one of ``classes_``.

        Returns:
            ``(row,)``, nats. Its mean is what ``scoring="neg_log_loss"`` gives.

        Raises:
            InputError: not one label a row.
            DataError: a label that is none of ``classes_``.
        """
        prediction = self._prediction(X)
        y = np.asarray(y)
        if y.shape != (prediction.rows,):
            raise InputError(f"y has shape {y.shape}; {(prediction.rows,)} is needed")
        number = {label: k for k, label in enumerate(self.classes_.tolist())}
        for row, label in enumerate(y.tolist()):
            if label not in number:
                known = listed([str(name) for name in number])
                raise DataError(f"y is {label!r} in row {row}, which is no class; choices: {known}")
        return prediction.log_prob(np.array([number[label] for label in y.tolist()]))
