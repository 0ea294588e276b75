"""Film reviews from IMDB as sequences of word numbers."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated

import numpy as np
from pydantic import Field

from bnnzoo.datasets._archive import read_members
from bnnzoo.datasets._dataset import Dataset
from bnnzoo.datasets._make import make_dataset
from bnnzoo.datasets._remote import RemoteFile, fetch
from bnnzoo.datasets._rows import RowOptions, row_count
from bnnzoo.errors import DataError
from bnnzoo.options import Count
from bnnzoo.registry import register

# Address (there with http), hash and size: tensorflow/datasets, url_checksums/imdb_reviews.txt.
FILE = RemoteFile(
    "imdb/aclImdb_v1.tar.gz",
    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
    84_125_825,
)

LARGEST = 1 << 20
"""Bytes that one review may have."""

PADDING, UNKNOWN, FIRST = 0, 1, 2
"""Numbers of no word, of a word outside the vocabulary, and of the most frequent word."""

CLASSES = ("negative", "positive")

_REVIEW = re.compile(r"aclImdb/(train|test)/(neg|pos)/(\d+)_\d+\.txt")
_TOKEN = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


class ImdbOptions(RowOptions):
    """Options of ``imdb``."""

    vocabulary: Annotated[int, Field(gt=FIRST)] = Field(
        20_000, description="Numbers there are: padding, unknown, and the most frequent words."
    )
    length: Count = Field(
        100, description="Words of a review that are kept, its first; shorter ones are padded."
    )


@register(
    "datasets",
    "imdb",
    summary="50,000 film reviews as word numbers: negative or positive, 25,000 test.",
    options=ImdbOptions,
    references=(
        "Maas, Daly, Pham, Huang, Ng & Potts (2011), Learning word vectors for sentiment analysis.",
    ),
    tags={"task": "classification", "source": "download", "download": True, "inputs": "text"},
    notes="Inputs are (length,) whole numbers, never standardised: 0 pads at the end, 1 is any word"
    " outside the vocabulary, 2 the most frequent word. The vocabulary is that of the training rows"
    " taken. Words are runs of letters and digits in lower case, apostrophes inside kept. Negative"
    " and positive reviews alternate.",
)
def imdb(options: ImdbOptions) -> Dataset:
    """The data set of these options."""
    reviews = _read()
    train, y = _rows(reviews, "train", options.train_rows)
    test, y_test = _rows(reviews, "test", options.test_rows)
    numbers = _vocabulary(train, options.vocabulary)
    return make_dataset(
        _encode(train, numbers, options.length),
        y,
        _encode(test, numbers, options.length),
        y_test,
        task="classification",
        scale="none",
        name="imdb",
        class_names=CLASSES,
    )


def tokens(text: str) -> list[str]:
    """The words of a review: lower case, without markup or punctuation."""
    return _TOKEN.findall(text.lower().replace("<br />", " "))


def _read() -> dict[tuple[str, str], list[list[str]]]:
    """The words of every review, by set and class, in the order of the reviews' numbers."""
    place = fetch(FILE)
    found: dict[tuple[str, str], dict[int, list[str]]] = {}
    wanted = read_members(place, LARGEST, lambda name: _REVIEW.fullmatch(name) is not None)
    for name, content in wanted.items():
        which, label, number = _REVIEW.fullmatch(name).groups()  # type: ignore[union-attr]
        try:
            words = tokens(content.decode("utf-8"))
        except UnicodeDecodeError:
            raise DataError(f"{name} in {place} is not UTF-8 text") from None
        found.setdefault((which, label), {})[int(number)] = words
    for which in ("train", "test"):
        for label in ("neg", "pos"):
            if (which, label) not in found:
                raise DataError(f"{place} has no reviews in aclImdb/{which}/{label}")
    return {key: [reviews[number] for number in sorted(reviews)] for key, reviews in found.items()}


def _rows(
    reviews: dict[tuple[str, str], list[list[str]]], which: str, wanted: int | None
) -> tuple[list[list[str]], np.ndarray]:
    """Reviews and labels of a set, classes alternating, so that its first rows are balanced."""
    both = [
        (place, label, words)
        for label, name in enumerate(("neg", "pos"))
        for place, words in enumerate(reviews[which, name])
    ]
    both.sort(key=lambda row: row[:2])
    both = both[: row_count(which, wanted, len(both))]
    return [words for *_, words in both], np.array([label for _, label, _ in both])


def _vocabulary(reviews: list[list[str]], size: int) -> dict[str, int]:
    """Numbers of the most frequent words; words as frequent are in alphabetical order."""
    count = Counter(word for words in reviews for word in words)
    ordered = sorted(count, key=lambda word: (-count[word], word))
    return {word: FIRST + rank for rank, word in enumerate(ordered[: size - FIRST])}


def _encode(reviews: list[list[str]], numbers: dict[str, int], length: int) -> np.ndarray:
    encoded = np.full((len(reviews), length), PADDING)
    for row, words in zip(encoded, reviews, strict=True):
        kept = words[:length]
        row[: len(kept)] = [numbers.get(word, UNKNOWN) for word in kept]
    return encoded
