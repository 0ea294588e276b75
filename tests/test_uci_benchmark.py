"""The UCI benchmark of docs/uci.md against the published MC-dropout figures."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("uci_benchmark", ROOT / "benchmarks" / "uci.py")
benchmark = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(benchmark)

BARS = {
    "boston": (-2.38, 2.90, 0.18),
    "energy": (-0.50, 0.539, 0.014),
    "yacht": (0.15, 0.666, 0.049),
}
"""Least mean log-likelihood; published RMSE and its standard error."""


@pytest.mark.validate
@pytest.mark.parametrize("table", BARS)
def test_the_standard_splits(table):
    if not os.environ.get("BNNZOO_DATA"):
        pytest.skip(f"needs uci/{table}.txt: set BNNZOO_DATA to the folder that has it")
    result = benchmark.run_table(table)
    print(benchmark.as_text(result))
    least, rmse, error = BARS[table]
    assert result["summary"]["splits"] == 20
    assert result["summary"]["log_likelihood"]["mean"] >= least
    assert result["summary"]["rmse"]["mean"] <= rmse + error


def test_the_summary_is_over_splits():
    rows = [
        {"log_likelihood": v, "rmse": v**2, "crps": 0.0, "coverage_90": 0.9, "chosen": noise}
        | {n: {"seconds": 1.0} for n in benchmark.NOISE}
        for v, noise in ((1.0, "gaussian"), (2.0, "student-t"), (4.0, "student-t"))
    ]
    made = benchmark.summary(rows)
    assert made["log_likelihood"]["mean"] == pytest.approx(7 / 3)
    assert made["log_likelihood"]["se"] == pytest.approx(np.std([1, 2, 4], ddof=1) / np.sqrt(3))
    assert made["rmse"]["mean"] == pytest.approx(7) and made["student_t"] == 2
    assert made["seconds"] == 6
    text = benchmark.as_text({"table": "boston", "summary": made})
    assert "published -2.4" in text and "on 2 of 3 splits" in text
