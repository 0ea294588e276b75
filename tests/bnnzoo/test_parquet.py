"""Parquet files and data frames: columns with types, encoded as those of a CSV file are."""

import datetime
import decimal
import sys

import numpy as np
import pandas as pd
import pytest

from bnnzoo.datasets import load_dataset, load_inputs, make_dataset
from bnnzoo.errors import DataError, DataWarning, InputError, OptionError, UnknownNameError

FRAME = pd.DataFrame(
    {
        "colour": ["red", None, "blue", "red", "red", "blue"],
        "n": [1, 2, 3, 4, 5, 7],
        "half": [0.5, np.nan, 1.5, 2.5, 3.5, 9.5],
        "flag": [True, False, True, True, False, False],
        "y": [0.25, 1.5, 2.5, 3.5, 4.5, 5.5],
    }
)


@pytest.fixture
def parquet(tmp_path):
    pytest.importorskip("pyarrow")

    def write(frame, name="t.parquet", **options):
        file = tmp_path / name
        frame.to_parquet(file, **options)
        return file

    return write


@pytest.mark.parametrize("name", ["t.parquet", "t.pq", "T.PQ"])
def test_a_parquet_file_gives_what_the_same_csv_file_gives(parquet, tmp_path, name):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    options = {"target": "y", "missing": "impute", "test_size": 0.2}
    data = load_dataset(parquet(FRAME, name), **options)
    plain = load_dataset(tmp_path / "t.csv", **options)
    assert data.hash == plain.hash
    assert data.encoding == plain.encoding
    assert data.warnings == plain.warnings
    for rows in (tmp_path / name, tmp_path / "t.csv"):
        np.testing.assert_array_equal(load_inputs(rows, data), load_inputs(rows, plain))
    assert load_dataset(data.name, **data.source).metadata() == data.metadata()


@pytest.mark.parametrize(
    "types",
    [
        {"colour": "category", "n": "int8", "half": "float32"},
        {"colour": "string", "n": "Int64", "half": "Float64", "flag": "boolean"},
        {"colour": "object", "n": "uint16", "half": "object", "flag": "object"},
        {"n": "int64[pyarrow]", "half": "double[pyarrow]", "flag": "bool[pyarrow]"},
        {"colour": "string[pyarrow]", "n": "object"},
    ],
)
def test_types_of_pandas_make_no_difference(parquet, types):
    options = {"target": "y", "missing": "impute", "test_size": 0}
    plain = load_dataset(parquet(FRAME), **options)
    typed = FRAME.astype(types)
    assert load_dataset(parquet(typed), **options).hash == plain.hash
    x = typed.drop(columns="y")
    made = make_dataset(x, FRAME["y"], missing="impute", task="regression")
    assert made.hash == plain.hash
    np.testing.assert_array_equal(made.check_inputs(x), made.x)


def test_missing_numbers_of_nullable_types_are_missing(parquet):
    frame = pd.DataFrame({"n": pd.array([1, None, 2**40], "Int64"), "y": [0.5, 1.5, 2.5]})
    with pytest.raises(DataError, match=r"t\.parquet: row 2, column 'n' is missing"):
        load_dataset(parquet(frame), test_size=0)
    data = load_dataset(parquet(frame), missing="impute", test_size=0)
    np.testing.assert_array_equal(data.x, [[1, 0], [(1 + 2**40) / 2, 1], [2**40, 0]])


def test_an_index_is_no_column(parquet):
    data = load_dataset(parquet(FRAME.set_index("n")), missing="impute", target="y")
    assert "n" not in data.encoding.names


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (
            pd.date_range("2020-01-01", periods=3),
            "column 'a' is '2020-01-01 00:00:00', a date",
        ),
        (pd.date_range("2020-01-01", periods=3, tz="UTC"), "a date or time; give it as numbers"),
        (pd.to_timedelta([1, 2, 3], "s"), "a date or time; give it as numbers, such as days"),
        ([None, datetime.date(2020, 1, 31), None], "row 2, column 'a' is '2020-01-31', a date"),
        (["2020-01-31", "2020-02-01", None], "row 1, column 'a' is '2020-01-31', a date"),
        ([2**53 + 1, 2, 3], "row 1, column 'a' is 9007199254740993, which float64 cannot hold"),
        (
            np.array([1, 2, 2**64 - 1], np.uint64),
            "column 'a' is 18446744073709551615, which",
        ),
        ([1.0, np.inf, 2.0], "row 2, column 'a' is inf"),
        ([[1], [2], [3]], "row 1, column 'a' holds a"),
        ([b"1", b"2", b"3"], "row 1, column 'a' holds a bytes; numbers, text or booleans"),
        (["1", "2", "3"], "row 1, column 'a' is '1', a number written as text; convert"),
        (["1", "2", "x"], "row 3, column 'a' is 'x'; a number is needed; categorical=['a']"),
        (["u", "v", "w"], "column 'a' holds 3 different texts in 3 rows"),
        ([None, None, None], "column 'a' has no value in any row; leave it out"),
    ],
)
def test_columns_that_are_no_features_are_one_clear_line(parquet, column, words):
    with pytest.raises(DataError) as caught:
        load_dataset(parquet(pd.DataFrame({"a": column, "y": [0.5, 1.5, 2.5]})), missing="impute")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_parquet_are_one_clear_line(parquet, tmp_path, monkeypatch):
    file = tmp_path / "t.parquet"
    with pytest.raises(InputError, match=r"no such file: .*t\.parquet"):
        load_dataset(file)
    parquet(FRAME)
    with pytest.raises(InputError, match=r"did you mean 't\.parquet'"):
        load_dataset(tmp_path / "tt.parquet")
    whole = file.read_bytes()
    for content in (b"", b"a,y\n1,2\n", whole[:-20], b"PAR1" + bytes(50) + b"PAR1"):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"t\.parquet cannot be read as Parquet: ") as caught:
            load_dataset(file)
        assert "\n" not in str(caught.value)
    for column in (b'"index_columns"', b'"pandas_version"'):  # what pandas adds, as JSON
        broken = whole.replace(column, column[:-1] + b"\xff")
        assert broken != whole
        file.write_bytes(broken)
        with pytest.raises(DataError, match=r"t\.parquet cannot be read as Parquet: "):
            load_dataset(file)
    with pytest.raises(DataError, match="has no rows"):
        load_dataset(parquet(FRAME.iloc[:0]))
    with pytest.raises(DataError, match="one column, 'n'; a target and a feature are needed"):
        load_dataset(parquet(FRAME[["n"]]))
    with pytest.raises(OptionError, match=r"data\.separator"):
        load_dataset(parquet(FRAME), separator=";")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow \(pip install 'bnnzoo\[parquet\]'\)"):
        load_dataset(file)


def test_two_columns_of_a_name_are_refused(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    one = pa.array([1.0, 2.0])
    pq.write_table(pa.Table.from_arrays([one, one, one], names=["a", "a", "y"]), tmp_path / "t.pq")
    with pytest.raises(DataError, match=r"t\.pq: columns 1 and 2 are both named 'a'"):
        load_dataset(tmp_path / "t.pq")


def test_folders_in_the_path_make_no_columns(tmp_path, parquet):
    (tmp_path / "year=2020").mkdir()
    file = parquet(FRAME, "year=2020/t.parquet")
    assert "year" not in load_dataset(file, target="y", missing="impute").encoding.names


def test_labels_of_a_parquet_file(parquet):
    frame = FRAME.assign(label=pd.Series(list("baabab"), dtype="category"), n=[1, 0] * 3)
    options = {"test_size": 0, "missing": "impute"}
    assert load_dataset(parquet(frame), **options).class_names == ("a", "b")
    assert load_dataset(parquet(frame), target="flag", **options).class_names == ("False", "True")
    data = load_dataset(parquet(frame), target="n", **options)
    assert (data.task, data.class_names) == ("classification", ("0", "1"))
    frame["n"] = frame["n"].astype(float)  # a quantity by its type
    assert load_dataset(parquet(frame), target="n", **options).task == "regression"


# Data frames


def test_text_columns_of_a_frame_become_features():
    x = FRAME[["colour", "n"]].fillna("none")
    data = make_dataset(x, FRAME["y"], x.iloc[[0, 1]], FRAME["y"].iloc[[0, 1]])
    assert data.feature_names == ("colour=blue", "colour=none", "colour=red", "n")
    np.testing.assert_array_equal(data.x_test, data.x[:2])
    assert "column 'colour' holds text: 3 columns of 0 and 1" in data.warnings
    new = pd.DataFrame({"n": [9.0], "colour": ["red"]})  # in any order
    np.testing.assert_array_equal(data.check_inputs(new), [[0, 0, 1, 9]])
    encoded = pd.DataFrame(data.x, columns=data.feature_names)
    np.testing.assert_array_equal(data.check_inputs(encoded), data.x)
    np.testing.assert_array_equal(data.check_inputs(data.x), data.x)


def test_a_category_of_test_rows_alone_is_a_feature():
    x = pd.DataFrame({"c": ["u", "v", "u"]})
    data = make_dataset(x, [0.5, 1, 2], pd.DataFrame({"c": ["w"]}), [1.5])
    assert data.feature_names == ("c=u", "c=v", "c=w")
    assert "category 'w' of column 'c' has no training row" in data.warnings
    np.testing.assert_array_equal(data.x_test, [[0, 0, 1]])


def test_test_rows_are_filled_in_from_the_training_rows():
    x = pd.DataFrame({"a": [1.0, 2, 6]})
    for hole in (np.nan, None):
        data = make_dataset(x, [0.5, 1, 2], pd.DataFrame({"a": [hole]}), [1.5], missing="impute")
        np.testing.assert_array_equal(data.x_test, [[2]])


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ({"a": [1, 2, np.nan]}, "x: row 2 (from 0), column 'a' is missing; missing='impute' fills"),
        ({"a": [1, "x", 3]}, "x: row 1 (from 0), column 'a' is 'x', text, and a number, 1, stands"),
        ({"a": [1.5, True, 3]}, "column 'a' is True, a boolean, and a number, 1.5, stands above"),
        ({"a": [1, 2, 3 + 1j]}, "x: row 0 (from 0), column 'a' holds a complex128"),
        ({"a": [1, 2, 10**400]}, "which float64 cannot hold exactly"),
        ({}, "x has no columns"),
        ({"a": []}, "x has no rows"),
    ],
)
def test_frames_that_cannot_be_modelled_are_one_clear_line(x, words):
    with pytest.raises(DataError) as caught:
        make_dataset(pd.DataFrame(x), [0.5, 1, 2])
    assert words in str(caught.value)


def test_decimals_are_numbers():
    x = pd.DataFrame({"a": [decimal.Decimal("1.5"), decimal.Decimal(2), None]})
    data = make_dataset(x, [0.5, 1, 2], missing="impute")
    np.testing.assert_array_equal(data.x, [[1.5, 0], [2, 0], [1.75, 1]])


def test_frames_of_other_columns_are_refused():
    x = FRAME[["n", "flag"]]
    data = make_dataset(x, FRAME["y"])
    with pytest.raises(DataError, match="x has no column 'flag'; did you mean 'flags'"):
        data.check_inputs(x.rename(columns={"flag": "flags"}))
    with pytest.raises(DataError, match="x has column 'm', which the data set was not made of"):
        data.check_inputs(x.assign(m=1))
    with pytest.raises(DataError, match="x has 3 features; the data set has 2"):
        data.check_inputs(np.ones((1, 3)))
    with pytest.raises(DataError, match=r"x: row 1 \(from 0\), column 'n' is missing, and missing"):
        data.check_inputs(pd.DataFrame({"n": [1, None], "flag": [True, False]}))
    with pytest.raises(DataError, match="x_test has no column 'n'"):
        make_dataset(x, FRAME["y"], x.rename(columns={"n": "m"}), FRAME["y"])
    with pytest.raises(DataError, match="x has no column 'm'; choices: flag, n"):
        make_dataset(x, FRAME["y"], x.assign(m=1), FRAME["y"])
    with pytest.raises(DataError, match="x_test: column 'n' holds text, and in x number"):
        make_dataset(x, FRAME["y"], x.assign(n="u"), FRAME["y"])
    with pytest.raises(DataError, match="columns 1 and 2 are both named 'n'"):
        make_dataset(FRAME[["n", "n"]], FRAME["y"])


def test_options_of_frames_are_refused_for_arrays():
    with pytest.raises(OptionError, match="missing and categorical are for x as a data frame"):
        make_dataset(np.ones((3, 1)), [0.5, 1, 2], missing="impute")
    with pytest.raises(OptionError, match="missing and categorical are for"):
        make_dataset(np.ones((3, 1)), [0.5, 1, 2], categorical=["x0"])
    with pytest.raises(OptionError, match="unknown missing 'fill'"):
        make_dataset(FRAME[["n"]], FRAME["y"], missing="fill")
    with pytest.raises(UnknownNameError, match="unknown column of x 'm'; choices: n"):
        make_dataset(FRAME[["n"]], FRAME["y"], categorical=["m"])
    data = make_dataset(FRAME[["n"]], FRAME["y"], categorical=["n"])
    assert data.feature_names[:2] == ("n=1", "n=2")
    np.testing.assert_array_equal(data.check_inputs(pd.DataFrame({"n": [2.0]}))[0], np.eye(6)[1])


def test_other_columns_of_a_file_are_passed_over_and_said(parquet, tmp_path):
    data = make_dataset(FRAME[["n"]], FRAME["y"])
    with pytest.warns(
        DataWarning, match="passed over, as no feature of 'arrays': 'colour', 'half'"
    ):
        new = load_inputs(parquet(FRAME), data)
    np.testing.assert_array_equal(new, data.x)
