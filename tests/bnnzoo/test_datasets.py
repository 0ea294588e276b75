"""Data sets by name, their splits, and the scaling a model sees."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bnnzoo.datasets import Dataset, Scaling, load_dataset, make_dataset
from bnnzoo.datasets._split import split_rows
from bnnzoo.datasets.gap import CLUSTERS, curve
from bnnzoo.errors import DataError, InputError, OptionError, UnknownNameError
from bnnzoo.registry import get, list_names

BUNDLED = {
    "breast-cancer": ("classification", 569, 30, 2),
    "diabetes": ("regression", 442, 10, 1),
    "digits": ("classification", 1797, 64, 10),
    "iris": ("classification", 150, 4, 3),
    "wine": ("classification", 178, 13, 3),
}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def table(rng, rows=20, features=3):
    return rng.normal(5, 3, (rows, features)), rng.normal(100, 20, rows)


# Entries


@pytest.mark.parametrize("name", list(BUNDLED))
def test_bundled_sets_have_the_rows_scikit_learn_has(name):
    task, rows, features, outputs = BUNDLED[name]
    data = load_dataset(name)
    assert data.task == task
    assert (data.rows + data.test_rows, data.in_shape) == (rows, (features,))
    assert data.test_rows == -(-rows // 10)
    assert data.outputs == outputs
    assert len(data.feature_names) == features
    assert len(data.class_names) == (outputs if task == "classification" else 0)
    assert data.name == name
    assert data.hash == load_dataset(name).hash != load_dataset(name, seed=1).hash


def test_a_data_set_says_its_sizes_in_a_line():
    one = make_dataset(np.zeros((1200, 3)), np.arange(1200.0), name="table")
    sizes = "rows=1200, test_rows=0, in_shape=(3,), outputs=1"
    assert repr(one) == f"<Dataset table: regression, {sizes}>"
    assert "classification, rows=1617, test_rows=180" in repr(load_dataset("digits"))


def test_source_and_name_repeat_the_data_set(tmp_path):
    data = load_dataset("wine", seed=5)
    assert data.source == {"test_size": 0.1, "seed": 5, "scale": "auto"}
    assert load_dataset(data.name, **data.source).hash == data.hash
    (tmp_path / "t.csv").write_text("a,y\n1,0.5\n2,1.5\n3,2.5\n")
    data = load_dataset(tmp_path / "t.csv", target="a", test_size=0, task="regression")
    assert load_dataset(data.name, **data.source).metadata() == data.metadata()
    assert make_dataset([1, 2], [0.5, 1]).source == {}


def test_every_row_of_a_bundled_set_is_in_training_or_test_once():
    from sklearn.datasets import load_iris

    data, raw = load_dataset("iris", test_size=0.25, seed=3), load_iris()
    got = np.column_stack([np.vstack([data.x, data.x_test]), np.hstack([data.y, data.y_test])])
    want = np.column_stack([raw.data, raw.target])
    np.testing.assert_array_equal(got[np.lexsort(got.T)], want[np.lexsort(want.T)])
    assert data.class_names == tuple(raw.target_names)


def test_diabetes_is_in_original_units():
    data = load_dataset("diabetes")
    assert 40 < data.x[:, 0].mean() < 60  # age in years, which scikit-learn scales by default
    assert set(np.unique(data.x[:, 1])) == {1.0, 2.0}


def test_constant_pixels_of_digits_are_named():
    (warning,) = load_dataset("digits").warnings
    assert "constant" in warning
    assert "'pixel_0_0'" in warning


def test_gap_has_no_training_row_in_the_gap_and_test_rows_across_it():
    data = load_dataset("gap", n=41, noise=0.05)
    (a, b), (c, d) = CLUSTERS
    x = data.x[:, 0]
    assert data.x.shape == (41, 1)
    assert np.all(((a <= x) & (x <= b)) | ((c <= x) & (x <= d)))
    assert (x < 0).sum() == 20
    inside = (data.x_test > b) & (data.x_test < c)
    assert inside.sum() > 10
    assert data.x_test.min() < a < d < data.x_test.max()
    noise = np.concatenate([data.y - curve(x), data.y_test - data.truth["f_test"]])
    assert 0.04 < noise.std() < 0.06
    np.testing.assert_array_equal(data.truth["f"], curve(x))


def test_seeds_change_synthetic_data():
    for name in list_names("datasets", source="synthetic"):
        assert load_dataset(name, seed=1).hash == load_dataset(name, seed=1).hash
        assert load_dataset(name, seed=1).hash != load_dataset(name, seed=2).hash


@pytest.mark.parametrize("name", list_names("datasets", download=False))
def test_every_entry_makes_a_data_set_of_the_task_on_its_card(name):
    entry = get("datasets", name)
    data = entry.build({})
    assert isinstance(data, Dataset)
    assert data.task in entry.card.tags["task"]  # text, or a tuple of texts
    assert data.name == name
    assert entry.card.parameters


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test_siez": 0.1}, ["data.test_siez", "did you mean 'test_size'"]),
        ({"test_size": 1.0}, ["data.test_size", "1.0"]),
        ({"test_size": -0.1}, ["data.test_size"]),
        ({"test_size": float("nan")}, ["data.test_size"]),
        ({"seed": -1}, ["data.seed"]),
        ({"scale": "standrad"}, ["data.scale", "'standrad'", "'standard'"]),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(OptionError) as caught:
        load_dataset("iris", **options)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_unknown_names_get_the_nearest():
    with pytest.raises(
        UnknownNameError, match="unknown dataset 'diabets'; did you mean 'diabetes'"
    ):
        load_dataset("diabets")


def test_other_files_are_not_read(tmp_path):
    file = tmp_path / "table.xlsx"
    file.write_bytes(b"x")
    with pytest.raises(InputError, match=r"of files, only \.csv, \.tsv, \.parquet, \.pq are read"):
        load_dataset(file)


# Splitting


@given(rows=st.integers(3, 200), test_size=st.floats(0, 0.6), seed=st.integers(0, 5))
def test_split_holds_every_row_once(rows, test_size, seed):
    assume(rows - np.ceil(rows * test_size) >= 2)
    train, test = split_rows(rows, test_size, seed)
    assert sorted([*train, *test]) == list(range(rows))
    assert rows * test_size - 1e-6 * rows <= len(test) < rows * test_size + 1


def test_a_tenth_of_thirty_is_three_and_zero_is_none():
    assert len(split_rows(30, 0.1, 0)[1]) == 3
    assert load_dataset("iris", test_size=0).x_test is None


def test_a_split_that_leaves_one_row_is_refused():
    with pytest.raises(DataError, match=r"3 rows, and test_size = 0\.5 leaves 1 of them"):
        split_rows(3, 0.5, 0)


# Scaling


def test_training_rows_are_standardised_and_come_back(rng):
    x, y = table(rng)
    data = make_dataset(x, y)
    scaled, target = data.scaling.transform_x(data.x), data.scaling.transform_y(data.y)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0), 1)
    np.testing.assert_allclose((target.mean(), target.std()), (0, 1), atol=1e-12)
    np.testing.assert_allclose(data.scaling.inverse_y(target), y)
    np.testing.assert_allclose(data.scaling.inverse_y(np.ones(3), std=True), np.std(y))


def test_a_test_row_changes_nothing_in_the_scaling(rng):
    (x, y), (x_test, y_test) = table(rng), table(rng, rows=5)
    before = make_dataset(x, y, x_test, y_test, task="regression")
    x_test[0] = 1e6
    y_test[0] = -1e6
    after = make_dataset(x, y, x_test, y_test, task="regression")
    assert before.hash != after.hash
    for name in ("x_mean", "x_std", "y_mean", "y_std"):
        np.testing.assert_array_equal(
            getattr(before.scaling, name), getattr(after.scaling, name), strict=True
        )


def test_a_row_of_the_table_that_falls_in_the_test_set_does_not_touch_the_scaling(tmp_path, rng):
    frame = pd.DataFrame(rng.normal(size=(30, 3)), columns=["a", "b", "y"])
    held_out = split_rows(30, 0.2, 4)[1][0]
    scalings = []
    for value in (0.0, 1e9):
        frame.loc[held_out, :] = value
        frame.to_csv(tmp_path / "t.csv", index=False)
        data = load_dataset(tmp_path / "t.csv", target="y", test_size=0.2, seed=4)
        assert value in data.x_test
        scalings.append(data.scaling)
    np.testing.assert_array_equal(scalings[0].x_mean, scalings[1].x_mean)
    np.testing.assert_array_equal(scalings[0].y_std, scalings[1].y_std)


@pytest.mark.parametrize(
    ("scale", "zoo", "handwritten"),
    [("auto", True, False), ("standard", True, True), ("none", False, False)],
)
def test_scale_says_which_models_see_standardised_data(rng, scale, zoo, handwritten):
    data = make_dataset(*table(rng), scale=scale)
    for by_hand, standardised in ((False, zoo), (True, handwritten)):
        scaling = data.scaling_for(handwritten=by_hand)
        changed = not np.array_equal(scaling.transform_x(data.x), data.x)
        assert changed == standardised
        assert (float(scaling.y_std) != 1) == standardised


def test_constant_columns_have_std_one_and_are_named(rng):
    x, y = table(rng)
    x[:, 1] = 0.1  # a mean of tenths is not exactly a tenth
    data = make_dataset(x, y, feature_names=["a", "b", "c"])
    assert data.warnings == ("feature 'b' is constant in the training rows",)
    assert data.scaling.x_std[1] == 1
    assert np.all(data.scaling.transform_x(data.x)[:, 1] == 0)


def test_many_constant_columns_are_one_line():
    x = np.ones((5, 30))
    x[:, 0] = range(5)
    (line,) = make_dataset(x, np.arange(5.0)).warnings
    assert line.startswith("29 features are constant in the training rows: 'x1', 'x2'")
    assert line.endswith("'x8' and 21 more")


def test_a_constant_target_is_safe_and_named():
    data = make_dataset(np.arange(4.0), np.full(4, 3.5))
    assert data.warnings == ("target 'y' is constant in the training rows",)
    assert float(data.scaling.y_std) == 1


@pytest.mark.parametrize("size", [1e-250, 1e250])
def test_extreme_units_scale_like_any_other(rng, size):
    x, y = table(rng)
    ordinary, extreme = make_dataset(x, y).scaling, make_dataset(x * size, y).scaling
    np.testing.assert_allclose(extreme.x_std, ordinary.x_std * size)
    np.testing.assert_allclose(extreme.x_mean, ordinary.x_mean * size)


@given(arrays(np.float64, (7, 2), elements=st.floats(-1e6, 1e6)))
@example(np.array([[5e-324, 0.0]] + [[0.0, 0.0]] * 6))  # its standard deviation rounds to 0
def test_scaling_is_finite_and_undone(x):
    data = make_dataset(np.arange(7.0), x, task="regression")
    target = data.scaling.transform_y(data.y)
    assert np.all(np.isfinite(target))
    np.testing.assert_allclose(data.scaling.inverse_y(target), data.y, atol=1e-9)


def test_class_numbers_are_not_scaled():
    data = make_dataset(np.arange(4.0), [0, 1, 2, 1], task="classification")
    scaled = data.scaling.transform_y(data.y)
    np.testing.assert_array_equal(scaled, [0, 1, 2, 1])
    assert scaled.dtype == np.int64
    assert data.scaling.y_mean.shape == ()


def test_identity_changes_nothing():
    scaling = Scaling.identity((2,), (3,))
    x, y = np.random.default_rng(0).normal(size=(2, 4, 3))
    np.testing.assert_array_equal(scaling.transform_x(x[:, :2]), x[:, :2])
    np.testing.assert_array_equal(scaling.inverse_y(scaling.transform_y(y)), y)


def test_no_heavy_import_before_it_is_needed():
    code = (
        "import sys, bnnzoo.datasets, bnnzoo.metrics, bnnzoo.store;"
        "print([m for m in ('jax', 'pandas', 'sklearn', 'xarray', 'zarr') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_pooled_scaling_has_one_mean_and_one_std():
    x = np.random.default_rng(0).normal(3.0, [1.0, 5.0, 20.0], size=(50, 3))
    scaling = make_dataset(x, x[:, 0], task="regression", scale="pooled").scaling_for(False)
    np.testing.assert_allclose(scaling.x_mean, np.full(3, x.mean()))
    np.testing.assert_allclose(scaling.x_std, np.full(3, x.std()))
    np.testing.assert_allclose(scaling.y_std, x[:, 0].std())
    own = make_dataset(x, x[:, 0], task="regression", scale="pooled").scaling_for(True)
    np.testing.assert_array_equal(own.x_std, scaling.x_std)  # asked for, so hand-written ones too


def test_images_are_standardised_by_channel():
    x = np.random.default_rng(0).normal([0.0, 9.0], [1.0, 4.0], size=(30, 5, 4, 2))
    x[:, 0, 0] = 0.0  # a corner that never varies is scaled as its channel is
    scaling = make_dataset(x, np.arange(30) % 2, task="classification").scaling
    assert scaling.x_mean.shape == scaling.x_std.shape == (5, 4, 2)
    np.testing.assert_allclose(scaling.x_mean, np.broadcast_to(x.mean((0, 1, 2)), (5, 4, 2)))
    np.testing.assert_allclose(scaling.x_std, np.broadcast_to(x.std((0, 1, 2)), (5, 4, 2)))
