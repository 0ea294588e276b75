"""Evidences and selections as files: what comes back is what was kept, and nothing else is read."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import bnnzoo as bz
from bnnzoo.errors import CorruptRunError, InputError
from bnnzoo.inference import kept

sys.path.insert(0, str(Path(__file__).parent))
from _evidence import linear, linear_model


@pytest.fixture(scope="module")
def found():
    _, data, _ = linear(3, 0)
    return data, bz.log_evidence(linear_model(std=0.7), data, "exact")


def test_an_evidence_comes_back_as_it_was(found, tmp_path):
    _, evidence = found
    evidence.save(tmp_path / "new" / "e.json")
    again = bz.load_evidence(tmp_path / "new" / "e.json")
    assert again == evidence
    assert again.record == evidence.record


def test_what_was_kept_is_enough_to_repeat_it(found, tmp_path):
    data, evidence = found
    evidence.save(tmp_path / "e.json")
    record = bz.load_evidence(tmp_path / "e.json").record
    assert record["data"]["hash"] == data.hash
    spec = record["spec"]
    options = {
        f"{part}_options": {k: v for k, v in spec[part].items() if k != "name"}
        for part in ("network", "prior", "likelihood")
    }
    model = bz.make_model(
        spec["network"]["name"], spec["prior"]["name"], spec["likelihood"]["name"], **options
    )
    repeated = bz.log_evidence(
        model,
        data,
        evidence.method,
        seed=record["seed"],
        dtype=record["dtype"],
        **record["options"],
    )
    assert repeated.value == evidence.value


def test_a_selection_comes_back_with_its_models(found, tmp_path):
    data, _ = found
    models = {f"std {s}": linear_model(std=s) for s in (0.1, 1.0)}
    selection = bz.select(
        models, data, "exact", prior_probabilities={"std 0.1": 3.0, "std 1.0": 1.0}
    )
    selection.save(tmp_path / "s.json")
    again = bz.load_evidence(tmp_path / "s.json")
    assert [c.to_dict() for c in again.candidates] == [c.to_dict() for c in selection.candidates]
    assert again.record == selection.record
    assert again.record["prior_probabilities"] == {"std 0.1": 0.75, "std 1.0": 0.25}
    value = bz.log_evidence(again.best, data, "exact").value
    assert value == selection.candidates[0].evidence.value


def test_a_handwritten_model_is_recorded_and_not_rebuilt(found, tmp_path):
    import numpyro
    import numpyro.distributions as dist

    data, _ = found

    def constant(x, y=None):
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Normal(numpyro.sample("m", dist.Normal(0.0, 1.0)), 1.0), obs=y)

    def slope(x, y=None):
        w = numpyro.sample("w", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(w * x[:, 0], 1.0).to_event(1), obs=y)

    selection = bz.select({"constant": constant, "slope": slope}, data, "exact")
    selection.save(tmp_path / "s.json")
    again = bz.load_evidence(tmp_path / "s.json")
    assert [c.model for c in again.candidates] == [None, None]
    hashes = {c.external for c in again.candidates}
    assert len(hashes) == 2 and all(hashes)
    assert again.candidates[0].spec["model"]["name"] == again.candidates[0].name


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1 / 3, 5e-324, -0.0])
def test_every_number_is_kept_bit_for_bit(value):
    text = json.dumps(kept.plain({"v": [np.float64(value)]}), allow_nan=False)
    (again,) = kept.restored(json.loads(text))["v"]
    assert np.float64(again).tobytes() == np.float64(value).tobytes()


def damaged(tmp_path, evidence, change):
    path = tmp_path / "e.json"
    evidence.save(path)
    path.write_text(change(path.read_text()))
    return path


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda text: text[:200], InputError, "is not valid JSON"),
        (lambda text: "[]", InputError, "holds no evidence or selection"),
        (lambda text: '{"format": 1, "blocks": []}', InputError, "holds no evidence"),
        (lambda text: text.replace('"exact"', '"smc"', 1), CorruptRunError, "was changed since"),
        (lambda text: text.replace('"format": 1', '"format": 0'), CorruptRunError, "has format 0"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(found, tmp_path, change, error, said):
    path = damaged(tmp_path, found[1], change)
    with pytest.raises(error, match=said) as caught:
        bz.load_evidence(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_content_that_lacks_a_part_is_refused(tmp_path):
    kept.write(tmp_path / "e.json", "evidence", {"kind": "exact", "value": 1.0})
    with pytest.raises(CorruptRunError, match="is incomplete"):
        bz.load_evidence(tmp_path / "e.json")


def test_names_that_cannot_be_used(found, tmp_path):
    found[1].save(tmp_path / "evidence.json")
    with pytest.raises(InputError, match=r"no such file; did you mean 'evidence.json'"):
        bz.load_evidence(tmp_path / "evidenc.json")
    with pytest.raises(InputError, match="is a folder"):
        found[1].save(tmp_path)
    with pytest.raises(InputError, match=r"give a name such as .*evidence\.json"):
        found[1].save(tmp_path / "evidence.toml")
