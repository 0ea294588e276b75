"""Specs: TOML and back, overrides, and what does not parse."""

import copy
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnnzoo.errors import BnnzooError, InputError, OptionError
from bnnzoo.specs import (
    SECTIONS,
    Component,
    InferenceSpec,
    RunSpec,
    fitted_before,
    override,
    read_tree,
    spec_from_toml,
    spec_from_tree,
)

text = st.text(st.characters(codec="utf-8"), max_size=8)
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | text
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)
)
option_names = text.filter(lambda name: name not in InferenceSpec.model_fields | {"name": 0})
components = st.builds(
    Component, name=st.none() | text, options=st.dictionaries(option_names, values, max_size=4)
)
inferences = st.builds(
    InferenceSpec,
    backend=text,
    chains=st.integers(1, 100),
    draws=st.integers(1, 10**6),
    warmup=st.integers(0, 10**6),
    seed=st.integers(0, 2**63 - 1),
    posterior_temperature=st.floats(1e-6, 1e6),
    likelihood_temperature=st.floats(1e-6, 1e6),
    dtype=st.sampled_from(["float32", "float64"]),
    options=st.dictionaries(option_names, values, max_size=3),
)
specs = st.builds(
    RunSpec,
    data=components,
    model=components,
    network=components,
    prior=components,
    likelihood=components,
    inference=inferences,
)


@given(specs)
def test_toml_round_trip(spec):
    assert spec_from_toml(spec.to_toml()) == spec
    assert spec_from_tree(spec.to_tree()) == spec


def test_the_tree_reads_as_a_person_would_write_it():
    spec = RunSpec(
        prior=Component(name="student-t", options={"df": 5.0}),
        network=Component(name="mlp", options={"widths": (50, 50)}),
    )
    tree = tomllib.loads(spec.to_toml())
    assert tree["prior"] == {"name": "student-t", "df": 5.0}
    assert tree["network"] == {"name": "mlp", "widths": [50, 50]}
    assert tree["inference"]["backend"] == "nuts"
    assert "data" not in tree


def test_numpy_values_and_none_become_what_toml_can_hold():
    options = {"df": np.float32(0.5), "widths": np.array([5, 7]), "bias": None, "deep": {"n": None}}
    tree = spec_from_toml(RunSpec(prior=Component(name="p", options=options)).to_toml()).to_tree()
    assert tree["prior"] == {"name": "p", "df": 0.5, "widths": [5, 7], "deep": {}}


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"piror": {}}, "unknown section [piror]; did you mean 'prior'"),
        ({"backend": {}}, "unknown section [backend]; did you mean 'inference'"),
        ({"prior": "gaussian"}, "prior = 'gaussian': a section, [prior], is expected"),
        ({"prior": {"name": 3}}, "prior.name = 3: "),
        ({"inference": {"chains": 0}}, "inference.chains = 0: "),
        ({"inference": {"draws": -1}}, "inference.draws = -1: "),
        ({"inference": {"posterior_temperature": float("nan")}}, "inference.posterior_temperature"),
        ({"inference": {"likelihood_temperature": 0}}, "inference.likelihood_temperature = 0: "),
        ({"inference": {"dtype": "float16"}}, "inference.dtype = 'float16': "),
        ({"inference": {"seed": -1}}, "inference.seed = -1: "),
    ],
)
def test_trees_that_are_not_specs_are_named(tree, words):
    with pytest.raises(OptionError) as caught:
        spec_from_tree(tree)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_toml_that_does_not_parse_is_named(tmp_path):
    with pytest.raises(InputError, match=r"run\.toml is not valid TOML: .*line 2"):
        spec_from_toml("[prior]\ndf = = 3", "run.toml")
    file = tmp_path / "c.toml"
    file.write_text("a = ")
    with pytest.raises(InputError, match=r"c\.toml is not valid TOML"):
        read_tree(file)
    file.write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"c\.toml: not UTF-8 text"):
        read_tree(file)
    with pytest.raises(InputError, match=r"cannot read .*absent\.toml"):
        read_tree(tmp_path / "absent.toml")
    file.write_text("[prior]\ndf = 3\n")
    assert read_tree(file) == {"prior": {"df": 3}}


# Overrides


@pytest.mark.parametrize(
    ("assignment", "section", "options"),
    [
        ("prior.df=5", "prior", {"df": 5}),
        ("prior.df = 5.5", "prior", {"df": 5.5}),
        ("network.widths=[50, 50]", "network", {"widths": [50, 50]}),
        ("network.activation=tanh", "network", {"activation": "tanh"}),
        ("network.activation='tanh'", "network", {"activation": "tanh"}),
        ("network.residual=1/blocks", "network", {"residual": "1/blocks"}),
        ("network.bias=false", "network", {"bias": False}),
        ("data.name=my=file.csv", "data", {"name": "my=file.csv"}),
        ("data.target=", "data", {"target": ""}),
        ('prior.rules."layers.0.*".std=2', "prior", {"rules": {"layers.0.*": {"std": 2}}}),
        ("prior.rules={a = {std = 2}}", "prior", {"rules": {"a": {"std": 2}}}),
    ],
)
def test_assignments_are_read_as_toml_or_as_text(assignment, section, options):
    assert override({}, [assignment]) == {section: options}


def test_later_assignments_win_and_others_stay():
    tree = {"prior": {"name": "student-t", "df": 3, "rules": {"a": {"std": 1, "df": 2}}}}
    made = override(tree, ["prior.df=4", "prior.df=5", "prior.rules.a.std=9", "data.name=x"])
    assert made == {
        "prior": {"name": "student-t", "df": 5, "rules": {"a": {"std": 9, "df": 2}}},
        "data": {"name": "x"},
    }


@given(
    st.dictionaries(
        st.sampled_from(SECTIONS), st.dictionaries(st.sampled_from("ab"), values), max_size=3
    ),
    st.sampled_from(SECTIONS),
    st.integers() | st.booleans() | st.lists(st.integers(), max_size=3),
)
def test_an_override_sets_one_option_and_leaves_its_input(tree, section, value):
    before = copy.deepcopy(tree)
    toml = str(value).lower() if isinstance(value, bool) else str(value)
    made = override(tree, [f"{section}.c={toml}"])
    assert tree == before
    assert made[section].pop("c") == value
    assert {k: v for k, v in made.items() if v or k in tree} == before


def test_nested_input_is_not_shared():
    tree = {"prior": {"rules": {"a": {"std": 1}}}}
    override(tree, ["prior.rules.a.std=2"])
    assert tree == {"prior": {"rules": {"a": {"std": 1}}}}


@pytest.mark.parametrize(
    ("tree", "assignment", "words"),
    [
        ({}, "prior.df", "write section.option=value"),
        ({}, "df=5", "write section.option=value"),
        ({}, "prior.=5", "write section.option=value"),
        ({}, "piror.df=5", "did you mean 'prior'"),
        ({}, "prior.a b=5", "'a b' is not an option's name"),
        ({}, "prior..df=5", "'.df' is not an option's name"),
        ({"prior": {"df": 3}}, "prior.df.x=5", "df = 3 has no options"),
        ({"prior": "gaussian"}, "prior.df=5", "prior = 'gaussian' has no options"),
    ],
)
def test_assignments_that_cannot_be_read_are_named(tree, assignment, words):
    with pytest.raises(BnnzooError) as caught:
        override(tree, [assignment])
    assert words in str(caught.value)
    assert assignment in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ""),
        ({"std": 2.0, "rules": {"*.bias": {"std": 1.0}}}, ""),
        ({"fitted_to": "laplace on the targets of diabetes"}, "laplace on the targets of diabetes"),
        ({"matched_to": "rbf on the inputs of diabetes"}, ""),
        ({"matched_to": "rbf on the targets", "fitted_to_targets": True}, "rbf on the targets"),
        ({"rules": {"*.bias": {"name": "empirical", "fitted_to": "digits"}}}, "digits"),
    ],
)
def test_what_a_prior_was_fitted_to(options, words):
    assert fitted_before(Component(name="gaussian", options=options)) == words
