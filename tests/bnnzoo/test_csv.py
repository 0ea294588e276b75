"""CSV files: what is inferred is said, what cannot be read is named."""

import pickle

import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.datasets import load_dataset, load_inputs
from bnnzoo.errors import (
    BnnzooError,
    DataError,
    DataWarning,
    InputError,
    OptionError,
    UnknownNameError,
)


@pytest.fixture
def write(tmp_path):
    def write(text, name="t.csv"):
        file = tmp_path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


ROWS = "a,b,y\n" + "".join(f"{i},{i * i},{i / 4}\n" for i in range(20))


def test_the_last_column_is_the_target_and_that_is_said(write):
    file = write(ROWS)
    data = load_dataset(file)
    assert data.feature_names == ("a", "b")
    assert data.target_names == ("y",)
    assert data.task == "regression"
    assert data.name == str(file)
    assert (data.rows, data.test_rows) == (18, 2)
    assert data.warnings == (
        "no target given: predicting the last column, 'y'",
        "no task given: regression, from column 'y'",
    )


def test_a_named_target_and_task_need_no_words(write):
    data = load_dataset(str(write(ROWS)), target="a", task="regression", test_size=0)
    assert data.warnings == ()
    np.testing.assert_array_equal(data.y, np.arange(20))
    assert data.feature_names == ("b", "y")


@pytest.mark.parametrize(
    ("labels", "task", "classes"),
    [
        (["no", "yes"], "classification", ("no", "yes")),
        (["True", "False"], "classification", ("False", "True")),
        ([3, 1], "classification", ("1", "3")),
        ([0.5, 1.5], "regression", ()),
        (range(20), "regression", ()),
    ],
)
def test_the_task_follows_from_the_target(write, labels, task, classes):
    labels = list(labels)
    rows = "".join(f"{i},{labels[i % len(labels)]}\n" for i in range(20))
    data = load_dataset(write("x,y\n" + rows))
    assert data.task == task
    assert data.class_names == classes
    assert any(f"no task given: {task}" in line for line in data.warnings)


def test_zeros_and_ones_are_classes_however_few_the_rows(write):
    data = load_dataset(write("x,y\n1,0\n2,1\n3,1\n4,0\n"), test_size=0)
    assert data.class_names == ("0", "1")


def test_text_features_become_columns_of_zero_and_one(write):
    rows = "".join(f"{'red' if i % 3 else 'blue'},{i},{i / 3}\n" for i in range(12))
    data = load_dataset(write("colour,n,y\n" + rows), target="y", test_size=0)
    assert data.feature_names == ("colour=blue", "colour=red", "n")
    np.testing.assert_array_equal(data.x[:, 0], [i % 3 == 0 for i in range(12)])
    np.testing.assert_array_equal(data.x[:, 0] + data.x[:, 1], 1)
    assert "column 'colour' holds text: 2 columns of 0 and 1" in data.warnings


def test_spaces_quotes_and_a_byte_order_mark_are_read(write):
    text = '\ufeff"first, a", y\n1, 0.5\n2, 1.5\n3, 2.25\n'
    data = load_dataset(write(text), test_size=0)
    assert data.feature_names == ("first, a",)
    np.testing.assert_array_equal(data.y, [0.5, 1.5, 2.25])


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("separator", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")]
)
def test_separators_and_line_ends_are_found(write, separator, name, ends):
    plain = load_dataset(write(ROWS))
    file = write(ROWS.replace(",", separator).replace("\n", ends), "other.csv")
    data = load_dataset(file)
    assert data.hash == plain.hash
    assert data.warnings[0] == f"{file} has {name} between its cells"
    assert load_dataset(file, separator=separator).warnings == plain.warnings
    np.testing.assert_array_equal(load_inputs(file, plain), load_inputs(write(ROWS), data))


def test_a_given_separator_is_taken_and_kept_for_new_rows(write):
    file = write("a;x,y\n1;5\n2;6\n4;7.5\n")  # a comma in a name would be taken for the separator
    data = load_dataset(file, separator=";", test_size=0)
    assert data.feature_names == ("a",)
    assert data.target_names == ("x,y",)
    np.testing.assert_array_equal(load_inputs(file, data), data.x)
    for separator in (";;", "", '"', "\n"):
        with pytest.raises(OptionError, match=r"data\.separator = .*: should be one character"):
            load_dataset(file, separator=separator)
    blanks = write("a y\n1 5\n2 6\n4 7.5\n")
    with pytest.raises(DataError, match="'a y'; a target and a feature are needed; separator says"):
        load_dataset(blanks)
    np.testing.assert_array_equal(load_dataset(blanks, separator=" ", test_size=0).y, [5, 6, 7.5])


def test_decimal_commas_are_read_when_asked_for(write):
    file = write("a;y\n1,5;-2,25\n3;4,5e1\n,5;0\n")
    data = load_dataset(file, decimal=",", test_size=0)
    np.testing.assert_array_equal(data.x[:, 0], [1.5, 3, 0.5])
    np.testing.assert_array_equal(data.y, [-2.25, 45, 0])
    np.testing.assert_array_equal(load_inputs(file, data), data.x)
    with pytest.raises(DataError, match=r"line 3, column 'a' is '1\.5'; .*decimal=',' is set"):
        load_dataset(write("a;y\n1,5;2\n1.5;2\n3;4\n"), decimal=",")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "t.csv is empty"),
        ("\n  \n", "t.csv is empty"),
        ("a,y\n", "t.csv has a header and no rows"),
        ("a,y\n1,0.5\n", "1 row"),
        ("a\n1\n2\n", "t.csv has one column, 'a'; a target and a feature are needed"),
        ("a,y\n1,0.5\n,1.5\n3,2.5\n", "t.csv: line 3, column 'a' is missing; missing='impute'"),
        ("a,y\n1,0.5\n2,1.5\n3,NaN\n", "line 4, column 'y' is missing; every row needs its target"),
        ("a,y\nu,no\nu,\nv,yes\n", "line 3, column 'y' is missing; every row needs its target"),
        ("a,y\n1,0.5\ninf,1.5\n3,2.5\n", "line 3, column 'a' is inf"),
        ("a,y\n1,0.5\n2,-inf\n3,2.5\n", "line 3, column 'y' is -inf"),
        ("a,y\n1,0.5\n1e999,1.5\n3,2.5\n", "line 3, column 'a' is inf"),
        (
            "a,y\n1,0.5\n2x,1.5\n3,2.5\n",
            "line 3, column 'a' is '2x'; a number is needed; categorical=['a']",
        ),
        ("a,y\nu,0.5\nv,1.5\n12,2.5\n", "line 4, column 'a' is '12'; a number among text"),
        (
            "a,y\n1,0.5\n2,1.5\n3,?\n4,2.5\n",
            "line 4, column 'y' is '?'; a number is needed; task='classification'",
        ),
        (
            "a,y\nu,1.5\nv,2.5\nw,3.5\n",
            "column 'a' holds 3 different texts in 3 rows; leave it",
        ),
        ("a,y\n1,u\n2,v\n3,w\n", "column 'y' holds 3 different texts in 3 rows; a class needs"),
        ("a,y\n1,no\n2,no\n3,no\n", "column 'y' holds one class only, 'no'"),
        ("a,y\n,1.5\n,2.5\n,3.5\n", "column 'a' has no value in any row"),
        ("a,y\n1,2\n3,4,5,6\n", "t.csv: line 3 has 4 cells; the header has 2"),
        ("a,y\n1,2\n\n3\n", "t.csv: line 4 has 1 cell; the header has 2"),
        ('a,y\n"1\n1",2\n3,4,5\n', "t.csv: line 4 has 3 cells"),
        ("a,y\n1,5,2\n", "t.csv: line 2 has 3 cells"),
        ('a,y\n1,2\n"3,4\n5,6\n', "t.csv: a quote in line 3 is never closed"),
        ('a,y\n"' + "3,4\n" * 40_000, "t.csv: a quote in line 2 is never closed"),
        ('a,y\n1,2\n"3"3,4\n', "t.csv: line 3 cannot be read: ',' expected after '\"'"),
        ("a,a,y\n1,2,3\n", "t.csv: columns 1 and 2 are both named 'a'"),
        ("a, a ,y\n1,2,3\n", "t.csv: columns 1 and 2 are both named 'a'"),
        (",a,y\n0,2,3\n", "t.csv: column 1 has no name (pandas writes its index so"),
        ("1,2.5\n3,4.5\n", "t.csv: line 1 holds numbers; a header with a name a column is needed"),
        ("a;y\n1,5;2,5\n3,25;4\n", "column 'y' is '2,5'; a number is needed (with decimal commas:"),
        (
            "a,y\n2020-01-31,1.5\n2020-02-29,2.5\n",
            "column 'a' is '2020-01-31', a date or time",
        ),
        ("a,y\n31.1.2020,1.5\n1.2.2020 10:30,2.5\n", "line 2, column 'a' is '31.1.2020', a date"),
        ("a,y\n10:30,1.5\n11:30:59.5,2.5\n", "line 2, column 'a' is '10:30', a date or time"),
        (
            "a,y\n1,2\n9007199254740993,1.5\n2,2.5\n",
            "is 9007199254740993, which float64 cannot hold",
        ),
        (
            "a=b,a,y\n1,b,1.5\n2,c,2.5\n3,b,4.5\n",
            "two columns would make a feature 'a=b'",
        ),
        (b"a,y\n1,2\n2,\xff\xfe\n2,3\n", "t.csv: line 3 is not UTF-8 text; save the file as UTF-8"),
        ("a,y\n1,2\n".encode("utf-16"), "t.csv: line 1 is not UTF-8 text"),
        (b"a,y\n1,2\n2,\0\n", "t.csv: line 3 holds a zero byte; this is no text file"),
    ],
)
def test_bad_files_are_one_clear_line(write, text, words):
    with pytest.raises(DataError) as caught:
        load_dataset(write(text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_is_no_regression_target(write):
    file = write("a,y\n1,u\n2,v\n3,u\n")
    with pytest.raises(DataError, match="column 'y' is 'u'; a number is needed"):
        load_dataset(file, task="regression")


def test_a_row_that_cannot_be_modelled_is_named_by_its_line(write):
    lines = [f"{i},{i % 7}" for i in range(40)]
    lines[22] = "22,-3"  # behind a header: line 24
    data = load_dataset(write("\n".join(["a,y", *lines]) + "\n"), task="regression")
    with pytest.raises(DataError, match=r"y of data set '.*' is -3 in .*t\.csv: line 24; like"):
        bz.make_model(likelihood="poisson").bind(data)
    copied = pickle.loads(pickle.dumps(data))
    (row,) = np.flatnonzero(data.y == -3)
    assert copied.place(int(row)).endswith("line 24")
    lines[22] = "22,1e9"
    data = load_dataset(write("\n".join(["a,y", *lines]) + "\n"), task="regression")
    assert any("'y' is 1e+09 in" in said and "line 24, where" in said for said in data.warnings)


def test_a_missing_file_is_named_with_its_nearest(write, tmp_path):
    write(ROWS, "table.csv")
    with pytest.raises(InputError, match=r"no such file: .*tabel\.csv; did you mean 'table\.csv'"):
        load_dataset(tmp_path / "tabel.csv")
    with pytest.raises(InputError, match="no such file"):
        load_dataset(tmp_path / "nowhere" / "t.csv")


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(InputError, match=r"cannot read .*d\.csv: is a directory"):
        load_dataset(tmp_path / "d.csv")


def test_unknown_columns_and_options_get_the_nearest(write):
    file = write(ROWS.replace("y", "yield"))
    with pytest.raises(UnknownNameError, match="'yeild'; did you mean 'yield'"):
        load_dataset(file, target="yeild")
    with pytest.raises(OptionError, match=r"data\.traget .*did you mean 'target'"):
        load_dataset(file, traget="y")
    with pytest.raises(OptionError, match=r"data\.task"):
        load_dataset(file, task="clustering")


COLOURS = "colour,n,y\n" + "".join(f"{'red' if i % 3 else 'blue'},{i},{i / 3}\n" for i in range(9))


def test_inputs_for_prediction_follow_the_training_columns(write):
    data = load_dataset(write(COLOURS), target="y")
    file = write("note,y,n,colour\nhello,,5,red\n,x,7,blue\n", "new.csv")
    with pytest.warns(DataWarning) as said:  # of the note alone: y is the target
        new = load_inputs(file, data)
    np.testing.assert_array_equal(new, [[0, 1, 5], [1, 0, 7]])
    (line,) = said
    assert str(line.message).endswith(f"passed over, as no feature of {data.name!r}: 'note'")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nn,colour\n5,red\n", "has no column 'n'; did you mean 'nn'"),
        ("n,color\n5,red\n", "has no column 'colour'; did you mean 'color'"),
        (
            "n,colour\n5,rde\n",
            "line 2, column 'colour' is 'rde', a category unknown",
        ),
        ("n,colour\n5,rde\n", "unknown to the data set, which has blue, red"),
        ("n,colour\n5,red\n,red\n", "line 3, column 'n' is missing, and missing values are not"),
        ("n,colour\n5,red\n6,\n", "line 3, column 'colour' is missing"),
        ("n,colour\nx,red\n", "column 'n' is 'x'; a number is needed"),
        ("n,colour\n", "a header and no rows"),
    ],
)
def test_inputs_that_do_not_fit_are_named(write, text, words):
    data = load_dataset(write(COLOURS), target="y")
    with pytest.raises(BnnzooError) as caught:
        load_inputs(write(text, "new.csv"), data)
    assert words in str(caught.value)
