import re

import numpy as np
import pytest

from bnnzoo.reports import rowcharts, svg
from bnnzoo.reports.report import collect


@pytest.mark.parametrize(
    ("lo", "hi"), [(0, 1), (-0.136, 0.02), (-5.7, -5.3), (0, 12345), (1e-6, 3e-6), (-1, 1e4)]
)
def test_ticks_are_round_few_and_inside(lo, hi):
    values = svg.ticks(lo, hi)
    assert 2 <= len(values) <= 7 and lo - 1e-9 <= values[0] and values[-1] <= hi + 1e-9
    steps = np.diff(values)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    texts = [svg.tick_text(v, values) for v in values]
    assert len(set(texts)) == len(texts) and not any("-" in t for t in texts)


def test_ticks_of_a_point_or_of_nothing():
    assert svg.ticks(2.0, 2.0) == [2.0]
    assert len(svg.ticks(0.0, float("inf"))) == 1


def test_scales_keep_within_their_place():
    x = svg.linear(0, 10, 5, 95)
    assert (x(0), x(10), x(-3), x(99)) == (5, 95, 5, 95)
    log = svg.logarithmic(0.01, 1, 0, 100)
    assert log(0.1) == pytest.approx(50) and log(-1) == 0


def test_labels_are_spread_in_order():
    placed = svg.spread([100, 101, 40, 99.5], 14, 10, 200)
    assert sorted(range(4), key=placed.__getitem__) == [2, 3, 0, 1]
    assert np.diff(sorted(placed)).min() > 13.9
    assert svg.spread([], 10, 0, 1) == []


def test_drawn_text_is_escaped():
    plot = svg.Plot(10, 10, '"><script>')
    plot.text(1, 1, "<b>")
    markup = plot.markup()
    assert "<script>" not in markup and "<b>" not in markup and "&lt;b&gt;" in markup


def block_with(fakes, *means):
    runs = []
    rng = np.random.default_rng(0)
    for mean in means:
        run = fakes.fake_run(label=f"run at {mean}", test_rows=50)
        fakes.replace(run, "test_scores", log_density=mean + 0.1 * rng.normal(size=50))
        runs.append(run)
    (block,) = collect(runs)["blocks"]
    return block


def test_the_difference_chart_has_a_row_a_run_with_its_numbers(fakes):
    block = block_with(fakes, -1.0, -1.1, -1.2)
    chart = rowcharts.forest(block["runs"], 3)
    assert chart["rows"][0]["text"] == "best"
    for row, line in zip(block["runs"], chart["rows"], strict=True):
        assert line["run"] is row and line["strip"].count("mark h") == 1
    assert not chart["clipped"] and "◂" not in "".join(r["strip"] for r in chart["rows"])


def test_a_run_far_off_does_not_squeeze_the_others(fakes):
    block = block_with(fakes, -1.0, -1.1, -1.2, -90.0)
    chart = rowcharts.forest(block["runs"], 3)
    assert chart["clipped"] and "◂" in chart["rows"][3]["strip"]
    places = [float(re.search(r'<svg x="([\d.]+)%', row["strip"])[1]) for row in chart["rows"][:3]]
    assert places[0] - places[2] > 10


def test_one_run_has_no_difference_chart(fakes):
    assert rowcharts.forest(block_with(fakes, -1.0)["runs"], 3) is None
