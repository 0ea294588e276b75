"""The file of results that `make validate` keeps."""

import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent))
import _results


def report(nodeid, printed="", passed=True, recorded=()):
    return SimpleNamespace(
        nodeid=nodeid, capstdout=printed, passed=passed, duration=1.0, user_properties=recorded
    )


def test_a_run_replaces_the_tests_it_ran_alone():
    first = [
        report("b.py::law[1]", "z: 1.0\n\n", recorded=[("worst", 2.5)]),
        report("b.py::law[0]", passed=False),
        report("a.py::other", "said"),
    ]
    old = _results.families(first, "monday, abc")
    text = _results.render(old, "a machine")
    assert _results.read(text) == old
    assert text.index("## a.py") < text.index("## b.py")
    law = """- law: 1 passed, 1 failed, 2 s (monday, abc)
  - of `0` `1`
  - `0` FAILED
  - `1` z: 1.0
  - `1` worst = 2.5
"""
    assert law in text

    new = _results.families([report("b.py::law[0]", "z: 3")], "tuesday, def")
    both = _results.merged(old, new)
    text = _results.render(both, "a machine")
    assert _results.read(text) == both
    assert "- other: 1 passed, 0 failed, 1 s (monday, abc)\n  - said\n" in text
    law = """- law: 1 passed, 0 failed (monday, abc)
  - of `1`
  - `1` z: 1.0
  - `1` worst = 2.5
- law: 1 passed, 0 failed, 1 s (tuesday, def)
  - of `0`
  - `0` z: 3
"""
    assert text.endswith(law)
    everything = _results.families(first, "friday, ghi")
    assert _results.merged(both, everything) == everything


def test_a_family_without_its_members_is_replaced_whole():
    kept = _results.read("## b.py\n\n- law: 2 passed, 0 failed, 2 s (monday, abc)\n  - z: 1.0\n")
    new = _results.families([report("b.py::law[0]")], "tuesday, def")
    assert _results.merged(kept, new) == new


def test_the_file_is_made_where_there_is_none(tmp_path):
    path = tmp_path / "results.md"
    for name in ("one", "two"):
        _results.write(path, [report(f"a.py::{name}")])
    assert [name for _, name in _results.read(path.read_text())] == ["one", "two"]
    assert path.read_text().startswith(_results.HEADING)
