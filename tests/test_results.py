"""The file of results that `make validate` keeps."""

import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent))
import _results


def report(nodeid, printed="", passed=True):
    return SimpleNamespace(nodeid=nodeid, capstdout=printed, passed=passed, duration=1.0)


def test_a_run_replaces_its_own_families_alone(tmp_path):
    first = [report("b.py::law[1]", "z: 1.0\n\n"), report("b.py::law[0]"), report("a.py::other")]
    old = _results.families(first, "monday, abc")
    text = _results.render(old, "a machine")
    assert _results.read(text) == old
    assert text.index("## a.py") < text.index("## b.py")
    assert "- law: 2 passed, 0 failed, 2 s (monday, abc)\n  - z: 1.0\n" in text

    new = _results.families([report("b.py::law[0]", passed=False)], "tuesday, def")
    merged = _results.read(_results.render(old | new, "a machine"))
    assert merged["a.py", "other"] == ["- other: 1 passed, 0 failed, 1 s (monday, abc)"]
    assert merged["b.py", "law"] == [
        "- law: 0 passed, 1 failed, 1 s (tuesday, def)",
        "  - FAILED law[0]",
    ]


def test_the_file_is_made_where_there_is_none(tmp_path):
    path = tmp_path / "results.md"
    for name in ("one", "two"):
        _results.write(path, [report(f"a.py::{name}")])
    assert [name for _, name in _results.read(path.read_text())] == ["one", "two"]
    assert path.read_text().startswith(_results.HEADING)
