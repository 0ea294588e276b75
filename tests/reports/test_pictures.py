"""Curves, surfaces and images: what is drawn is what the run predicts and what the rows hold."""

import base64
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from bnnzoo.errors import RunError
from bnnzoo.reports import pictures, write_report
from bnnzoo.reports.comparison import read_scores
from bnnzoo.reports.picture_plots import _stretches, image_address


def with_inputs(run, x, in_shape, y=None, predict=None):
    """The run with training inputs, and a model that predicts."""
    inputs = xr.Dataset({"x": (("row", "feature"), x.reshape(len(x), -1))})
    run.tree["constant_data"] = xr.DataTree(inputs)
    run.tree["observed_data"] = xr.DataTree(xr.Dataset({"y": ("row", y)}))
    run.manifest["data"]["metadata"] = {"in_shape": list(in_shape), "class_names": ["a", "b<"]}
    if predict is not None:
        run.predict = predict
    return run


@pytest.fixture
def line(fakes):
    def predict(x):
        mean = np.sin(x[:, 0])
        return SimpleNamespace(
            mean=mean, quantile=lambda q: mean + np.asarray(q)[:, None] * (1 + abs(x[:, 0]))
        )

    x = np.linspace(-2, 2, 50)[:, None]
    return with_inputs(fakes.fake_run(), x, (1,), np.sin(x[:, 0]), predict)


@pytest.fixture
def surface(fakes):
    def predict(x):
        p = 1 / (1 + np.exp(-x[:, 0]))
        return SimpleNamespace(probabilities=np.stack([1 - p, p], 1))

    x = np.random.default_rng(0).normal(size=(80, 2))
    run = fakes.fake_run(task="classification")
    return with_inputs(run, x, (2,), (x[:, 0] > 0).astype(int), predict)


@pytest.fixture
def images(fakes):
    run = fakes.fake_run(task="classification")
    rng = np.random.default_rng(1)
    with_inputs(run, rng.uniform(size=(9, 48)), (4, 4, 3), np.zeros(9, int))
    truth = run.tree["predictions_constant_data"].to_dataset()
    pixels = rng.uniform(size=(len(truth["y"]), 48))
    run.tree["predictions_constant_data"] = xr.DataTree(
        truth.assign(x=(("test_row", "feature"), pixels))
    )
    return run


def test_a_curve_goes_beyond_the_rows_and_holds_the_predictions(line):
    made = pictures.picture(line, read_scores(line))
    assert made["kind"] == "line"
    assert made["x"][0] == pytest.approx(-2.6) and made["x"][-1] == pytest.approx(2.6)
    np.testing.assert_allclose(made["mean"], np.sin(made["x"]))
    low, high = np.array(made["quantiles"])[[0, -1]]
    np.testing.assert_allclose(high - low, 0.9 * (1 + np.abs(made["x"])))
    assert len(made["rows"]["x"]) == 50


def test_a_surface_has_the_class_and_probability_of_each_place(surface):
    made = pictures.picture(surface, read_scores(surface))
    x0, x1 = np.meshgrid(made["x0"], made["x1"])
    p = 1 / (1 + np.exp(-x0))
    np.testing.assert_array_equal(made["winner"], (p > 0.5).astype(int))
    np.testing.assert_allclose(made["certainty"], np.maximum(p, 1 - p))
    assert x1.shape == (pictures.SURFACE, pictures.SURFACE)


def test_images_are_the_most_and_the_least_certain_rows(images):
    scores = read_scores(images)
    made = pictures.picture(images, scores)
    sure = scores.probabilities.max(1)
    assert [i["row"] for i in made["most"]] == np.argsort(-sure, kind="stable")[:8].tolist()
    assert sorted(i["certainty"] for i in made["least"]) == pytest.approx(np.sort(sure)[:8])
    for image in (*made["most"], *made["least"]):
        label = int(scores.y[image["row"]])
        assert image["actual"] == ("a", "b<")[label]
        assert image["right"] == (scores.probabilities[image["row"]].argmax() == label)
        assert np.asarray(image["pixels"]).shape == (4, 4, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_has_the_pixels_it_was_given(channels):
    from matplotlib.image import imread

    pixels = np.random.default_rng(2).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    head, _, content = image_address(pixels.tolist()).partition(",")
    assert head == "data:image/png;base64"
    again = imread(io.BytesIO(base64.b64decode(content)), format="png")
    again = again[..., :3] if channels == 3 else again.reshape(5, 7, -1)[..., :1]
    np.testing.assert_array_equal((255 * again).round().astype(int), pixels)


def test_stretches_cover_every_cell_once():
    winner, sure = [0, 0, 1, 1, 1], [0.51, 0.55, 0.6, 0.6, 1.0]
    made = _stretches(winner, sure, 2)
    assert made == [(0, 1, 0, 0), (2, 3, 1, 0), (4, 4, 1, 4)]


def test_no_model_at_hand_means_no_picture(line, surface, fakes):
    def refuse(x):
        raise RunError("its model is not in the registry")

    for run in (line, surface):
        run.predict = refuse
        assert pictures.picture(run, read_scores(run)) is None
        del run.predict
        assert pictures.picture(run, read_scores(run)) is None
    assert pictures.picture(fakes.fake_run(), None) is None


@pytest.mark.parametrize("kind", ["line", "surface", "images"])
def test_pictures_stand_on_the_page(kind, fakes, tmp_path, request):
    run = request.getfixturevalue(kind)
    path = write_report([run], tmp_path / "r.html")
    page = path.read_text(encoding="utf-8")
    assert 'id="data-1-pictures"' in page and 'download="data-1-pictures.csv"' in page
    assert page.count("<img ") == (16 if kind == "images" else 0)
    assert "b<," not in page
    json.loads(path.with_suffix(".json").read_text())


def test_only_the_best_runs_are_predicted_anew(line, fakes, tmp_path):
    asked = []
    runs = [fakes.fake_run(worse=0.01 * k, seed=k, draws=20) for k in range(9)]
    for run in runs:
        with_inputs(run, np.arange(9.0)[:, None], (1,), np.zeros(9))
        run.predict = lambda x, run=run: asked.append(run) or line.predict(x)
    write_report(runs, tmp_path / "r.html")
    assert len(asked) == pictures.SEEN
