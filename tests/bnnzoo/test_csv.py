"""CSV files: what is inferred is said, what cannot be read is named."""

import numpy as np
import pytest

from bnnzoo.datasets import load_dataset, load_inputs
from bnnzoo.errors import BnnzooError, DataError, InputError, OptionError, UnknownNameError


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "t.csv is empty"),
        ("a,y\n", "t.csv has a header and no rows"),
        ("a,y\n1,0.5\n", "1 row"),
        ("a\n1\n2\n", "t.csv has one column, 'a'; are commas its separators?"),
        ("a;y\n1;2\n3;4\n", "one column, 'a;y'"),
        ("a,y\n1,0.5\n,1.5\n3,2.5\n", "data row 2, column 'a' is missing"),
        ("a,y\n1,0.5\n2,1.5\n3,NaN\n", "data row 3, column 'y' is missing"),
        ("a,y\n1,0.5\ninf,1.5\n3,2.5\n", "data row 2, column 'a' is inf"),
        ("a,y\n1,0.5\n2,-inf\n3,2.5\n", "data row 2, column 'y' is -inf"),
        ("a,y\n1,0.5\n2x,1.5\n3,2.5\n", "data row 2, column 'a' is '2x'; a number is needed"),
        ("a,y\n1,0.5\n2,1.5\n3,?\n4,2.5\n", "data row 3, column 'y' is '?'; a number is needed"),
        ("a,y\nu,1.5\nv,2.5\nw,3.5\n", "column 'a' holds 3 different texts in 3 rows"),
        ("a,y\n1,2\n3,4,5,6\n", "t.csv is not a table of comma-separated values"),
        (b"a,y\n1,\xff\xfe\n2,3\n", "t.csv is not UTF-8 text"),
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
    new = load_inputs(write("note,n,colour\nhello,5,red\n,7,blue\n", "new.csv"), data)
    np.testing.assert_array_equal(new, [[0, 1, 5], [1, 0, 7]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nn,colour\n5,red\n", "has no column 'n'; did you mean 'nn'"),
        ("n,color\n5,red\n", "has no column 'colour'; did you mean 'color'"),
        ("n,colour\n5,rde\n", "data row 1, column 'colour' is 'rde'; did you mean 'red'"),
        ("n,colour\n5,red\n,red\n", "data row 2, column 'n' is missing"),
        ("n,colour\n5,red\n6,\n", "data row 2, column 'colour' is missing"),
        ("n,colour\nx,red\n", "column 'n' is 'x'; a number is needed"),
        ("n,colour\n", "a header and no rows"),
    ],
)
def test_inputs_that_do_not_fit_are_named(write, text, words):
    data = load_dataset(write(COLOURS), target="y")
    with pytest.raises(BnnzooError) as caught:
        load_inputs(write(text, "new.csv"), data)
    assert words in str(caught.value)
