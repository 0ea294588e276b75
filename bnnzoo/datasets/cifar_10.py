"""CIFAR-10, and its test images damaged in known ways."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from bnnzoo.datasets._archive import open_member, read_members
from bnnzoo.datasets._dataset import Dataset
from bnnzoo.datasets._images import ImageOptions, Labelled, image_dataset, tags
from bnnzoo.datasets._remote import RemoteFile, fetch
from bnnzoo.errors import DataError
from bnnzoo.registry import register

# Addresses, hashes and sizes: tensorflow/datasets, url_checksums/cifar10.txt and
# cifar10_corrupted.txt. The binary version: the one for Python is a pickle, which runs code.
FILES = {
    "cifar-10": RemoteFile(
        "cifar-10/cifar-10-binary.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        170_052_171,
    ),
    "cifar-10-c": RemoteFile(
        "cifar-10-c/CIFAR-10-C.tar",
        "https://zenodo.org/record/2535967/files/CIFAR-10-C.tar",
        "c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7",
        2_918_471_680,
    ),
}
"""The archive of each data set."""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

ROW = 1 + 3 * 32 * 32
"""Bytes of a row: the class, then red, green and blue, each row by row."""

BATCH = 10_000
"""Rows of one file of CIFAR-10, and of one severity of CIFAR-10-C."""

Corruption = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
    "spatter",
    "speckle_noise",
]


@register(
    "datasets",
    "cifar-10",
    summary="60,000 colour photographs of 32 x 32 pixels in ten classes: 10,000 test.",
    options=ImageOptions,
    references=("Krizhevsky (2009), Learning multiple layers of features from tiny images.",),
    tags=tags(3),
    notes="Inputs are (32, 32, 3), red, green, blue, from 0 to 255. Held in float64, all rows take"
    " 1.5 GB: take fewer with train_rows.",
)
def cifar_10(options: ImageOptions) -> Dataset:
    """The data set of these options."""
    train, test = _read_cifar_10()
    return image_dataset("cifar-10", options, train, test, CLASSES)


class CorruptedOptions(ImageOptions):
    """Options of ``cifar-10-c``."""

    corruption: Corruption = Field("gaussian_noise", description="How test images are damaged.")
    severity: Literal[1, 2, 3, 4, 5] = Field(3, description="How badly.")


@register(
    "datasets",
    "cifar-10-c",
    summary="CIFAR-10 with damaged test images: one of 19 corruptions at one of 5 severities.",
    options=CorruptedOptions,
    references=(
        "Hendrycks & Dietterich (2019), Benchmarking neural network robustness to common"
        " corruptions and perturbations, arXiv 1903.12261.",
    ),
    tags=tags(3),
    notes="Training rows are those of cifar-10; test rows are its 10,000 test images, damaged. Two"
    " downloads: 170 MB and 2.9 GB.",
)
def cifar_10_c(options: CorruptedOptions) -> Dataset:
    """The data set of these options."""
    train, _ = _read_cifar_10()
    test = _read_corrupted(options.corruption, options.severity)
    return image_dataset("cifar-10-c", options, train, test, CLASSES)


def _read_cifar_10() -> tuple[Labelled, Labelled]:
    names = [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)]
    names.append("cifar-10-batches-bin/test_batch.bin")
    place = fetch(FILES["cifar-10"])
    found = read_members(place, BATCH * ROW, names.__contains__)
    batches = []
    for name in names:
        if name not in found:
            raise DataError(f"{place} has no file {name!r}")
        if not found[name] or len(found[name]) % ROW:
            raise DataError(f"{name} in {place} is not made of rows of {ROW} bytes")
        batches.append(np.frombuffer(found[name], np.uint8).reshape(-1, ROW))
    return _pictures(np.concatenate(batches[:-1])), _pictures(batches[-1])


def _pictures(rows: np.ndarray) -> Labelled:
    return rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0]


def _read_corrupted(corruption: str, severity: int) -> Labelled:
    """The rows of one severity: the archive has five blocks of rows, mildest first."""
    images = _rows_of_npy(f"CIFAR-10-C/{corruption}.npy", severity, (32, 32, 3))
    return images, _rows_of_npy("CIFAR-10-C/labels.npy", severity, ())


def _rows_of_npy(name: str, severity: int, shape: tuple[int, ...]) -> np.ndarray:
    """One block of the rows of an array in NumPy's format, of which no more is read."""
    place = fetch(FILES["cifar-10-c"])
    with open_member(place, name) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise ValueError(f"version {version}")
            found, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        except ValueError as error:
            raise DataError(f"{name} in {place} is no array: {error}") from None
        if fortran or dtype.kind not in "iu" or found[1:] != shape or found[0] % 5:
            raise DataError(
                f"{name} in {place} holds {dtype} values of shape {found}; whole numbers of shape"
                f" {('5 n', *shape)} are expected"
            )
        rows = found[0] // 5
        size = rows * int(np.prod(shape)) * dtype.itemsize
        stream.seek((severity - 1) * size, 1)
        content = stream.read(size)
    if len(content) != size:
        raise DataError(f"{name} in {place} ends before its row {severity * rows}")
    return np.frombuffer(content, dtype).reshape(rows, *shape)
