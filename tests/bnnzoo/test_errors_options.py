"""One clear line for every mistake, with the nearest valid choice."""

import inspect
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from bnnzoo import errors
from bnnzoo.errors import (
    BnnzooError,
    OptionError,
    UnknownNameError,
    brief,
    hint,
    hint_file,
    nearest,
)
from bnnzoo.options import Count, Finite, Fraction, Options, Positive, parse_options

NAN, INF = float("nan"), float("inf")


class Knobs(Options):
    std: Positive = Field(1.0, description="A scale.")
    shift: Finite = Field(0.0, description="An offset.")
    draws: Count = Field(10, description="A number.")
    level: Fraction = Field(0.5, description="A part.")
    widths: list[Count] = Field([50], description="Sizes.")
    match: Literal["variance", "scale"] = Field("variance", description="A choice.")
    need: int | None = Field(None, description="Optional.")


class Needy(Options):
    target: str = Field(description="Has no default.")


# Errors


def test_every_error_is_one_of_ours_and_exits_with_two():
    everything = [c for _, c in inspect.getmembers(errors, inspect.isclass)]
    ours = [c for c in everything if c.__module__ == errors.__name__]
    classes = [c for c in ours if not issubclass(c, Warning)]
    assert len(classes) >= 10
    for cls in classes:
        assert issubclass(cls, BnnzooError)
        assert cls.exit_code == 2
        assert cls.__doc__


def test_input_errors_are_value_errors_and_storage_errors_are_os_errors():
    assert issubclass(errors.DataError, ValueError)
    assert issubclass(errors.StorageError, OSError)
    assert str(errors.StorageError("cannot write x: no space")) == "cannot write x: no space"


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("gausian", "gaussian"),
        ("GAUSSIAN", "gaussian"),
        ("student_t", "student-t"),
        ("stundet-t", "student-t"),
        ("zzz", None),
        ("", None),
        ("place", "laplace"),
        ("aus", None),  # half of it is the same, and that is chance
    ],
)
def test_nearest_forgives_a_typing_error(given_name, expected):
    assert nearest(given_name, ["gaussian", "laplace", "student-t"]) == expected


@given(st.sets(st.text("abcdefgh-", min_size=3, max_size=12), min_size=1), st.data())
def test_a_valid_name_is_its_own_nearest(known, data):
    name = data.draw(st.sampled_from(sorted(known)))
    assert nearest(name, known) == name
    assert repr(name) in hint(name, known)


def test_dashes_in_front_of_an_option_are_no_likeness():
    assert nearest("--prior", ["--no-progress", "--groups"]) is None
    assert nearest("--no-progres", ["--no-progress", "--groups"]) == "--no-progress"
    assert nearest("--tpyes", ["--type"]) == "--type"


def test_a_value_of_many_lines_is_shown_on_one():
    assert brief(3) == "3" and brief("a b") == "'a b'"
    long = brief("x" * 500 + "\n")
    assert len(long) < 100 and long.endswith("...")
    table = [[float(i + j) for i in range(9)] for j in range(99)]
    with pytest.raises(
        OptionError, match=r"^prior\.std = \[\[0\.0, .*\.\.\.: should be a num"
    ) as caught:
        parse_options(Knobs, {"std": table}, "prior")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 150


def test_hint_lists_the_choices_up_to_a_limit():
    assert hint("b", ["bb", "a"]) == "; did you mean 'bb'? (choices: a, bb)"
    assert hint("zzz", ["b", "a"]) == "; choices: a, b"
    assert hint("x", []) == ""
    many = hint("zzz", [f"name{i:02}" for i in range(30)])
    assert many.endswith("name11, and 18 more")


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [("tabel.csv", "table.csv"), ("table.tsv", "table.csv"), ("t.csv", None), ("abc.csv", None)],
)
def test_a_file_has_a_nearest_one_by_its_own_name_and_not_by_its_ending(given_name, expected):
    said = f"; did you mean {expected!r}?" if expected else ""
    assert hint_file(Path("data") / given_name, ["table.csv", "xyz.csv", "energy.csv"]) == said


def test_unknown_names_say_what_is_known():
    error = UnknownNameError("prior", "lapalce", ["laplace", "gaussian"])
    assert str(error) == (
        "unknown prior 'lapalce'; did you mean 'laplace'? (choices: gaussian, laplace)"
    )


# Options


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("std", "draws", "level") for value in (0, -1, NAN, INF, "x", None)]
    + [("shift", NAN), ("shift", -INF), ("level", 1), ("draws", 2.5), ("widths", 5)]
    + [("match", "varaince"), ("need", "x")],
)
def test_a_value_that_is_not_allowed_is_one_line_that_names_it(name, value):
    with pytest.raises(OptionError) as caught:
        parse_options(Knobs, {name: value}, "prior")
    line = str(caught.value)
    assert line.startswith(f"prior.{name} = {value!r}: ")
    assert "\n" not in line
    assert "pydantic" not in line


def test_the_place_inside_a_list_is_named():
    with pytest.raises(OptionError, match=r"^network\.widths\.1 = -5: .*greater than 0"):
        parse_options(Knobs, {"widths": [50, -5]}, "network")


def test_allowed_choices_are_listed():
    with pytest.raises(OptionError, match=r"'variance' or 'scale'"):
        parse_options(Knobs, {"match": "iqr"}, "prior")


def test_an_unknown_option_gets_the_nearest():
    with pytest.raises(OptionError) as caught:
        parse_options(Knobs, {"wdiths": [5]}, "network", "network 'mlp'")
    assert str(caught.value).startswith(
        "unknown option network.wdiths of network 'mlp'; did you mean 'widths'?"
    )


def test_a_missing_option_is_named():
    with pytest.raises(OptionError, match=r"^data\.target is required$"):
        parse_options(Needy, {}, "data")


def test_options_are_frozen():
    knobs = parse_options(Knobs, {"std": 2}, "prior")
    assert knobs.std == 2.0
    with pytest.raises(ValidationError):
        knobs.std = 3.0


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "std": st.floats(1e-300, 1e300),
            "shift": st.floats(allow_nan=False, allow_infinity=False),
            "draws": st.integers(1, 10**9),
            "level": st.floats(0, 1, exclude_min=True, exclude_max=True),
            "widths": st.lists(st.integers(1, 1000)),
            "match": st.sampled_from(["variance", "scale"]),
        },
    )
)
def test_allowed_values_are_kept_as_given(options):
    knobs = parse_options(Knobs, options, "prior")
    assert {name: getattr(knobs, name) for name in options} == options
    defaults = Knobs()
    for name in set(Knobs.model_fields) - set(options):
        assert getattr(knobs, name) == getattr(defaults, name)
