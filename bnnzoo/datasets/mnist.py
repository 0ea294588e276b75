"""MNIST and what has its form: handwritten digits and small pictures of clothes."""

from __future__ import annotations

import numpy as np

from bnnzoo.datasets._dataset import Dataset
from bnnzoo.datasets._idx import read_idx
from bnnzoo.datasets._images import ImageOptions, Labelled, image_dataset, tags
from bnnzoo.datasets._remote import RemoteFile, fetch
from bnnzoo.errors import DataError
from bnnzoo.registry import register

# Hashes and sizes: tensorflow/datasets, url_checksums/mnist.txt and fashion_mnist.txt. Those of the
# MNIST test files were compared with files at hand. Addresses: the same for MNIST; Fashion-MNIST's
# are its publishers' repository, since theirs of the list has no HTTPS.
_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_FASHION = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"


def _files(folder: str, base: str, parts: dict[str, tuple[str, int]]) -> dict[str, RemoteFile]:
    ends = {"images": "images-idx3-ubyte.gz", "labels": "labels-idx1-ubyte.gz"}
    made = {}
    for part, (sha256, size) in parts.items():
        which, what = part.split("-")
        name = f"{which}-{ends[what]}"
        made[part] = RemoteFile(f"{folder}/{name}", base + name, sha256, size)
    return made


FILES = {
    "mnist": _files(
        "mnist",
        _MNIST,
        {
            "train-images": (
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                9_912_422,
            ),
            "train-labels": (
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                28_881,
            ),
            "t10k-images": (
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                1_648_877,
            ),
            "t10k-labels": (
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                4_542,
            ),
        },
    ),
    "fashion-mnist": _files(
        "fashion-mnist",
        _FASHION,
        {
            "train-images": (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                26_421_880,
            ),
            "train-labels": (
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                29_515,
            ),
            "t10k-images": (
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                4_422_102,
            ),
            "t10k-labels": (
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                5_148,
            ),
        },
    ),
}
"""The four files of each set: images and labels for training (``train``) and testing (``t10k``)."""

DIGITS = tuple(str(digit) for digit in range(10))
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

_LECUN = "LeCun, Bottou, Bengio & Haffner (1998), Gradient-based learning applied to document"
_PIXELS = "Inputs are (28, 28, 1), from 0 (paper) to 255 (ink)."


@register(
    "datasets",
    "mnist",
    summary="70,000 handwritten digits of 28 x 28 pixels: 60,000 train, 10,000 test.",
    options=ImageOptions,
    references=(f"{_LECUN} recognition.",),
    tags=tags(1),
    notes=_PIXELS,
)
def mnist(options: ImageOptions) -> Dataset:
    """The data set of these options."""
    return image_dataset("mnist", options, _read("mnist", "train"), _read("mnist", "t10k"), DIGITS)


@register(
    "datasets",
    "fashion-mnist",
    summary="70,000 pictures of clothes of 28 x 28 pixels in ten classes: 10,000 test.",
    options=ImageOptions,
    references=("Xiao, Rasul & Vollgraf (2017), Fashion-MNIST, arXiv 1708.07747.",),
    tags=tags(1),
    notes="Inputs are (28, 28, 1), from 0 (background) to 255.",
)
def fashion_mnist(options: ImageOptions) -> Dataset:
    """The data set of these options."""
    name = "fashion-mnist"
    return image_dataset(name, options, _read(name, "train"), _read(name, "t10k"), CLOTHES)


TRAIN_ROWS = 8_000
"""Rows of ``mnist-10k`` that train; the other 2,000 test."""


@register(
    "datasets",
    "mnist-10k",
    summary="The 10,000 test digits of MNIST alone: the first 8,000 train, the last 2,000 test.",
    options=ImageOptions,
    references=(f"{_LECUN} recognition; the split is ours.",),
    tags=tags(1),
    notes=f"A small stand-in for development (1.6 MB): never quote a result on it as one on MNIST,"
    f" whose test set these rows are. {_PIXELS}",
)
def mnist_10k(options: ImageOptions) -> Dataset:
    """The data set of these options."""
    x, y = _read("mnist", "t10k")
    train, test = (x[:TRAIN_ROWS], y[:TRAIN_ROWS]), (x[TRAIN_ROWS:], y[TRAIN_ROWS:])
    return image_dataset("mnist-10k", options, train, test, DIGITS)


def _read(name: str, which: str) -> Labelled:
    place = fetch(FILES[name][f"{which}-images"])
    images = read_idx(place, 3)
    if images.shape[1:] != (28, 28):
        raise DataError(f"{place} holds images of {images.shape[1:]} pixels, not (28, 28)")
    labels = read_idx(fetch(FILES[name][f"{which}-labels"]), 1)
    return images[..., np.newaxis], labels
