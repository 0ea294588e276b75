"""`make_dataset`: shapes, labels, names, hash, and what is refused with which words."""

import copy
import json
import pickle

import numpy as np
import pandas as pd
import pytest

from bnnzoo.datasets import Dataset, load_dataset, make_dataset
from bnnzoo.errors import CorruptRunError, DataError, InputError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def table(rng):
    return rng.normal(5, 3, (20, 3)), rng.normal(100, 20, 20)


def test_shapes_and_types_as_documented():
    data = make_dataset([1, 2, 3], [[1], [2], [4]], [5], [[6]], task="regression")
    assert (data.x.shape, data.y.shape) == ((3, 1), (3,))
    assert (data.x_test.shape, data.y_test.shape) == ((1, 1), (1,))
    assert data.x.dtype == data.y.dtype == np.float64
    several = make_dataset(np.eye(3), np.eye(3)[:, :2])
    assert several.y.shape == (3, 2)
    assert several.outputs == 2
    assert several.target_names == ("y0", "y1")


def test_images_keep_their_shape(rng):
    images = rng.normal(size=(6, 4, 4, 2))
    images[:, 1, 2, 0] = 7
    data = make_dataset(images, [0, 1, 0, 1, 0, 1], task="classification")
    assert data.in_shape == (4, 4, 2)
    assert data.feature_names == ()
    assert data.scaling.x_mean.shape == (4, 4, 2)
    assert data.warnings == ("feature (1, 2, 0) is constant in the training rows",)


@pytest.mark.parametrize("value", [1e30, -5e4])
def test_a_value_that_makes_all_others_alike_is_said(rng, value):
    x, y = table(rng)
    x[7, 1] = value
    (line,) = make_dataset(x, y, feature_names=["a", "b", "c"][: x.shape[1]]).warnings
    assert line.startswith(f"feature 'b' is {value:g} in training row 7 (rows count from 0)")
    x[7, 1] = 100.0  # far out, and the others are told apart
    assert make_dataset(x, y).warnings == ()


def test_inputs_are_neither_changed_nor_shared(rng):
    x, y = table(rng)
    kept = x.copy(), y.copy()
    truth = {"f": np.zeros(20)}
    data = make_dataset(x, y, truth=truth)
    truth["f"][0] = 1
    np.testing.assert_array_equal(x, kept[0])
    x[0, 0] = y[0] = -1  # the caller's arrays stay writable and are not the data set's
    np.testing.assert_array_equal(data.x, kept[0])
    np.testing.assert_array_equal(data.y, kept[1])


def test_arrays_are_read_only():
    data = load_dataset("gap")
    for array in (data.x, data.y, data.x_test, data.y_test, data.truth["f"], data.scaling.x_std):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(TypeError):
        data.truth["f"] = 0
    with pytest.raises(AttributeError):
        data.x = 0


def test_data_frames_give_names():
    frame = pd.DataFrame({"age": [1.0, 2, 3], "bmi": [4, 5, 7]})
    data = make_dataset(frame, pd.Series([1.5, 2, 3], name="risk"))
    assert data.feature_names == ("age", "bmi")
    assert data.target_names == ("risk",)


@pytest.mark.parametrize(
    ("y", "names", "numbers"),
    [
        (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        ([7, -3, 7], ("-3", "7"), [1, 0, 1]),
        (np.array(["z", "y", "x"], object), ("x", "y", "z"), [2, 1, 0]),
        (pd.Series(["u", "v", "u"], dtype="category"), ("u", "v"), [0, 1, 0]),
        (np.array([[1], [0], [1]]), ("0", "1"), [1, 0, 1]),
    ],
)
def test_labels_are_numbered_in_order(y, names, numbers):
    data = make_dataset(np.arange(3), y)
    assert data.task == "classification"
    assert data.class_names == names
    assert data.y.dtype == np.int64
    np.testing.assert_array_equal(data.y, numbers)


def test_whole_floats_are_labels_only_when_asked():
    y = [1.0, 2.0, 1.0]
    assert make_dataset(np.arange(3), y).task == "regression"
    data = make_dataset(np.arange(3), y, task="classification")
    assert data.class_names == ("1", "2")


def test_inferred_classes_of_whole_numbers_are_said():
    (line,) = make_dataset(np.arange(3), [4, 5, 4]).warnings
    assert "2 classes" in line and "task='regression'" in line
    assert make_dataset(np.arange(3), [4, 5, 4], task="classification").warnings == ()
    assert make_dataset(np.arange(3), [4, 5, 4], task="regression").y.dtype == np.float64


def test_given_class_names_keep_their_order():
    by_name = make_dataset(np.arange(3), ["lo", "hi", "lo"], class_names=["lo", "mid", "hi"])
    np.testing.assert_array_equal(by_name.y, [0, 2, 0])
    assert by_name.class_names == ("lo", "mid", "hi")
    assert by_name.warnings == ("class 'mid' has no training row",)
    by_number = make_dataset(
        np.arange(3), [2, 0, 1], task="classification", class_names=["c", "a", "b"]
    )
    np.testing.assert_array_equal(by_number.y, [2, 0, 1])


def test_a_class_of_test_rows_alone_is_known_and_said():
    data = make_dataset([1, 2, 3], ["a", "b", "a"], [4], ["c"])
    assert data.class_names == ("a", "b", "c")
    assert data.warnings == ("class 'c' has no training row",)
    np.testing.assert_array_equal(data.y_test, [2])


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": [[1, 2], [3, NAN], [5, 6]]}, "x is nan in row 1, column 'b' (rows count from 0)"),
        ({"x": [[1, 2], [3, 4], [-INF, 6]]}, "x is -inf in row 2, column 'a'"),
        ({"x": [[1, 2], [3, "x"], [5, 6]]}, "x is 'x' in row 1, column 'b'"),
        ({"x": np.array([[1, 2], [3, None], [5, 6]])}, "x is None in row 1, column 'b'"),
        ({"x": np.array([[1, 2], [3, "4"], [5, 6]], object)}, "x is '4' in row 1, column 'b'"),
        ({"x": np.ones((3, 2)) * 1j}, "x holds complex128 values"),
        ({"x": [[1, 2], [3], [5, 6]]}, "x is not a table"),
        ({"x": np.ma.masked_equal([[1, 2], [3, 4], [5, 6]], 4)}, "x has masked values"),
        ({"x": np.ones((2, 2))}, "x has 2 rows and y has 3"),
        ({"x": np.ones((1, 2)), "y": [1.0]}, "x has a single row"),
        ({"x": np.ones((0, 2)), "y": []}, "x has no rows"),
        ({"x": np.ones((3, 0)), "feature_names": None}, "x has no features"),
        ({"x": 5.0}, "x has no rows"),
        ({"y": [1.0, NAN, 2.0]}, "y is nan in row 1"),
        ({"y": [1.0, INF, 2.0]}, "y is inf in row 1"),
        ({"y": ["a", NAN, "b"]}, "y is nan in row 1 (rows count from 0); a label is needed"),
        ({"y": np.array(["a", NAN, "b"])}, "y is 'nan' in row 1"),
        ({"y": ["a", "b", 1]}, "y is 1 in row 2 (rows count from 0), a number, and 'a' in row 0"),
        ({"y": ["a", "b", "a"], "task": "regression"}, "y is 'a' in row 0"),
        (
            {"y": [1.0, 3e301, 2.0]},
            "target 'y' is 3e+301 in training row 1 (rows count from 0): its square overflows",
        ),
        (
            {"y": [[1.0, 2], [3, 4], [5, -1e200]], "target_names": ["a", "b"]},
            "target 'b' is -1e+200 in training row 2",
        ),
        (
            {"x_test": np.ones((2, 2)), "y_test": [1.0, 1e160]},
            "target 'y' is 1e+160 in test row 1 (rows count from 0)",
        ),
        ({"y": np.ones((3, 2, 2))}, "y has shape (3, 2, 2)"),
        ({"y": [1, 1, 1], "task": "classification"}, "one class only, 1"),
        ({"y": [0.5, 1, 1], "task": "classification"}, "y is 0.5 in row 0"),
        ({"y": np.eye(3), "task": "classification"}, "one-hot rows: pass y.argmax(1)"),
        ({"y": ["a", None, "b"]}, "y is None in row 1"),
        ({"y": np.array(["a", NAN, "b"], object)}, "y is nan in row 1"),
        ({"y": np.array(["2020-01-01"] * 3, "M8[D]")}, "y holds datetime64[D] values"),
        ({"y": [0, 1, 2], "class_names": ["a", "b"]}, "label 2 is not among the 2 class_names"),
        ({"y": ["a", "c", "b"], "class_names": ["a", "b"]}, "label 'c' is not among"),
        ({"y": ["a", "b", "b"], "class_names": ["a", "a"]}, "class_names holds a name twice"),
        ({"class_names": ["a"]}, "class_names are given for a regression"),
        ({"feature_names": ["a"]}, "1 feature names for 2 features"),
        ({"target_names": ["a", "b"]}, "2 target names for 1 targets"),
        ({"x_test": np.ones((2, 2))}, "x_test is given without y_test"),
        ({"y_test": np.ones(2)}, "y_test is given without x_test"),
        (
            {"x_test": np.ones((2, 3)), "y_test": [1.0, 2]},
            "x_test has 3 features; the data set has 2",
        ),
        ({"x_test": np.ones((2, 2)), "y_test": [1.0]}, "x_test has 2 rows and y_test has 1"),
        ({"x_test": np.ones((0, 2)), "y_test": []}, "x_test has no rows"),
        (
            {"x_test": np.ones((2, 2)), "y_test": np.eye(2)},
            "y_test has shape (2, 2); y has shape (3,)",
        ),
        ({"x_test": [[1, 2], [NAN, 3]], "y_test": [1.0, 2]}, "x_test is nan in row 1, column 'a'"),
        ({"x_test": np.ones((1, 2)), "y": [0, 1, 1], "y_test": ["a"]}, "another type than y"),
        ({"task": "regresion"}, "unknown task 'regresion'; did you mean 'regression'?"),
        ({"scale": "yes"}, "unknown scale 'yes'; choices: auto, none, pooled, standard"),
    ],
)
def test_what_cannot_be_modelled_is_one_clear_line(arguments, words):
    good = {"x": np.arange(6.0).reshape(3, 2), "y": [1.5, 2, 3], "feature_names": ["a", "b"]}
    make_dataset(**good)
    with pytest.raises(InputError) as caught:
        make_dataset(**(good | arguments))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_new_inputs_are_checked_against_the_training_inputs():
    data = make_dataset(np.arange(8.0).reshape(4, 2), np.arange(4.0), feature_names=["a", "b"])
    np.testing.assert_array_equal(data.check_inputs([[1, 2]]), [[1.0, 2.0]])
    with pytest.raises(DataError, match="x has 3 features; the data set has 2 features"):
        data.check_inputs(np.ones((5, 3)))
    with pytest.raises(DataError, match="x has 1 feature; the data set has 2"):
        data.check_inputs(np.ones(5))
    with pytest.raises(DataError, match="x is nan in row 0, column 'b'"):
        data.check_inputs([[1, NAN]])
    with pytest.raises(DataError, match="x has column 'b' where 'a' is expected"):
        data.check_inputs(pd.DataFrame({"b": [1.0], "a": [2.0]}))
    images = make_dataset(np.random.default_rng(0).normal(size=(3, 2, 2)), np.arange(3.0))
    with pytest.raises(
        DataError, match=r"x has 4 features; the data set has rows of shape \(2, 2\)"
    ):
        images.check_inputs(np.ones((1, 4)))


# Hash, metadata


def test_hash_covers_arrays_names_and_task_but_not_name_or_scale(rng):
    x, y = table(rng)
    base = make_dataset(x, y, x, y)
    assert make_dataset(x, y, x, y, name="other", scale="none").hash == base.hash
    changed = x.copy()
    changed[3, 1] = np.nextafter(changed[3, 1], np.inf)
    others = [
        make_dataset(changed, y, x, y),
        make_dataset(x, y, changed, y),
        make_dataset(x, y + 1e-9, x, y),
        make_dataset(x, y),
        make_dataset(x, y, x, y, feature_names=["a", "b", "c"]),
        make_dataset(x, y, x, y, target_names=["z"]),
        make_dataset(x.reshape(20, 3, 1), y, x.reshape(20, 3, 1), y),
    ]
    hashes = {data.hash for data in [base, *others]}
    assert len(hashes) == 1 + len(others)
    labels = [0, 1] * 10
    assert (
        make_dataset(x, labels, task="classification").hash
        != make_dataset(x, labels, task="regression").hash
    )


def test_hash_is_the_same_on_every_machine():
    data = make_dataset([[1, 2], [3, 4]], [0.5, 1.5], feature_names=["a", "b"])
    assert data.hash == "9aef88477d3daf5e31fc531fb0a55571b80b02a6b6254760674472e9dd24ca7a"


def rebuilt(data, metadata=None, **changed):
    fields = {"x": data.x, "y": data.y, "x_test": data.x_test, "y_test": data.y_test} | changed
    metadata = json.loads(json.dumps(data.metadata())) if metadata is None else metadata
    return Dataset.rebuild(metadata, **fields)


@pytest.mark.parametrize("name", ["gap", "iris", "digits", "diabetes"])
def test_rebuilt_from_arrays_and_plain_data(name):
    data = load_dataset(name, scale="standard")
    again = rebuilt(data)
    assert again.hash == data.hash
    assert again.metadata() == data.metadata()
    np.testing.assert_array_equal(again.scaling.x_std, data.scaling.x_std)
    np.testing.assert_array_equal(again.scaling.y_mean, data.scaling.y_mean)
    assert again.truth is None
    assert again.source == data.source == {**data.source, "scale": "standard"}
    assert again.y.dtype == data.y.dtype


def test_rebuilt_from_flattened_images(rng):
    data = make_dataset(rng.normal(size=(5, 2, 3)), np.arange(5.0))
    assert rebuilt(data, x=data.x.reshape(5, 6)).hash == data.hash


def test_rebuilding_other_data_is_refused():
    data = load_dataset("gap")
    with pytest.raises(CorruptRunError, match="'gap' are not those that were recorded"):
        rebuilt(data, x=data.x + 1)
    with pytest.raises(CorruptRunError, match="cannot be rebuilt: 'task'"):
        rebuilt(data, metadata={})
    with pytest.raises(CorruptRunError, match="cannot be rebuilt"):
        rebuilt(data, metadata=data.metadata() | {"in_shape": [7]})


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))])
def test_copies_travel_whole(clone):
    data = load_dataset("gap")
    again = clone(data)
    assert again.hash == data.hash
    np.testing.assert_array_equal(again.truth["f"], data.truth["f"])
    assert not again.x.flags.writeable
