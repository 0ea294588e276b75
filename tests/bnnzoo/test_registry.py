"""The registry: names, tags, cards, and folders whose files are found."""

import json
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from bnnzoo import registry
from bnnzoo.errors import BnnzooError, InputError, OptionError, UnknownNameError
from bnnzoo.options import Count, Fraction, NoOptions, Options, Positive


class KnobOptions(Options):
    std: Positive = Field(1.0, description="A scale.")
    widths: list[Count] = Field([50], description="Sizes.")
    level: Fraction | None = Field(None, description="A part.")
    name: str = Field(description="Has no default.")


@pytest.fixture
def widgets(tmp_path, monkeypatch):
    """A kind of its own, with an empty package to hold its entries."""
    folder = tmp_path / "widget_shop"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.KINDS, "widgets", ("widget_shop",))
    monkeypatch.setitem(registry._entries, "widgets", {})
    yield folder
    registry._discovered.discard("widget_shop")
    for module in [m for m in sys.modules if m.split(".")[0] == "widget_shop"]:
        del sys.modules[module]


def add(name, **card):
    return registry.register("widgets", name, **({"summary": "A widget."} | card))(lambda o: o)


def test_every_file_of_the_folder_is_an_entry_but_private_ones(widgets):
    entry = """
        from bnnzoo.registry import register

        @register("widgets", "NAME", summary="Found.")
        def make(options):
            return "made"
    """
    for file, name in (("one", "first"), ("two", "second"), ("_helper", "helper")):
        (widgets / f"{file}.py").write_text(textwrap.dedent(entry).replace("NAME", name))
    assert registry.list_names("widgets") == ["first", "second"]
    assert registry.get("widgets", "first").build({}) == "made"
    assert registry.list_names("widgets") == ["first", "second"]  # a second look finds no more


def test_a_kind_in_two_packages_loads_the_second_only_where_the_first_does_not_have_it(
    widgets, tmp_path, monkeypatch
):
    annex = tmp_path / "widget_shop" / "_annex"
    annex.mkdir()
    (annex / "__init__.py").touch()
    entry = "from bnnzoo.registry import register\n"
    entry += "@register('widgets', 'NAME', summary='Found.')\ndef make(options):\n    return 'made'"
    (widgets / "one.py").write_text(entry.replace("NAME", "near"))
    (annex / "two.py").write_text(entry.replace("NAME", "far"))
    packages = ("widget_shop", "widget_shop._annex")
    monkeypatch.setitem(registry.KINDS, "widgets", packages)
    try:
        assert registry.get("widgets", "near").build({}) == "made"
        assert "widget_shop._annex.two" not in sys.modules
        assert registry.get("widgets", "far").build({}) == "made"
        assert registry.list_names("widgets") == ["far", "near"]
        with pytest.raises(UnknownNameError, match="'fra'; did you mean 'far'"):
            registry.get("widgets", "fra")
    finally:
        registry._discovered.discard("widget_shop._annex")


def test_a_duplicate_name_raises_and_keeps_the_first(widgets):
    add("knob", summary="The first.")
    with pytest.raises(BnnzooError, match="widget 'knob' is registered twice"):
        add("knob", summary="The second.")
    assert registry.describe("widgets", "knob").summary == "The first."
    registry.unregister("widgets", "knob")
    add("knob", summary="The second.")
    registry.unregister("widgets", "absent")
    assert registry.describe("widgets", "knob").summary == "The second."


def test_unknown_names_and_kinds_get_the_nearest(widgets):
    add("student-t")
    with pytest.raises(
        UnknownNameError, match="unknown widget 'studnet-t'; did you mean 'student-t'"
    ):
        registry.get("widgets", "studnet-t")
    for call in (registry.list_names, registry.describe, registry.get):
        arguments = ("widgts", "x")[: 1 if call is registry.list_names else 2]
        with pytest.raises(UnknownNameError, match="unknown kind 'widgts'; did you mean 'widgets'"):
            call(*arguments)
    with pytest.raises(UnknownNameError, match="unknown kind 'widgts'"):
        registry.register("widgts", "x", summary="")


def test_tags_select(widgets):
    add("a", tags={"family": "heavy", "sites": ("kernel", "bias"), "exact": True})
    add("b", tags={"family": "light", "sites": ("kernel",), "exact": False})
    add("c")
    names = registry.list_names
    assert names("widgets") == ["a", "b", "c"]
    assert names("widgets", family="heavy") == ["a"]
    assert names("widgets", sites="kernel") == ["a", "b"]
    assert names("widgets", sites="kernel", exact=True) == ["a"]
    assert names("widgets", exact=False) == ["b", "c"]
    assert names("widgets", family="light", exact=True) == []
    with pytest.raises(
        UnknownNameError, match="unknown family of widgets 'hevy'; did you mean 'he"
    ):
        registry.list_names("widgets", family="hevy")
    with pytest.raises(UnknownNameError, match="unknown tag of widgets 'familly'; did you mean"):
        names("widgets", familly="heavy")


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.booleans()), max_size=6), st.data())
def test_a_query_gives_exactly_the_entries_that_carry_every_tag(cards, data):
    entries = registry._entries | {"widgets": {}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.KINDS, "widgets", ("unused",))
        patch.setattr(registry, "_entries", entries)
        patch.setattr(registry, "_discovered", {"unused"})
        for i, tags in enumerate(cards):
            add(f"w{i}", tags=tags)
        known = sorted({tag for tags in cards for tag in tags})
        query = data.draw(st.dictionaries(st.sampled_from(known), st.booleans())) if known else {}
        expected = [
            f"w{i}"
            for i, tags in enumerate(cards)
            if all(tags.get(tag, False) == value for tag, value in query.items())
        ]
        assert registry.list_names("widgets", **query) == expected


def test_a_card_holds_the_options_as_declared(widgets):
    add(
        "knob",
        options=KnobOptions,
        references=["A paper, eq. 3."],
        tags={"t": ("x", "y")},
        notes="!",
    )
    card = registry.describe("widgets", "knob")
    assert [(p.name, p.type, p.default) for p in card.parameters] == [
        ("std", "number", 1.0),
        ("widths", "array", [50]),
        ("level", "number or none", None),
        ("name", "text", "required"),
    ]
    plain = card.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["tags"] == {"t": ["x", "y"]}
    assert plain["references"] == ["A paper, eq. 3."]
    assert plain["parameters"][0]["description"] == "A scale."


def test_an_option_needs_a_description(widgets):
    class Mute(Options):
        std: float = 1.0

    with pytest.raises(InputError, match="option 'std' of Mute has no description"):
        add("mute", options=Mute)
    assert registry._entries["widgets"] == {}


def test_building_validates_and_names_the_section(widgets):
    add("knob", options=KnobOptions)
    entry = registry.get("widgets", "knob")
    assert entry.build({"name": "x", "std": 2}).std == 2.0
    with pytest.raises(OptionError, match=r"unknown option widget\.sdt of widget 'knob'.*'std'"):
        entry.build({"sdt": 1})
    with pytest.raises(OptionError, match=r"^network\.std = -1"):
        entry.build({"std": -1, "name": "x"}, where="network")


def test_an_entry_without_options_takes_none(widgets):
    add("plain")
    assert registry.describe("widgets", "plain").parameters == ()
    assert registry.get("widgets", "plain").build({}) == NoOptions()
    with pytest.raises(OptionError, match=r"unknown option widget\.x of widget 'plain'"):
        registry.get("widgets", "plain").build({"x": 1})


def test_data_sets_are_found_by_task_and_source():
    assert registry.list_names("datasets", task="regression", source="synthetic") == [
        "bnn-draw",
        "friedman-1",
        "gap",
        "heteroscedastic-sine",
        "step",
    ]
    assert "digits" in registry.list_names("datasets", task="classification")


def test_facts_are_in_the_order_of_their_headings_and_no_others(widgets, monkeypatch):
    monkeypatch.setitem(registry.FACTS, "widgets", ("weight", "price"))
    add("one", facts={"price": "low", "weight": "light"})
    card = registry.describe("widgets", "one")
    assert list(card.facts.items()) == [("weight", "light"), ("price", "low")]
    assert card.to_dict()["facts"] == {"weight": "light", "price": "low"}
    with pytest.raises(BnnzooError, match="'colour'"):
        add("two", facts={"colour": "red"})
    assert registry.list_names("widgets") == ["one"]
