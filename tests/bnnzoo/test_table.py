"""A user's own table: encoding, missing values, targets, the split, and what is kept of it all."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from bnnzoo.datasets import Dataset, load_dataset, load_inputs, make_dataset
from bnnzoo.datasets._split import split_classes, split_rows
from bnnzoo.errors import CorruptRunError, DataError, DataWarning, OptionError, UnknownNameError


@pytest.fixture
def write(tmp_path):
    def write(text, name="t.csv"):
        file = tmp_path / name
        file.write_text(text)
        return file

    return write


def test_tabs_stand_between_the_cells_of_a_tsv(write):
    rows = "".join(f"{i},5\t{i * i}\n" for i in range(12))
    data = load_dataset(
        write("a, b\ty\n" + rows.replace(",5", ".5"), "t.TSV"), target="y", task="regression"
    )
    assert data.feature_names == ("a, b",) and not data.warnings
    assert set(np.r_[data.x[:, 0], data.x_test[:, 0]]) == {i + 0.5 for i in range(12)}


HOLES = "colour,n,flag,y\n" + "".join(
    f"{['red', 'blue', '', 'green', 'red'][i % 5]},{'' if i % 4 == 1 else i * i},"
    f"{['true', 'false', 'true', ''][i % 4]},{i / 3}\n"
    for i in range(20)
)


# Missing values


def test_missing_values_are_filled_in_from_the_training_rows_alone(write):
    data = load_dataset(write(HOLES), target="y", missing="impute", test_size=0.4, seed=2)
    names = ["colour=blue", "colour=green", "colour=red", "colour is missing"]
    assert list(data.feature_names) == [*names, "n", "n is missing", "flag", "flag is missing"]
    x = {name: data.x[:, k] for k, name in enumerate(data.feature_names)}
    row = np.round(data.y * 3).astype(int)
    np.testing.assert_array_equal(x["colour is missing"], row % 5 == 2)
    np.testing.assert_array_equal(data.x[:, :4].sum(axis=1), 1)
    there = row % 4 != 1
    np.testing.assert_array_equal(x["n"][there], (row * row)[there])
    np.testing.assert_array_equal(x["n"][~there], np.median((row * row)[there]))
    np.testing.assert_array_equal(x["n is missing"], ~there)
    assert set(x["flag"][row % 4 == 3]) == {1.0}  # true twice as often as false
    test = np.round(data.y_test * 3).astype(int)
    filled = data.x_test[test % 4 == 1, data.feature_names.index("n")]
    assert len(filled) and set(filled) == {np.median((row * row)[there])}
    np.testing.assert_allclose(data.scaling.x_mean, data.x.mean(axis=0))  # scaled after


def test_what_was_filled_in_is_said_with_counts(write):
    data = load_dataset(write(HOLES), target="y", missing="impute", test_size=0)
    assert [line for line in data.warnings if "missing" in line] == [
        "column 'colour' is missing in 4 of 20 training rows: a category of their own, feature"
        " 'colour is missing'",
        "column 'n' is missing in 5 of 20 training rows: filled in with the median, 100, and"
        " feature 'n is missing'",
        "column 'flag' is missing in 5 of 20 training rows: filled in with the most frequent"
        " value, 1, and feature 'flag is missing'",
    ]


def test_a_value_missing_in_test_rows_alone_makes_no_feature(write):
    rows = [f"{'u' if i % 3 else 'v'},{i},{i / 2}" for i in range(20)]
    _, (hole, *_) = split_rows(20, 0.1, 0)
    rows[hole] = f",,{hole / 2}"
    data = load_dataset(write("c,n,y\n" + "\n".join(rows)), missing="impute")
    assert data.feature_names == ("c=u", "c=v", "n")
    row = np.flatnonzero(data.y_test == hole / 2)
    median = np.median(data.x[:, 2])
    np.testing.assert_array_equal(data.x_test[row], [[1, 0, median]])
    assert (
        f"column 'n' is missing in 0 of 18 training rows and 1 of 2 test rows: filled in with the"
        f" median, {median:g}" in data.warnings
    )


def test_new_rows_are_filled_in_as_the_training_rows_were(write):
    data = load_dataset(write(HOLES), target="y", missing="impute", test_size=0)
    new = load_inputs(write("n,flag,colour\n,,\n4,FALSE,blue\n", "new.csv"), data)
    np.testing.assert_array_equal(new, [[0, 0, 0, 1, 100, 1, 1, 1], [1, 0, 0, 0, 4, 0, 0, 0]])


def test_a_column_without_a_training_value_is_refused(write):
    rows = [f"{i},,{i / 2}" for i in range(20)]
    _, (only, *_) = split_rows(20, 0.1, 0)
    rows[only] = f"1,5,{only / 2}"
    with pytest.raises(DataError, match="column 'b' has no value in any training row"):
        load_dataset(write("a,b,y\n" + "\n".join(rows)), missing="impute")


def test_imputation_and_categories_agree_with_scikit_learn(write):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(80, 3)), columns=["p", "q", "r"])
    frame["c"] = rng.choice(["x", "y", "z"], 80)
    frame["y"] = np.arange(80) / 7
    frame = frame.mask((rng.uniform(size=frame.shape) < 0.2) & (frame.columns != "y"))
    file = write(frame.to_csv(index=False))
    data = load_dataset(file, target="y", missing="impute", seed=3)
    train, test = split_rows(80, 0.1, 3)
    numbers = SimpleImputer(strategy="median", add_indicator=True)
    wanted = numbers.fit(frame[["p", "q", "r"]].iloc[train]).transform(frame[["p", "q", "r"]])
    names = ["p", "q", "r", "p is missing", "q is missing", "r is missing"]
    at = [data.feature_names.index(name) for name in names]
    np.testing.assert_array_equal(data.x[:, at], wanted[train])
    np.testing.assert_array_equal(data.x_test[:, at], wanted[test])
    texts = frame[["c"]].astype(object)
    texts = texts.where(texts.notna(), None)
    wanted = OneHotEncoder(sparse_output=False).fit(texts.iloc[train]).transform(texts)
    at = [data.feature_names.index(name) for name in ("c=x", "c=y", "c=z", "c is missing")]
    np.testing.assert_array_equal(data.x[:, at], wanted[train])
    np.testing.assert_array_equal(data.x_test[:, at], wanted[test])


# Categories


def test_columns_are_taken_as_categories_or_left_out_when_asked(write):
    file = write("zip,id,n,y\n08001,a,1,0.5\n8001,b,2,1.5\n08001,c,3,2.5\n")
    options = {"target": "y", "test_size": 0, "categorical": "zip", "drop": ["id"]}
    data = load_dataset(file, **options)
    assert data.feature_names == ("zip=08001", "zip=8001", "n")
    np.testing.assert_array_equal(load_inputs(file, data), data.x)  # no warning of id
    with pytest.raises(DataError, match="'id' holds 3 different texts in 3 rows"):
        load_dataset(file, **options | {"drop": ()})
    assert load_dataset(file, **options | {"drop": [], "categorical": ["id"]}).x.shape == (3, 5)
    for option in ("categorical", "drop"):
        with pytest.raises(UnknownNameError, match=r"unknown column .* 'zipp'; did you mean 'zip'"):
            load_dataset(file, **options | {option: "zipp"})
        with pytest.raises(OptionError, match=f"data.{option} = 3: should be the name of a column"):
            load_dataset(file, **options | {option: 3})
    with pytest.raises(DataError, match="'y' is the target and cannot be left out"):
        load_dataset(file, **options | {"drop": "y"})
    with pytest.raises(DataError, match="no feature columns besides y, id, zip, n"):
        load_dataset(file, **options | {"drop": ["id", "zip", "n"], "categorical": ()})


def test_a_category_of_test_rows_alone_is_said(write):
    rows = [f"{'u' if i % 3 else 'v'},{i / 2}" for i in range(20)]
    _, (only, *_) = split_rows(20, 0.1, 0)
    rows[only] = f"w,{only / 2}"
    data = load_dataset(write("c,y\n" + "\n".join(rows)))
    assert data.feature_names == ("c=u", "c=v", "c=w")
    assert "category 'w' of column 'c' has no training row" in data.warnings
    assert data.x_test[:, 2].sum() == 1


def test_columns_of_true_and_false_are_one_feature(write):
    data = load_dataset(write("a,b,y\nTrue,1,0.5\nfalse,2,1.5\nTRUE,3,2.5\n"), test_size=0)
    np.testing.assert_array_equal(data.x[:, 0], [1, 0, 1])
    np.testing.assert_array_equal(load_inputs(write("a,b\ntrue,1\n", "n.csv"), data), [[1, 1]])
    with pytest.raises(DataError, match="line 2, column 'a' is 'yes'; true or false is needed"):
        load_inputs(write("a,b\nyes,1\n", "n.csv"), data)


# Targets


@pytest.mark.parametrize("target", [["v", "u"], ("v", "u"), "v,u", "v, u"])
def test_several_targets_are_a_regression(write, target):
    file = write("u,a,v\n1,2,3\n4,5,6\n7,8,10\n")
    data = load_dataset(file, target=target, test_size=0)
    assert (data.task, data.target_names, data.outputs) == ("regression", ("v", "u"), 2)
    np.testing.assert_array_equal(data.y, [[3, 1], [6, 4], [10, 7]])
    assert data.warnings == ("no task given: regression, of 2 targets",)
    np.testing.assert_array_equal(load_inputs(file, data), data.x)
    again = load_dataset(data.name, **json.loads(json.dumps(dict(data.source))))
    assert again.metadata() == data.metadata()
    assert load_dataset(file, target=target, test_size=0, task="regression").warnings == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": ["u", "v"], "task": "classification"}, "one target; 2 are given: u, v"),
        ({"target": ["u", "c"]}, "line 2, column 'c' is 'x'; a number is needed"),
        ({"target": ["u", "w"]}, "unknown column of .* 'w'; choices: a, c, u, v"),
        ({"target": ["u", "u", "a"]}, "names column 'u' more than once"),
        ({"target": []}, "data.target = .*: should name a column"),
        ({"target": ""}, "data.target = '': should name a column"),
        ({"target": 3}, "data.target = 3: should be the name of a column, or a list of names"),
        ({"target": [3]}, "data.target = .3.: should be the name of a column"),
        ({"missing": "fill"}, "data.missing = 'fill': should be 'refuse' or 'impute'"),
    ],
)
def test_targets_that_cannot_be(write, options, words):
    file = write("u,a,v,c\n1,2,3,x\n4,5,6,y\n7,8,10,x\n")
    with pytest.raises((DataError, UnknownNameError, OptionError), match=words):
        load_dataset(file, test_size=0, **options)


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["no", "yes", "no", "b"], ("b", "no", "yes"), [1, 2, 1, 0]),
        (["10", "9", "10", "-1"], ("-1", "9", "10"), [2, 1, 2, 0]),
        (["1.0", "2.0", "1.0", "2.0"], ("1", "2"), [0, 1, 0, 1]),
        (["false", "true", "true", "false"], ("false", "true"), [0, 1, 1, 0]),
        (["1", "2", "2", "3+"], ("1", "2", "3+"), [0, 1, 1, 2]),
        (["9007199254740993", "9007199254740992"] * 2, None, [1, 0, 1, 0]),
    ],
)
def test_labels_are_numbered_in_order_and_named(write, labels, classes, numbers):
    text = "a,y\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels))
    data = load_dataset(write(text), task="classification", test_size=0)
    assert data.class_names == (classes or tuple(sorted(set(labels))))
    np.testing.assert_array_equal(data.y, numbers)


def test_fractions_are_no_labels(write):
    text = "a,y\n1,1\n2,1.5\n3,1\n"
    with pytest.raises(DataError, match=r"line 3, column 'y' is 1\.5; labels are whole numbers"):
        load_dataset(write(text), task="classification", test_size=0)


def test_a_rare_class_is_said(write):
    text = "a,y\n" + "".join(f"{i},{'rare' if i < 5 else 'common'}\n" for i in range(100))
    data = load_dataset(write(text), test_size=0)
    assert (
        "classes are unbalanced: 'rare' has 5 of 100 training rows, less than a fifth of an equal"
        " share" in data.warnings
    )
    data = load_dataset(write(text.replace("common", "rare", 5)), test_size=0)  # 10 of 100
    assert not any("unbalanced" in line for line in data.warnings)


# The split of classes


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    test_size=st.floats(0, 0.9),
    seed=st.integers(0, 5),
)
def test_every_class_keeps_a_training_row(counts, test_size, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    n = len(labels)
    held_out = int(np.ceil(round(n * test_size, 6)))
    if n - held_out < max(2, len(counts)):
        with pytest.raises(DataError):
            split_classes(labels, test_size, seed)
        return
    train, test = split_classes(labels, test_size, seed)
    assert sorted([*train, *test]) == list(range(n))
    assert len(test) == held_out
    given_up = np.bincount(labels[test], minlength=len(counts))
    share = np.array(counts) * held_out / n
    assert (np.bincount(labels[train], minlength=len(counts)) >= 1).all()
    assert (given_up >= np.floor(share)).all()
    capped = np.array(counts) - 1 < np.ceil(share)  # of these the last row is kept
    if not capped.any():
        assert (given_up <= np.ceil(share)).all()
    again = split_classes(labels, test_size, seed)
    np.testing.assert_array_equal(train, again[0])
    np.testing.assert_array_equal(test, again[1])


def test_splits_of_classes_are_in_proportion_and_follow_the_seed():
    labels = np.repeat(["a", "b"], [80, 20])
    _, test = split_classes(labels, 0.1, 0)
    assert sorted(labels[test]) == ["a"] * 8 + ["b"] * 2
    chosen = {tuple(split_classes(labels, 0.1, seed)[1]) for seed in range(20)}
    assert len(chosen) == 20
    times = np.bincount(
        np.concatenate([split_classes(labels, 0.1, seed)[1] for seed in range(2000)]), minlength=100
    )
    # Binomial(2000, 0.1) has standard deviation 13.4: 100 rows within 5 of them.
    assert np.abs(times - 200).max() < 67


def test_a_class_of_one_row_is_trained_on(write):
    text = "a,y\n" + "".join(f"{i},{'x' if i == 7 else 'uv'[i % 2]}\n" for i in range(20))
    for seed in range(10):
        data = load_dataset(write(text), test_size=0.5, seed=seed)
        assert (data.rows, data.test_rows) == (10, 10)
        assert set(data.y) == {0, 1, 2}


def test_a_class_that_cannot_keep_a_training_row_is_named(write):
    text = "a,y\n1,u\n2,u\n3,u\n4,v\n5,v\n6,w\n"
    with pytest.raises(DataError, match=r"class 'w' \(1 row\) may have no training row: .* leaves"):
        load_dataset(write(text), test_size=0.6)


# What is kept


def test_the_encoding_is_kept_and_rebuilt(write):
    data = load_dataset(write(HOLES), target="y", missing="impute", drop=["flag"])
    plain = json.loads(json.dumps(data.metadata()))
    again = Dataset.rebuild(plain, data.x, data.y, data.x_test, data.y_test)
    assert again.encoding == data.encoding
    assert again.metadata() == data.metadata()
    new = write("colour,n\n,3\nred,\n", "new.csv")
    np.testing.assert_array_equal(load_inputs(new, again), load_inputs(new, data))
    plain["encoding"]["columns"].reverse()
    with pytest.raises(CorruptRunError, match="not those that were recorded"):
        Dataset.rebuild(plain, data.x, data.y, data.x_test, data.y_test)
    plain["encoding"]["columns"][0]["size"] = 3
    with pytest.raises(CorruptRunError, match="cannot be rebuilt"):
        Dataset.rebuild(plain, data.x, data.y, data.x_test, data.y_test)


def test_a_data_set_of_arrays_takes_tables_by_the_names_of_its_features(write):
    data = load_dataset("iris")
    names = data.feature_names
    file = write(",".join([*names[::-1], "x"]) + "\n1,2,3,4,5\n")
    with pytest.warns(DataWarning, match="passed over.*'x'"):
        np.testing.assert_array_equal(load_inputs(file, data), [[4, 3, 2, 1]])
    images = make_dataset(np.random.default_rng(0).normal(size=(3, 2, 2)), np.arange(3.0))
    with pytest.raises(ValueError, match=r"rows of 'arrays' have shape \(2, 2\); no table holds"):
        load_inputs(file, images)
    with pytest.raises(ValueError, match=r"of files, only \.csv, \.tsv, \.parquet, \.pq are read"):
        load_inputs("new.txt", data)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
CELLS = {
    "number": st.floats(-1e300, 1e300),
    "whole": st.integers(-9, 9),
    "boolean": st.booleans(),
    "text": TEXTS.map(lambda text: f"_{text.strip()}"),
}


@st.composite
def tables(draw):
    rows = draw(st.integers(6, 15))
    columns = {}
    for k in range(draw(st.integers(1, 4))):
        cells = draw(st.sampled_from(list(CELLS.values())))
        choice = draw(st.lists(cells, min_size=1, max_size=4))  # few values, or a name each row
        column = draw(st.lists(st.sampled_from(choice), min_size=rows, max_size=rows))
        holes = draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
        if not all(holes):
            column = [None if hole else c for c, hole in zip(column, holes, strict=True)]
        columns[f"c{k}{draw(TEXTS).strip()}"] = column
    return pd.DataFrame(columns | {"target": np.arange(rows) / 7}, dtype=object)


@given(frame=tables())
def test_the_rows_of_a_table_come_back_as_its_inputs(frame, tmp_path_factory):
    file = tmp_path_factory.mktemp("table") / "t.csv"
    frame.to_csv(file, index=False)
    texts = [name for name in frame if any(isinstance(cell, str) for cell in frame[name])]
    options = {"missing": "impute", "test_size": 0, "separator": ",", "categorical": texts}
    data = load_dataset(file, target="target", **options)
    np.testing.assert_array_equal(load_inputs(file, data), data.x)
    assert data.encoding.names == tuple(frame.columns[:-1])
    for column in data.encoding.columns:  # by another way: decoded again
        at = [data.feature_names.index(name) for name in column.features]
        for cell, features in zip(frame[column.name], data.x[:, at], strict=True):
            assert decoded(column, features) == as_read(cell)


def as_read(cell):
    if cell is None:
        return None
    return cell.strip() if isinstance(cell, str) else float(cell)


def decoded(column, features):
    if column.indicator and features[-1]:
        return None
    if column.kind == "text":
        (k,) = np.flatnonzero(features)
        return column.categories[k]
    return features[0]
