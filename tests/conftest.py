"""What holds for every test: CPU, a matplotlib without windows, annotations checked at run time."""

import os
import sys
from pathlib import Path

# Set before anything imports them, and inherited by the subprocesses that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["MPLBACKEND"] = "Agg"

import pytest
from jaxtyping import install_import_hook

# Every function of bnnzoo, wherever its folder stands, checks its arguments' types and shapes while
# the tests run. Modules imported earlier would escape.
assert "bnnzoo" not in sys.modules, "bnnzoo was imported before tests/conftest.py"
install_import_hook("bnnzoo", "beartype.beartype")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of data sets too large for the repository, named by BNNZOO_DATA; else skips."""
    named = os.environ.get("BNNZOO_DATA")
    if not named:
        pytest.skip("BNNZOO_DATA does not name a folder of data sets")
    folder = Path(named).expanduser()
    if not folder.is_dir():
        pytest.skip(f"BNNZOO_DATA names {named}, which is not a folder")
    return folder
