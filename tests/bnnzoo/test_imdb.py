"""IMDB: words, their numbers, and archives that are not what they should be."""

import numpy as np
import pytest

from bnnzoo.datasets import imdb, load_dataset
from bnnzoo.errors import OptionError
from tests.bnnzoo._own_files import OwnFolder, refused, tar, without

REVIEWS = {
    "train/neg/0_2.txt": "Bad, bad BAD film.<br /><br />It's worse",
    "train/neg/2_1.txt": "the worst film",
    "train/neg/10_3.txt": "dull",
    "train/pos/0_9.txt": "A good film: the best!",
    "train/pos/2_10.txt": "good",
    "train/pos/10_8.txt": "fine film, the end",
    "test/neg/0_1.txt": "unseen film",
    "test/pos/0_7.txt": "good",
}


@pytest.fixture
def put_imdb(tmp_path, monkeypatch):
    """A function that puts these reviews in the place of the real ones."""
    own = OwnFolder(tmp_path, monkeypatch)

    def put(reviews=REVIEWS):
        files = {f"aclImdb/{name}": text for name, text in reviews.items()}
        files = {k: v if isinstance(v, bytes) else v.encode() for k, v in files.items()}
        files |= {"aclImdb/train/unsup/0_0.txt": b"film " * 99, "aclImdb/README": b"film " * 99}
        monkeypatch.setattr(imdb, "FILE", own.put(imdb.FILE, tar(files, "w:gz")))

    return put


def test_imdb(put_imdb):
    put_imdb()
    data = load_dataset("imdb", length=6, vocabulary=5)
    assert data.class_names == ("negative", "positive")
    assert data.scale == "none"
    # In the training rows: film 4 times, bad and the 3, good 2, all others once. So 2 is film,
    # 3 bad, 4 the; everything else is 1. By number of review, 10 after 2, the classes alternating.
    np.testing.assert_array_equal(
        data.x,
        [
            [3, 3, 3, 2, 1, 1],  # bad bad bad film it's worse
            [1, 1, 2, 4, 1, 0],  # a good film the best
            [4, 1, 2, 0, 0, 0],  # the worst film
            [1, 0, 0, 0, 0, 0],  # good
            [1, 0, 0, 0, 0, 0],  # dull
            [1, 2, 4, 1, 0, 0],  # fine film the end
        ],
    )
    np.testing.assert_array_equal(data.y, [0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(data.x_test[:, :3], [[1, 2, 0], [1, 0, 0]])
    np.testing.assert_array_equal(data.y_test, [0, 1])


def test_the_vocabulary_is_of_the_training_rows_taken(put_imdb):
    put_imdb()
    data = load_dataset("imdb", length=3, train_rows=2)
    # bad 3, film 2, then once each: a best good it's the worse.
    np.testing.assert_array_equal(data.x, [[2, 2, 2], [4, 6, 3]])
    np.testing.assert_array_equal(data.x_test, [[1, 3, 0], [6, 0, 0]])
    put_imdb(REVIEWS | {"test/neg/0_1.txt": "film " * 50, "test/pos/0_7.txt": "unseen " * 50})
    again = load_dataset("imdb", length=3, train_rows=2)
    np.testing.assert_array_equal(again.x, data.x)
    refused(["data.train_rows = 7", "6 rows"], "imdb", OptionError, train_rows=7)
    refused(["data.vocabulary = 2"], "imdb", OptionError, vocabulary=2)


def test_words():
    text = "It's 'quoted', well-known; Don't<br />END 10/10 é"
    assert imdb.tokens(text) == ["it's", "quoted", "well", "known", "don't", "end", "10", "10"]


def test_broken_reviews_are_refused(put_imdb):
    put_imdb(without(REVIEWS, "test/pos"))
    refused(["has no reviews in aclImdb/test/pos"], "imdb")
    put_imdb(REVIEWS | {"test/pos/0_7.txt": b"\xff\xfe"})
    refused(["test/pos/0_7.txt", "is not UTF-8 text"], "imdb")
