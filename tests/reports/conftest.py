import importlib.util
import sys
import time
from pathlib import Path

import pytest


def _module():
    """``_fake_runs.py``: pytest's importlib mode puts no test folder on the path."""
    name = "tests_reports_fake_runs"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, Path(__file__).with_name("_fake_runs.py")
        )
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def fakes():
    return _module()


@pytest.fixture(scope="session")
def demo_runs(fakes):
    """What the demonstration compares: two data sets, twelve runs each, some of them flawed."""
    flags = (
        {"chain": 2, "kind": "stuck", "message": "chain 2 did not move for 120 draws"},
        {"chain": 2, "kind": "divergent", "message": "31 transitions diverged"},
    )
    runs = fakes.regression_runs() + fakes.classification_runs()
    runs[1] = fakes.fake_run(
        prior="gaussian", T=0.1, worse=0.08, unmixed=0.8, divergences=31, flags=flags
    )
    runs[3] = fakes.fake_run(prior="laplace", T=0.1, worse=0.11, chains=1, draws=120)
    return runs


@pytest.fixture(scope="session")
def demo_cost(demo_runs, fakes, tmp_path_factory):
    """The page and the processor seconds that it took."""
    from bnnzoo.reports import write_report

    started = time.process_time()
    items = [*demo_runs, *fakes.evidences(demo_runs[0])]
    path = write_report(items, tmp_path_factory.mktemp("page") / "report.html")
    return path, time.process_time() - started


@pytest.fixture(scope="session")
def demo_page(demo_cost):
    return demo_cost[0]
