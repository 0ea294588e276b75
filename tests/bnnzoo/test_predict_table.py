"""A table in, predictions out: `bnnzoo fit` and `predict` on text, holes, classes, targets."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bnnzoo as bz
from bnnzoo.cli import main

SMALL = ["--backend", "mean-field-vi", "--draws", "50", "--warmup", "300", "--no-progress"]
SMALL += ["--chains", "1", "--set", "network.widths=[4]"]


def fit(folder: Path, frame: pd.DataFrame, *arguments: str) -> Path:
    table = folder / "table.csv"
    frame.to_csv(table, index=False)
    out = folder / "run"
    assert main(["fit", "--dataset", str(table), "--out", str(out), *SMALL, *arguments]) == 0
    return out


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Three classes that follow a text column with holes."""
    rng = np.random.default_rng(0)
    colour = rng.choice(["red", "blue", "green"], 90)
    label = pd.Series(colour).map({"red": "stop", "blue": "look", "green": "go"})
    frame = pd.DataFrame({"colour": colour, "n": rng.normal(size=90), "label": label})
    frame.loc[rng.choice(90, 9, replace=False), "n"] = np.nan
    flags = ["--target", "label", "--set", "data.missing=impute"]
    return fit(tmp_path_factory.mktemp("classes"), frame, *flags)


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """Two targets, of which one is large."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    frame = pd.DataFrame({"a": a, "up": a + 0.1 * rng.normal(size=60), "down": 1000 - 100 * a})
    folder = tmp_path_factory.mktemp("targets")
    return fit(folder, frame, "--target", "up", "--target", "down", "--task", "regression")


@pytest.fixture
def predict(tmp_path, monkeypatch, capfd):
    """Run `bnnzoo predict`; gives its rows and what it said."""
    monkeypatch.chdir(tmp_path)

    def predict(*arguments: object) -> tuple[list[dict[str, str]], str]:
        capfd.readouterr()
        assert main(["predict", *map(str, arguments)]) == 0
        out, err = capfd.readouterr()
        return list(csv.DictReader(out.splitlines())), err

    return predict


def test_classes_are_named_and_holes_are_filled_in(classes, predict):
    Path("new.csv").write_text("n,label,colour\n0.5,,red\n,?,blue\n-0.5,go,green\n")
    rows, err = predict(classes, "new.csv")
    assert err == ""  # the target is passed over in silence, whatever it holds
    assert [row["class"] for row in rows] == ["stop", "look", "go"]
    for row in rows:
        shares = [float(row[f"p({name})"]) for name in ("go", "look", "stop")]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        assert float(row[f"p({row['class']})"]) == max(shares)
        parts = float(row["aleatoric"]) + float(row["epistemic"])
        assert parts == pytest.approx(-sum(p * np.log(p) for p in shares), rel=1e-3)  # entropy


def test_parquet_gives_what_csv_gives(classes, predict):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"colour": ["red", "green"], "n": [None, 1.5], "id": [1, 2]})
    frame.to_parquet("new.parquet")
    frame.to_csv("new.csv", index=False)
    (rows, said), (same, also) = predict(classes, "new.parquet"), predict(classes, "new.csv")
    assert rows == same
    for name, line in (("new.parquet", said), ("new.csv", also)):
        assert line.startswith(f"bnnzoo: note: {name}: passed over, as no feature of '")
        assert line.endswith("table.csv': 'id'\n")
    assert predict(classes, "new.csv", "-o", "out.csv")[1] == also
    assert list(csv.DictReader(Path("out.csv").read_text().splitlines())) == rows


def test_notes_are_part_of_json(classes, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("new.csv").write_text("colour,n,id\nred,1,2\n")
    assert main(["predict", str(classes), "new.csv", "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    (note,) = json.loads(out)["notes"]
    assert "'id'" in note


def test_a_category_that_is_unknown_is_refused(classes, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("new.csv").write_text("colour,n\nred,1\ngren,2\n")
    assert main(["predict", str(classes), "new.csv", "-o", "out.csv"]) == 2
    line = capfd.readouterr().err
    assert "new.csv: line 3, column 'colour' is 'gren', a category unknown" in line
    assert line.endswith("unknown to the data set, which has blue, green, red\n")  # and no guess
    assert not Path("out.csv").exists()


def test_a_run_takes_the_frames_its_data_set_was_made_of(classes):
    run = bz.load_run(classes)
    frame = pd.DataFrame({"colour": ["red", "blue"], "n": [np.nan, 1.0]})
    best = run.predict(frame).probabilities.argmax(axis=1)
    assert [run.posterior.data.class_names[k] for k in best] == ["stop", "look"]
    manifest = json.loads((classes / "manifest.json").read_text())
    kept = manifest["data"]["metadata"]["encoding"]
    assert [column["name"] for column in kept["columns"]] == ["colour", "n"]
    assert kept["passed_over"] == ["label"]


@pytest.mark.validate
def test_several_targets_have_columns_of_their_own(targets, predict):
    Path("new.csv").write_text("a\n1\n-1\n")
    rows, _ = predict(targets, "new.csv")
    quantiles = ["q05", "q50", "q95"]
    names = ["mean", "std", "aleatoric", "epistemic", *quantiles]
    assert list(rows[0]) == [f"{target}.{name}" for target in ("up", "down") for name in names]
    assert float(rows[0]["up.mean"]) > float(rows[1]["up.mean"])
    assert 800 < float(rows[0]["down.mean"]) < 1000 < float(rows[1]["down.mean"]) < 1200
    for row in rows:
        for target in ("up", "down"):
            low, middle, high = (float(row[f"{target}.{q}"]) for q in quantiles)
            assert low < middle < high
            std, noise, rest = (float(row[f"{target}.{name}"]) for name in names[1:4])
            assert std == pytest.approx(np.hypot(noise, rest), rel=1e-4)


def found_again(run: Path, flags: list[str], others: list[str], capfd) -> None:
    """The flags of a run find it; others, of the same table, are said to be of another."""
    arguments = ["fit", "--dataset", str(run.parent / "table.csv"), "--out", str(run), *SMALL]
    assert main([*arguments, *flags]) == 0
    assert "already finished: reusing it" in capfd.readouterr().out
    assert main([*arguments, *others]) == 2
    assert "holds a different run" in capfd.readouterr().err


def test_the_same_flags_find_the_run_again(classes, capfd):
    impute = ["--set", "data.missing=impute"]
    found_again(classes, ["--target", "label", *impute], ["--target", "colour", *impute], capfd)


@pytest.mark.validate
def test_the_order_of_targets_is_part_of_a_run(targets, capfd):
    up, down, real = ["--target", "up"], ["--target", "down"], ["--task", "regression"]
    found_again(targets, [*up, *down, *real], [*down, *up, *real], capfd)
