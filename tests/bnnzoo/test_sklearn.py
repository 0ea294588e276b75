"""The estimators give what ``bnnzoo.fit`` gives, in scikit-learn's shapes and units."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bnnzoo as bz
from bnnzoo.api import Plan
from bnnzoo.errors import DataError, InputError, OptionError, UnknownNameError
from bnnzoo.sklearn import _defaults

LINEAR = {"widths": []}
QUICK = {"network_options": LINEAR, "chains": 2, "draws": 30, "warmup": 50, "random_state": 0}
GAUSSIAN = {"likelihood": "gaussian", **QUICK}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def line(rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Two features, targets in the thousands."""
    rng = np.random.default_rng(1)
    x = rng.normal(3.0, 2.0, (rows, 2))
    return x, 5000 + 300 * x[:, 0] - 100 * x[:, 1] + 200 * rng.normal(size=rows)


@pytest.fixture(scope="module")
def regressor() -> bz.BNNRegressor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return bz.BNNRegressor(**GAUSSIAN).fit(*line())


@pytest.fixture(scope="module")
def iris() -> tuple[bz.BNNClassifier, np.ndarray, np.ndarray]:
    x, numbers = load_iris(return_X_y=True)
    labels = np.array(["setosa", "versicolor", "a virginica"])[numbers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return bz.BNNClassifier(**QUICK).fit(x, labels), x, labels


@pytest.mark.validate
def test_predictions_are_those_of_the_conjugate_model():
    """Bayesian linear regression with known noise: mean, std, quantiles, density in closed form.

    4000 draws: the mean of independent ones is 0.016 stds off one time in three; draws of HMC with
    a trajectory of pi/2 are no worse. Bounds are five times that and more.
    """
    x, y = line()
    std, noise = 1.5, 0.4
    model = bz.BNNRegressor(
        likelihood="gaussian",
        network_options=LINEAR,
        prior_options={"std": std},
        likelihood_options={"noise": "fixed", "noise_std": noise},
        chains=4,
        draws=1000,
        random_state=0,
    ).fit(x, y)
    mean_x, scale_x, mean_y, scale_y = x.mean(0), x.std(0), y.mean(), y.std()
    design = np.column_stack([(x - mean_x) / scale_x, np.ones(len(x))])
    prior = np.diag([2 / std**2, 2 / std**2, 1.0])  # kernel std / sqrt(fan-in), bias N(0, 1)
    precision = design.T @ design / noise**2 + prior
    weights = np.linalg.solve(precision, design.T @ ((y - mean_y) / scale_y)) / noise**2

    new = np.array([[3.0, 3.0], [12.0, -6.0], [-20.0, 3.0]])
    rows = np.column_stack([(new - mean_x) / scale_x, np.ones(3)])
    mean = mean_y + scale_y * rows @ weights
    variance = noise**2 + np.einsum("ri,ij,rj->r", rows, np.linalg.inv(precision), rows)
    spread = scale_y * np.sqrt(variance)

    got_mean, got_std = model.predict(new, return_std=True)
    np.testing.assert_allclose((got_mean - mean) / spread, 0, atol=0.08)
    np.testing.assert_allclose(got_std / spread, 1, atol=0.06)
    q = (0.05, 0.5, 0.95)
    wanted = mean[:, None] + spread[:, None] * norm.ppf(q)
    np.testing.assert_allclose(
        (model.predict_quantiles(new, q) - wanted) / spread[:, None], 0, atol=0.2
    )
    at = mean + spread * np.array([-1.0, 0.0, 2.0])
    np.testing.assert_allclose(model.log_prob(new, at), norm(mean, spread).logpdf(at), atol=0.15)
    sampled = model.sample_y(new, 3000, random_state=0)
    np.testing.assert_allclose((sampled.mean(1) - mean) / spread, 0, atol=0.1)
    # Jointly over rows: far rows on one side of the data move together.
    apart = new[1:] + np.array([[0.0, 0.0], [30.0, -9.0]])
    rows = np.column_stack([(apart - mean_x) / scale_x, np.ones(2)])
    shared = rows @ np.linalg.inv(precision) @ rows.T
    correlation = shared[0, 1] / np.sqrt((shared[0, 0] + noise**2) * (shared[1, 1] + noise**2))
    assert correlation > 0.3
    joint = np.corrcoef(model.sample_y(apart, 4000))[0, 1]
    assert joint == pytest.approx(correlation, abs=0.1)


def test_a_fit_is_the_fit_of_bnnzoo(regressor):
    x, y = line()
    model = bz.make_model(
        likelihood="gaussian",
        network_options=LINEAR,
        prior_options={"std": _defaults.PRIOR_STD},
    )
    data = bz.make_dataset(x, y, task="regression")
    run = bz.fit(model, data, "hmc", chains=2, draws=30, warmup=50, seed=0, progress=False)
    prediction = run.predict(x)
    np.testing.assert_array_equal(regressor.predict(x), prediction.mean)
    np.testing.assert_array_equal(regressor.predict(x, return_std=True)[1], prediction.std)
    np.testing.assert_array_equal(regressor.predict_interval(x, 0.5), prediction.interval(0.5))
    np.testing.assert_array_equal(regressor.log_prob(x, y), prediction.log_prob(y))


@pytest.mark.validate
def test_every_parameter_reaches_the_run(tmp_path):
    settings = {
        "network_options": {"widths": [3, 2], "activation": "relu"},
        "prior": "laplace",
        "prior_options": {"bias_std": 0.7},
        "likelihood": "student-t",
        "likelihood_options": {"noise_scale": 0.3, "df": 5},
        "backend": "sgld",
        "backend_options": {"learning_rate": 0.02},
        "chains": 3,
        "draws": 11,
        "warmup": 17,
        "posterior_temperature": 0.5,
        "likelihood_temperature": 2,
        "dtype": "float64",
        "random_state": 7,
        "out": tmp_path / "run",
    }
    spec = bz.BNNRegressor(**settings).fit(*line()).run_.spec
    assert spec == bz.load_run(tmp_path / "run").spec
    assert spec.network.name == "mlp" and spec.network.options["widths"] == [3, 2]
    assert spec.network.options["activation"] == "relu"
    assert spec.prior.name == "laplace" and spec.prior.options["bias_std"] == 0.7
    assert spec.prior.options["std"] == _defaults.PRIOR_STD
    assert spec.likelihood.name == "student-t" and spec.likelihood.options["df"] == 5
    assert spec.likelihood.options["noise_scale"] == 0.3
    inference = spec.inference.model_dump()
    assert inference.pop("options")["learning_rate"] == 0.02
    for name in ("backend", "chains", "draws", "warmup", "dtype"):
        assert inference[name] == settings[name]
    assert (inference["posterior_temperature"], inference["likelihood_temperature"]) == (0.5, 2)
    assert inference["seed"] == 7


@pytest.mark.parametrize(
    ("backend", "sizes"),
    [
        ("deep-ensemble", (2, 5, 0)),
        ("map", (1, 1, 0)),
        ("hmc", (_defaults.CHAINS, _defaults.DRAWS, _defaults.WARMUP)),
    ],
)
def test_sizes_that_nobody_gives_are_the_backends_own(monkeypatch, backend, sizes):
    asked = []

    def stop(plan, out, **settings):
        asked.append(plan.spec.inference)
        raise InputError("enough")

    monkeypatch.setattr(Plan, "fit", stop)
    with pytest.raises(InputError, match="enough"):
        bz.BNNRegressor(backend=backend).fit(*line())
    assert (asked[0].chains, asked[0].draws, asked[0].warmup) == sizes


@pytest.mark.validate
def test_an_ensemble_is_not_judged_as_a_chain():
    """Five members a chain have no R-hat; too few steps are said, with what to raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = bz.BNNRegressor(
            backend="deep-ensemble", network_options=LINEAR, likelihood="gaussian", random_state=0
        ).fit(*line())
    assert model.run_.tree["posterior"].sizes["draw"] == 5
    with pytest.warns(ConvergenceWarning, match=r"backend_options=\{'steps': 6\}"):
        model.set_params(backend_options={"steps": 3}).fit(*line())


def test_progress_and_time_reach_the_run(monkeypatch):
    said = {}

    def stop(plan, out, **settings):
        said.update(settings, out=out)
        raise InputError("enough")

    monkeypatch.setattr(Plan, "fit", stop)
    with pytest.raises(InputError, match="enough"):
        bz.BNNRegressor(progress=True, max_time=3).fit(*line())
    assert said == {"progress": True, "max_time": 3.0, "out": None}


def test_a_factory_is_a_network(regressor):
    from flax import nnx

    def affine(in_shape, out_shape, *, rngs):
        return nnx.Linear(in_shape[0], out_shape[0], rngs=rngs)

    x, y = line()
    own = bz.BNNRegressor(affine, **{**GAUSSIAN, "network_options": None}).fit(x, y)
    assert own.run_.spec.network.name == "affine"
    # The same posterior: means of 60 draws of a function whose std is 45 to 120.
    np.testing.assert_allclose(own.predict(x), regressor.predict(x), atol=60)


def test_the_seed_may_be_a_random_state_and_defaults_to_numpys():
    model = bz.BNNRegressor(**GAUSSIAN)
    x, y = line()
    made = [
        clone(model).set_params(random_state=state).fit(x, y).run_.spec.inference.seed
        for state in (5, np.random.RandomState(5), np.random.RandomState(5), None, None)
    ]
    assert made[0] == 5 and made[1] == made[2] and made[3] != made[4]


@pytest.mark.validate
def test_several_outputs_keep_their_order_and_units():
    x, y = line()
    both = np.column_stack([y, 1e-3 * x[:, 1]])
    model = bz.BNNRegressor(**GAUSSIAN).fit(x, both)
    mean, std = model.predict(x, return_std=True)
    assert mean.shape == std.shape == (40, 2) and model.n_outputs_ == 2
    assert np.corrcoef(mean[:, 0], y)[0, 1] > 0.9
    assert np.corrcoef(mean[:, 1], both[:, 1])[0, 1] > 0.99
    assert std[:, 1].max() < 1e-3 < 100 < std[:, 0].min()
    quantiles = model.predict_quantiles(x, [0.1, 0.9])
    assert quantiles.shape == (40, 2, 2) and (quantiles[..., 0] < quantiles[..., 1]).all()
    lower, upper = model.predict_interval(x, 0.8)
    np.testing.assert_allclose(np.stack([lower, upper], -1), quantiles, rtol=1e-12)
    assert model.sample_y(x, 5).shape == (40, 2, 5)
    assert model.log_prob(x, both).shape == (40,)
    with pytest.raises(InputError, match=r"y has shape \(40,\); \(40, 2\) is needed"):
        model.log_prob(x, y)


def test_a_column_of_targets_is_one_output(regressor):
    x, y = line()
    with pytest.warns(DataConversionWarning, match="column-vector"):
        model = bz.BNNRegressor(**GAUSSIAN).fit(x, y[:, None])
    np.testing.assert_array_equal(model.predict(x), regressor.predict(x))


def test_samples_are_draws_of_the_run(regressor):
    x, _ = line()
    every = regressor.run_.predict(x).draws.reshape(60, -1)
    sampled = regressor.sample_y(x, 60, random_state=1).T
    assert not np.array_equal(sampled, every)
    np.testing.assert_array_equal(np.sort(sampled, 0), np.sort(every, 0))
    assert regressor.sample_y(x).shape == (40, 1)
    for wrong in (0, 61):
        with pytest.raises(InputError, match=f"n_samples = {wrong}; choices: 1 to 60"):
            regressor.sample_y(x, wrong)


def test_classes_keep_their_labels(iris):
    model, x, labels = iris
    assert model.classes_.tolist() == ["a virginica", "setosa", "versicolor"]
    assert model.run_.posterior.data.class_names == ("a virginica", "setosa", "versicolor")
    probabilities = model.predict_proba(x)
    np.testing.assert_array_equal(probabilities, model.run_.predict(x).probabilities)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(x)), probabilities)
    given = np.searchsorted(model.classes_, labels)
    wanted = np.log(probabilities[np.arange(len(x)), given])
    np.testing.assert_allclose(model.log_prob(x, labels), wanted, atol=1e-5)
    log_loss = get_scorer("neg_log_loss")(model, x, labels)
    assert model.log_prob(x, labels).mean() == pytest.approx(log_loss, abs=1e-5)
    with pytest.raises(DataError, match="y is 'nowhere' in row 0, which is no class; choices"):
        model.log_prob(x[:1], ["nowhere"])
    with pytest.raises(InputError, match=r"y has shape \(1,\); \(2,\) is needed"):
        model.log_prob(x[:2], labels[:1])
    assert model.predict(x).tolist() == model.classes_[probabilities.argmax(1)].tolist()
    assert model.score(x, labels) > 0.9


@pytest.mark.parametrize("labels", [[False, True], [3, -1], [2.0, 7.0], ["no", "yes"]])
def test_labels_of_every_kind_come_back(labels):
    x, y = line()
    given = np.array(labels)[(y > y.mean()).astype(int)]
    model = bz.BNNClassifier(**QUICK).fit(x, given)
    assert model.classes_.tolist() == sorted(labels)
    predicted = model.predict(x)
    assert predicted.dtype == given.dtype and model.score(x, given) > 0.8


def test_data_frames_give_their_names(regressor):
    x, y = line()
    frame = pd.DataFrame(x, columns=["area", "floor"])
    model = bz.BNNRegressor(**GAUSSIAN).fit(frame, pd.Series(y))
    assert model.feature_names_in_.tolist() == ["area", "floor"]
    assert model.run_.posterior.data.feature_names == ("area", "floor")
    np.testing.assert_array_equal(model.predict(frame), regressor.predict(x))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["floor", "area"]])


def test_what_is_pickled_or_copied_predicts_the_same(iris):
    x, y = line()
    model = bz.BNNRegressor(**GAUSSIAN).fit(x, y)
    before, folder = model.predict_quantiles(x), model.run_.path
    kept, copied = pickle.dumps(model), copy.deepcopy(model)
    assert folder.exists()
    del model  # and its temporary folder
    gc.collect()
    assert not folder.exists()
    for again in (pickle.loads(kept), copied):
        np.testing.assert_array_equal(again.predict_quantiles(x), before)
    classifier, flowers, _ = iris
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict(flowers), classifier.predict(flowers))


def test_a_clone_has_the_parameters_and_no_run(regressor):
    again = clone(regressor)
    assert again.get_params() == regressor.get_params()
    with pytest.raises(NotFittedError):
        again.predict(line()[0])


def test_it_works_in_pipelines_and_searches():
    x, y = load_diabetes(return_X_y=True)
    x, y = x[:90], y[:90]
    pipeline = make_pipeline(StandardScaler(), bz.BNNRegressor(**GAUSSIAN))
    scores = cross_val_score(pipeline, x, y, cv=2)
    assert scores.shape == (2,) and scores.mean() > 0.2
    mean, std = pipeline.fit(x[:45], y[:45]).predict(x[:5], return_std=True)
    assert mean.shape == std.shape == (5,)

    def density(model, x, y):
        return model.log_prob(x, y).mean()

    grid = {"prior_options": [{"std": 0.001}, {"std": 2.0}], "likelihood": ["gaussian"]}
    one = [(np.arange(45), np.arange(45, 90))]  # of as many rows as above: compiled already
    search = GridSearchCV(bz.BNNRegressor(**GAUSSIAN), grid, scoring=density, cv=one, refit=False)
    search.fit(x, y)
    assert search.best_params_ == {"prior_options": {"std": 2.0}, "likelihood": "gaussian"}


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"network": "mpl"}, UnknownNameError, "unknown network 'mpl'; did you mean 'mlp'?"),
        ({"prior": "gausian"}, UnknownNameError, "did you mean 'gaussian'?"),
        ({"likelihood": 3}, OptionError, "likelihood.name = 3: should be text"),
        ({"likelihood": "categorical"}, InputError, "is for classification"),
        ({"prior_options": 3}, OptionError, "prior.options = 3: should be a table"),
        ({"network_options": {"width": 3}}, OptionError, "did you mean 'widths'?"),
        ({"backend": "hcm"}, UnknownNameError, "did you mean 'hmc'?"),
        ({"backend_options": {"steps": 3}}, OptionError, "unknown option inference.steps"),
        ({"chains": 0}, OptionError, "inference.chains = 0"),
        ({"draws": 2.5}, OptionError, "inference.draws = 2.5: should be a whole number"),
        ({"dtype": "float16"}, OptionError, "inference.dtype = 'float16'"),
        ({"posterior_temperature": -1}, OptionError, "inference.posterior_temperature = -1"),
        ({"random_state": -1}, OptionError, "inference.seed = -1"),
        ({"network": None}, OptionError, "network = None: a name is needed; choices: "),
        ({"likelihood": None}, OptionError, "likelihood = None: a name is needed; choices: "),
        ({"max_time": 0}, OptionError, "max_time = 0: should be greater than 0"),
        ({"progress": "much"}, OptionError, "progress = 'much': should be true or false"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_one_clear_line(settings, error, text):
    model = bz.BNNRegressor(**{**GAUSSIAN, **settings})
    with pytest.raises(error, match=re.escape(text)) as raised:
        model.fit(*line())
    assert "\n" not in str(raised.value) and not hasattr(model, "run_")


@pytest.mark.parametrize(
    ("level", "said"),
    [(95.0, "; 95 % is 0.95"), (-0.1, ""), (1000.0, ""), (float("nan"), "")],
)
def test_a_level_that_is_none_is_named(regressor, level, said):
    with pytest.raises(InputError) as raised:
        regressor.predict_interval(line()[0], level=level)
    assert str(raised.value) == f"level = {level}: a number between 0 and 1 is needed{said}"


def test_odd_data_are_said_once():
    x, y = line()
    x[:, 1] = 7
    with pytest.warns(bz.errors.DataWarning) as said:
        bz.BNNRegressor(**GAUSSIAN).fit(x, y)
    lines = [w for w in said if w.category is bz.errors.DataWarning]
    assert [str(w.message) for w in lines] == ["feature 'x1' is constant in the training rows"]


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ([[1.0], [2.0], [3.0]], [1.0, np.nan, 2.0], "Input y contains NaN: y is nan in row 1"),
        ([[1.0], [np.inf], [3.0]], [1.0, 3.0, 2.0], "contains infinity .*: X is inf in row 1, col"),
        ([[1.0], ["x"], [3.0]], [1.0, 3.0, 2.0], "could not convert .*: X is 'x' in row 1, column"),
    ],
)
def test_a_cell_that_is_no_number_is_named(x, y, said):
    with pytest.raises(ValueError, match=said) as raised:
        bz.BNNRegressor(**GAUSSIAN).fit(x, y)
    assert "\n" not in str(raised.value)


def test_a_missing_label_among_numbers_is_named():
    y = np.array([*"aba", np.nan, *"babaab"], dtype=object)
    with pytest.raises(ValueError, match="NaN: y is nan in row 3"):
        bz.BNNClassifier(**QUICK).fit(line(10)[0], y)


def test_a_missing_label_among_text_is_named():
    with pytest.raises(ValueError, match="y is None in row 3"):
        bz.BNNClassifier(**QUICK).fit(
            line(10)[0], np.array([*"aba", None, *"babaab"], dtype=object)
        )
