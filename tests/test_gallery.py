"""The examples of docs/gallery run, draw their pictures, and say what their numbers say."""

import runpy
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bnnzoo.inference import Run
from bnnzoo.reports.diagnostics import RHAT_BAD, diagnose

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
LARGEST = 80_000
BAYES, COLD_LIKELIHOOD, COLD_POSTERIOR = (
    "both 1: Bayes' rule",
    "likelihood temperature 0.1",
    "posterior temperature 0.1",
)


def table(seen: Any) -> None:
    assert 0.83 <= seen["coverage"] <= 0.97  # two standard errors of 100 rows at 0.9


def gap(seen: Any) -> None:
    assert seen["in_gap"] > 4 * seen["at_data"]
    outside = seen["spread"][abs(seen["x"]) > 2.7].mean()
    assert outside > 4 * seen["at_data"]


def noise(seen: Any) -> None:
    assert 1.6 < seen["shrinks"] < 2.8
    truth, found = seen["all_rows"].truth["noise"], seen["at_data"]
    missed = {n: np.median(abs(at.aleatoric - truth)) for n, at in found.items()}
    assert missed[300] < missed[75]


def outliers(seen: Any) -> None:
    assert seen["errors"]["student-t"] < 0.1
    assert seen["errors"]["gaussian"] > 0.3


def counts(seen: Any) -> None:
    assert 0.8 < seen["coverage"] < 0.95
    assert seen["distance"] < 1.36 / np.sqrt(400)  # Kolmogorov-Smirnov, 5 %


def classes(seen: Any) -> None:
    assert seen["accuracy"] > 0.93
    assert seen["doubt_highest"] > 5 * seen["doubt_at_data"]


def priors(seen: Any) -> None:
    shares, steepness = seen["shares"], seen["steepness"]
    assert shares["gaussian"] < 0.1 < shares["laplace"] < 0.2 < shares["student-t"]
    assert steepness["student-t"][0] < 0.6 * steepness["gaussian"][0]
    assert steepness["student-t"][1] > 0.9 * steepness["gaussian"][1]


def temperatures(seen: Any) -> None:
    widths = {name: np.array(pair) for name, pair in seen["widths"].items()}
    at_data, nowhere = widths[COLD_LIKELIHOOD] / widths[BAYES]
    assert at_data < 0.6 < nowhere
    assert (widths[COLD_POSTERIOR] / widths[BAYES] < 0.45).all()


def foreign(seen: Any) -> None:
    assert seen["auroc"] > 0.9
    assert seen["accuracy"] > 0.95
    entropy, home = seen["entropy"], seen["home"]
    assert np.median(entropy[home]) < 0.4 < 1.2 < np.median(entropy[~home])


def own(seen: Any) -> None:
    assert seen["errors"]["flax module"] < 0.12 < 0.2 < seen["errors"]["NumPyro model"] < 0.35
    posterior = seen["runs"]["NumPyro model"].tree["posterior"]
    assert posterior["noise"].quantile(0.05) > 0.2  # the true noise is 0.2


CLAIMS: dict[str, Callable[[Any], None]] = {
    "01_table": table,
    "02_gap": gap,
    "03_noise": noise,
    "04_outliers": outliers,
    "05_counts": counts,
    "06_classes": classes,
    "07_priors": priors,
    "08_temperatures": temperatures,
    "09_foreign": foreign,
    "10_own": own,
}


@pytest.mark.validate
@pytest.mark.filterwarnings("ignore::bnnzoo.errors.DataWarning")
@pytest.mark.parametrize("name", CLAIMS)
def test_example(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with plt.rc_context():
        try:
            seen = runpy.run_path(str(GALLERY / f"{name}.py"))
            ink = share_of_ink()
        finally:
            plt.close("all")
    assert shapes(tmp_path / f"{name}.svg") > 20
    assert ink > 0.02
    CLAIMS[name](seen)
    for run in runs_in(seen):
        found = diagnose(run.tree)
        assert found["function"]["worst_rhat"] < RHAT_BAD, run
        assert found["divergences"] < 0.01 * found["chains"] * found["draws"], run


def test_every_example_is_tested():
    assert sorted(CLAIMS) == sorted(path.stem for path in GALLERY.glob("[0-9]*.py"))


@pytest.mark.parametrize("name", CLAIMS)
def test_picture_is_kept(name):
    picture = GALLERY / f"{name}.svg"
    assert shapes(picture) > 20
    assert picture.stat().st_size < LARGEST


def test_page_is_made_from_the_examples():
    """Else run `make gallery`."""
    page = runpy.run_path(str(GALLERY / "make.py"))["page"]()
    assert (GALLERY / "index.md").read_text(encoding="utf-8") == page
    assert all(f"({name}.svg)" in page for name in CLAIMS)


def share_of_ink() -> float:
    """The share of the current figure's pixels that are not white."""
    canvas = plt.gcf().canvas
    canvas.draw()
    return float((np.asarray(canvas.buffer_rgba())[..., :3] < 250).any(-1).mean())


def shapes(path: Path) -> int:
    """Shapes drawn in an SVG file."""
    root = ElementTree.parse(path).getroot()
    return sum(element.tag.endswith(("}path", "}use", "}image")) for element in root.iter())


def runs_in(seen: dict[str, Any]) -> list[Run]:
    """The runs an example made, alone or in a dictionary."""
    values = [
        v
        for value in seen.values()
        for v in (value.values() if isinstance(value, dict) else [value])
    ]
    return [value for value in values if isinstance(value, Run)]
