"""Arrays of bytes in the IDX format of MNIST, gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from bnnzoo.errors import DataError

LARGEST = 1 << 30
"""Bytes that an array may hold: what a few bytes unpack to must not fill the memory."""


def read_idx(place: Path, dimensions: int) -> np.ndarray:
    """The array of an IDX file of unsigned bytes.

    Args:
        place: the gzipped file.
        dimensions: how many the array must have.

    Returns:
        The array, read-only, the first dimension its rows.

    Raises:
        DataError: not gzip, not IDX, of another type or number of dimensions, or shorter or longer
            than it says.

    Source: LeCun, Cortes & Burges, The MNIST database, "The IDX file format".
    """
    try:
        with gzip.open(place) as stream:
            head = stream.read(4 + 4 * dimensions)
            if head[:4] != bytes((0, 0, 8, dimensions)) or len(head) < 4 + 4 * dimensions:
                raise DataError(f"{place} is no IDX file of bytes in {dimensions} dimensions")
            shape = tuple(int(n) for n in np.frombuffer(head, ">u4", offset=4))
            size = math.prod(shape)
            if size > LARGEST:
                raise DataError(f"{place} says that it holds {shape} bytes: more than is read")
            content = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{place} cannot be unpacked: {error}") from None
    if len(content) != size:
        found = "more" if len(content) > size else len(content)
        raise DataError(f"{place} should hold {size} bytes and holds {found}")
    return np.frombuffer(content, np.uint8).reshape(shape)
