"""Street View House Numbers: one digit in the middle of a photograph."""

from __future__ import annotations

import numpy as np

from bnnzoo.datasets._dataset import Dataset
from bnnzoo.datasets._images import ImageOptions, Labelled, image_dataset, tags
from bnnzoo.datasets._remote import RemoteFile, fetch
from bnnzoo.errors import DataError
from bnnzoo.registry import register

# Hashes and sizes: tensorflow/datasets, url_checksums/svhn_cropped.txt, which has these addresses
# with http; several public loaders use them with https.
_BASE = "https://ufldl.stanford.edu/housenumbers/"
FILES = {
    "train": RemoteFile(
        "svhn/train_32x32.mat",
        _BASE + "train_32x32.mat",
        "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        182_040_794,
    ),
    "test": RemoteFile(
        "svhn/test_32x32.mat",
        _BASE + "test_32x32.mat",
        "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        64_275_384,
    ),
}
"""The two files of cropped digits; the extra training set is left out."""


@register(
    "datasets",
    "svhn",
    summary="99,289 photographs of house numbers, 32 x 32 pixels around one digit: 26,032 test.",
    options=ImageOptions,
    references=(
        "Netzer, Wang, Coates, Bissacco, Wu & Ng (2011), Reading digits in natural images with"
        " unsupervised feature learning.",
    ),
    tags=tags(3),
    notes="Inputs are (32, 32, 3), red, green, blue, from 0 to 255. Class 0 is the digit 0, which"
    " the files number 10. Held in float64, all rows take 2.4 GB: take fewer with train_rows.",
)
def svhn(options: ImageOptions) -> Dataset:
    """The data set of these options."""
    classes = [str(digit) for digit in range(10)]
    return image_dataset("svhn", options, _read("train"), _read("test"), classes)


def _read(which: str) -> Labelled:
    from scipy.io import loadmat  # slow to import: only where a file is read

    place = fetch(FILES[which])
    try:
        found = loadmat(place, variable_names=["X", "y"])
        x, y = found["X"], found["y"]
    except KeyError as error:
        raise DataError(f"{place} has no variable {error}") from None
    except Exception as error:  # of many kinds: SciPy documents none
        reason = str(error).partition("\n")[0]
        raise DataError(f"{place} cannot be read as a MATLAB file: {reason}") from None
    if x.dtype != np.uint8 or x.shape[:3] != (32, 32, 3) or x.ndim != 4:
        raise DataError(f"{place} holds {x.dtype} images of shape {x.shape}, not (32, 32, 3, row)")
    if y.dtype.kind not in "iu" or y.shape != (x.shape[3], 1):
        raise DataError(f"{place} holds labels of shape {y.shape} for {x.shape[3]} images")
    return np.moveaxis(x, 3, 0), y[:, 0] % 10
