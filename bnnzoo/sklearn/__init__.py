"""scikit-learn estimators: ``fit(X, y)`` and ``predict(X)``, defaults that need no tuning."""

from bnnzoo.sklearn._classifier import BNNClassifier
from bnnzoo.sklearn._regressor import BNNRegressor

__all__ = ["BNNClassifier", "BNNRegressor"]
