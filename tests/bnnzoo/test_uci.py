"""The UCI tables: their splits, their columns, and what is refused."""

import hashlib
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bnnzoo import registry
from bnnzoo.datasets import load_dataset
from bnnzoo.datasets._uci_tables import TABLES
from bnnzoo.datasets.uci import standard_split
from bnnzoo.errors import InputError, OptionError
from tests.bnnzoo._own_files import OwnFolder, refused

OWN = Path(os.environ.get("BNNZOO_DATA", "nowhere")).expanduser()
needs_files = pytest.mark.skipif(
    not (OWN / "uci").is_dir(), reason="BNNZOO_DATA names no folder that holds uci/"
)

# Rows, features, rows that repeat another one (counting all columns), constant features.
FACTS = {
    "airfoil": (1503, 5, 0, 0),
    "bikesharing": (17379, 12, 0, 0),
    "boston": (506, 13, 0, 0),
    "concrete": (1030, 8, 25, 0),
    "energy": (768, 8, 0, 0),
    "ionosphere": (351, 33, 1, 0),
    "kin8nm": (8192, 8, 0, 0),
    "naval": (11934, 16, 0, 2),
    "power": (9568, 4, 41, 0),
    "protein": (45730, 9, 1711, 0),
    "wine": (1599, 11, 240, 0),
    "yacht": (308, 6, 0, 0),
}

# SHA-256 (its first half) of training and test row numbers, little-endian int64.
SPLITS = {
    (506, 0): ("f90d42c67bfb086a", "ba5d1dc381ff60c0"),
    (506, 19): ("0734aa0277628d30", "448b50e5128bc11f"),
    (45730, 0): ("a9376b8fa5f5c0af", "afbf525c0e7a4934"),
    (45730, 4): ("1ec80b4797b63da0", "918f3f4b8abf9e1b"),
}


def shortened_hash(rows):
    return hashlib.sha256(np.asarray(rows, "<i8").tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(("rows", "split"), SPLITS)
def test_splits_are_what_they_were(rows, split):
    found = tuple(shortened_hash(part) for part in standard_split(rows, split))
    assert found == SPLITS[rows, split]


@pytest.mark.parametrize("rows", [308, 455, 506, 1599, 9568])
def test_splits_follow_the_published_script(rows):
    """The protocol as it is published, with the global generator and draws without replacement."""
    state = np.random.get_state()
    try:
        np.random.seed(1)
        naive = [np.random.choice(range(rows), rows, replace=False) for _ in range(20)]
    finally:
        np.random.set_state(state)
    size = math.floor(0.9 * rows + 0.5)
    for split, order in enumerate(naive):
        train, test = standard_split(rows, split)
        np.testing.assert_array_equal(train, order[:size])
        np.testing.assert_array_equal(test, order[size:])


def test_every_table_has_a_card_that_says_what_matters():
    names = registry.list_names("datasets", source="uci")
    assert names == [f"uci/{name}" for name in sorted(FACTS)]
    notes = {name: registry.describe("datasets", f"uci/{name}").notes for name in FACTS}
    assert "ethical" in notes["boston"]
    assert "1711 rows repeat" in notes["protein"]
    assert "240 rows repeat" in notes["wine"]
    assert "heating load" in notes["energy"]
    assert "constant" in notes["naval"]
    ours = {name for name, text in notes.items() if "are ours" in text}
    assert ours == {"airfoil", "bikesharing", "ionosphere"}
    for name, table in TABLES.items():
        assert (table.rows, len(table.columns) - 1) == FACTS[name][:2]
        assert len(set(table.columns)) == len(table.columns)
        assert table.file.url.startswith("https://")
        assert len(table.file.sha256) == 64


@needs_files
@pytest.mark.parametrize("name", sorted(FACTS))
def test_real_tables_are_what_their_cards_say(name):
    rows, features, repeated, constant = FACTS[name]
    data = load_dataset(f"uci/{name}")
    assert data.x.shape == (math.floor(0.9 * rows + 0.5), features)
    assert data.rows + data.test_rows == rows
    assert data.outputs == (2 if name == "ionosphere" else 1)
    whole = load_dataset(f"uci/{name}", split=None)
    assert whole.rows == rows
    assert whole.x_test is None
    table = np.column_stack([whole.x, whole.y])
    assert rows - len(np.unique(table, axis=0)) == repeated
    assert (np.ptp(whole.x, axis=0) == 0).sum() == constant
    train, test = standard_split(rows, 0)
    np.testing.assert_array_equal(data.x, whole.x[train])
    np.testing.assert_array_equal(data.y_test, whole.y[test])


@needs_files
def test_targets_are_the_ones_named():
    energy = load_dataset("uci/energy", split="all").y
    # UCI's Y1, the heating load, begins 15.55, 15.55, 15.55, 15.55, 20.84 and is at most 43.1;
    # Y2, the cooling load, begins 21.33.
    np.testing.assert_array_equal(energy[:5], [15.55, 15.55, 15.55, 15.55, 20.84])
    assert energy.max() == 43.1
    naval = load_dataset("uci/naval", split="all").y
    assert (naval.min(), naval.max()) == (0.95, 1.0)  # the turbine's decay is 0.975 to 1
    ionosphere = load_dataset("uci/ionosphere", split="all")
    assert ionosphere.class_names == ("bad", "good")
    np.testing.assert_array_equal(np.bincount(ionosphere.y), [126, 225])
    bicycles = load_dataset("uci/bikesharing", split="all")
    np.testing.assert_array_equal(bicycles.x[:, 0], np.arange(1, 17380))  # instant
    np.testing.assert_array_equal(np.unique(bicycles.x[:, 3]), range(24))  # hr


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A function that puts a small table in the place of a real one."""
    own = OwnFolder(tmp_path, monkeypatch)

    def put(name, text, rows=20):
        file = own.put(TABLES[name].file, text.encode())
        monkeypatch.setitem(TABLES, name, replace(TABLES[name], file=file, rows=rows))

    return put


def text_of(values):
    return "\n".join("  ".join(f"{v:.7e}" for v in row) for row in values) + "\n\n"


def test_a_small_table_goes_the_whole_way(small):
    values = np.random.default_rng(0).normal(size=(20, 5))
    small("power", text_of(values))
    data = load_dataset("uci/power", split=3, scale="none")
    train, test = standard_split(20, 3)
    np.testing.assert_allclose(data.x, values[train, :4], rtol=1e-7)
    np.testing.assert_allclose(data.y_test, values[test, 4], rtol=1e-7)
    assert data.feature_names == ("temperature", "exhaust_vacuum", "pressure", "humidity")
    assert data.target_names == ("output",)
    assert data.scale == "none"
    assert dict(data.source) == {"split": 3, "scale": "none"}
    assert load_dataset("uci/power").hash != data.hash
    whole = load_dataset("uci/power", split=None)
    assert whole.rows == 20
    assert load_dataset("uci/power", **whole.source).hash == whole.hash


def test_the_last_column_of_naval_is_not_used(small):
    values = np.random.default_rng(0).normal(size=(20, 18))
    small("naval", text_of(values))
    data = load_dataset("uci/naval", split="all")
    np.testing.assert_allclose(data.y, values[:, 16], rtol=1e-7)
    assert data.in_shape == (16,)


def test_labels_keep_their_numbers(small):
    values = np.random.default_rng(0).normal(size=(20, 34))
    values[:, -1] = np.arange(20) % 2
    small("ionosphere", text_of(values))
    data = load_dataset("uci/ionosphere", split="all")
    assert data.task == "classification"
    np.testing.assert_array_equal(data.y, np.arange(20) % 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2 3\n4 5 x\n", ["is not a table of numbers", "x"]),
        ("1 2 3 4 5\n1 2 3\n", ["is not a table of numbers"]),
        ("1 2 3 4 5\n1 2 3 4 5\n", ["has 2 rows and 5 columns", "20 and 5 are expected"]),
        ("1 2 3\n" * 20, ["has 20 rows and 3 columns", "20 and 5 are expected"]),
        ("1 2 3 4 nan\n" * 20, ["y is nan"]),
    ],
)
def test_tables_that_are_no_tables_are_refused(small, text, words):
    small("power", text)
    refused(words, "uci/power")


def test_without_the_file_the_line_says_where_it_belongs(tmp_path, monkeypatch):
    OwnFolder(tmp_path, monkeypatch)
    words = ["uci/yacht.txt", "https://", "BNNZOO_DATA", "BNNZOO_OFFLINE"]
    refused(words, "uci/yacht", InputError)


@pytest.mark.parametrize(
    ("name", "split", "highest"),
    [
        ("uci/boston", 20, 19),
        ("uci/protein", 5, 4),
        ("uci/boston", -1, 19),
        ("uci/boston", 1.5, 19),
    ],
)
def test_splits_that_do_not_exist_are_refused(name, split, highest):
    with pytest.raises(OptionError, match=rf"data\.split = .*from 0 to {highest}, or 'all'"):
        load_dataset(name, split=split)
