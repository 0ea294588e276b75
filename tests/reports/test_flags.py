"""Flags that differ in figures alone are one line; others stay apart."""

import pytest

from bnnzoo.cli.summary import metric
from bnnzoo.reports.flags import merge_flags, merge_messages


def test_figures_become_ranges_and_equal_ones_stay():
    said = ["4 of 5 ended short, k-hat 1.92 > 0.7", "5 of 5 ended short, k-hat 12 > 0.7"]
    assert merge_messages(said) == "4 to 5 of 5 ended short, k-hat 1.92 to 12 > 0.7"


def test_ranges_are_merged_into_wider_ones():
    said = ["k-hat 1.31 to 2.74 > 0.7", "k-hat 1.78 > 0.7", "k-hat 1.36 to 12 > 0.7"]
    assert merge_messages(said) == "k-hat 1.31 to 12 > 0.7"


def test_a_single_message_is_itself():
    said = "by 4.7e+02 nats in 1,234 of layer2's x2"
    assert merge_messages([said, said]) == said


def test_flags_of_one_kind_and_wording_are_one():
    flags = [
        {"chain": 1, "kind": "warning", "message": "k-hat 2.5 > 0.7"},
        {"chain": 0, "kind": "stuck", "message": "did not move"},
        {"chain": 0, "kind": "warning", "message": "k-hat 9 > 0.7"},
        {"chain": 2, "kind": "nan", "message": "did not move"},
    ]
    assert merge_flags(flags) == [
        {"kind": "warning", "chains": [0, 1], "message": "k-hat 2.5 to 9 > 0.7"},
        {"kind": "stuck", "chains": [0], "message": "did not move"},
        {"kind": "nan", "chains": [2], "message": "did not move"},
    ]


@pytest.mark.parametrize(
    ("value", "shown"), [(309e27, "3.09e+29"), (-2e6, "-2e+06"), (57.16, "57.16")]
)
def test_a_score_too_long_to_read_has_an_exponent(value, shown):
    assert metric("rmse", value) == shown
