"""What a number was made of and with: data set, versions, device."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset

PACKAGES = (
    "bnnzoo",
    "jax",
    "jaxlib",
    "numpyro",
    "flax",
    "blackjax",
    "arviz",
    "numpy",
    "xarray",
    "zarr",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a run depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def now() -> str:
    """The moment in UTC, to the second, in ISO form."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def device() -> str:
    """The kind and number of devices JAX computes on."""
    first = jax.devices()[0]
    if first.platform == "cpu":
        return f"cpu ({os.cpu_count()} cores)"
    return f"{first.device_kind} x {jax.device_count()}"


def describe_data(data: Dataset) -> dict[str, Any]:
    """Name, hash and sizes of a data set: what numbers on it are grouped by.

    Args:
        data: the data set.
    """
    return {
        "name": data.name,
        "hash": data.hash,
        "task": data.task,
        "rows": data.rows,
        "test_rows": data.test_rows,
        "features": int(np.prod(data.in_shape)),
    }
