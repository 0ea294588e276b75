"""What holds for every test: CPU, a matplotlib without windows, annotations checked at run time."""

import os
import sys
from pathlib import Path

# Set before anything imports them, and inherited by the subprocesses that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["MPLBACKEND"] = "Agg"

import pytest
from jaxtyping import install_import_hook

# Every function of bnnzoo, wherever its folder stands, checks its arguments' types and shapes while
# the tests run. Modules imported earlier would escape.
assert "bnnzoo" not in sys.modules, "bnnzoo was imported before tests/conftest.py"
install_import_hook("bnnzoo", "beartype.beartype")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", help="write what passed and the figures it printed to this file")


def pytest_terminal_summary(terminalreporter, exitstatus, config) -> None:
    """The results of a run as Markdown: `make validate` keeps its last ones in the docs."""
    path = config.getoption("--results")
    if not path:
        return
    import platform
    from importlib.metadata import version

    stats = terminalreporter.stats
    reports = [r for kind in ("passed", "failed") for r in stats.get(kind, []) if r.when == "call"]
    versions = ", ".join(f"{p} {version(p)}" for p in ("jax", "numpyro", "blackjax", "numpy"))
    lines = [
        "# Results of the last `make validate`",
        "",
        f"{len(stats.get('passed', []))} passed, {len(stats.get('failed', []))} failed; "
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{versions}.",
    ]
    families: dict[tuple[str, str], list] = {}
    for report in reports:
        file, _, name = report.nodeid.partition("::")
        families.setdefault((file, name.partition("[")[0]), []).append(report)
    folder = ""
    for (file, name), members in sorted(families.items()):
        if file != folder:
            folder = file
            lines += ["", f"## {file}", ""]
        failed = [r for r in members if not r.passed]
        took = sum(r.duration for r in members)
        lines.append(
            f"- {name}: {len(members) - len(failed)} passed, {len(failed)} failed, {took:.0f} s"
        )
        lines += [f"  - FAILED {r.nodeid.partition('::')[2]}" for r in failed]
        for report in sorted(members, key=lambda r: r.nodeid):
            lines += [f"  - {line}" for line in report.capstdout.splitlines() if line.strip()]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
