"""What holds for every test: CPU, a matplotlib without windows, named axes checked at run time."""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

# Set before anything imports them, and inherited by the subprocesses that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["MPLBACKEND"] = "Agg"
# LAPACK's threads wait for each other by spinning: beside another worker on the same cores an
# eigendecomposition of 20 ms took a quarter of a second.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # What two tests, both workers or a subprocess compile is compiled once; gone with the session.
    _programs = tempfile.mkdtemp(prefix="bnnzoo-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # of one operation too
    atexit.register(shutil.rmtree, _programs, ignore_errors=True)

import pytest
from jaxtyping import install_import_hook

# Functions of the modules that name axes check their arguments' types and shapes while the tests
# run; of every other annotation mypy sees as much, at no cost here (a quarter of all time).
ROOT = Path(__file__).resolve().parents[1]
NAME_AXES = [
    ".".join(("bnnzoo", *file.relative_to(ROOT).with_suffix("").parts))
    for folder in ("models", "inference", "reports")
    for file in (ROOT / folder).rglob("*.py")
    if "from jaxtyping import" in file.read_text(encoding="utf-8")
]
# Modules imported earlier would escape.
assert "bnnzoo" not in sys.modules, "bnnzoo was imported before tests/conftest.py"
install_import_hook(NAME_AXES, "beartype.beartype")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", help="bring this file of results and figures up to date")


# Of the many objects of JAX few are garbage: to look through all of them often costs CPU time.
gc.set_threshold(100_000, 50, 100)

_tests_run = 0


def pytest_runtest_teardown(item, nextitem) -> None:
    """A worker compiles thousands of programs; too many at once end it without a word."""
    global _tests_run
    _tests_run += 1
    if _tests_run % 50 == 0 and "bnnzoo.inference.programs" in sys.modules:
        sys.modules["bnnzoo.inference.programs"].make_room()


def pytest_terminal_summary(terminalreporter, exitstatus, config) -> None:
    """Keep the results of a run: those of `make validate` are in the docs."""
    if path := config.getoption("--results"):
        sys.path.insert(0, str(Path(__file__).parent))
        import _results

        stats = terminalreporter.stats
        ran = [r for kind in ("passed", "failed") for r in stats.get(kind, []) if r.when == "call"]
        _results.write(Path(path), ran)
