"""The results of `make validate` as Markdown: what passed, and the figures it printed.

A run replaces the families of tests that it ran and keeps the others, each with the day and the
commit it was run at, so that hours of validation need not be run in one go.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

Families = dict[tuple[str, str], list[str]]
"""Lines of every family of tests, by file and test name."""

HEADING = "# Results of `make validate`"


def write(path: Path, reports: list) -> None:
    """Bring the file up to date with the reports of a run."""
    kept = read(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(render(kept | families(reports, stamp()), machine()), encoding="utf-8")


def read(text: str) -> Families:
    """The families in a file that :func:`render` wrote."""
    found: Families = {}
    file = name = ""
    for line in text.splitlines():
        if line.startswith("## "):
            file, name = line.removeprefix("## "), ""
        elif line.startswith("- "):
            name = line.removeprefix("- ").partition(":")[0]
            found[file, name] = [line]
        elif line.startswith("  ") and name:
            found[file, name].append(line)
    return found


def families(reports: list, stamped: str) -> Families:
    """One line a family of tests, then its failures, then what its tests printed."""
    members: dict[tuple[str, str], list] = {}
    for report in reports:
        file, _, name = report.nodeid.partition("::")
        members.setdefault((file, name.partition("[")[0]), []).append(report)
    found: Families = {}
    for (file, name), group in members.items():
        failed = [r for r in group if not r.passed]
        lines = [
            f"- {name}: {len(group) - len(failed)} passed, {len(failed)} failed, "
            f"{sum(r.duration for r in group):.0f} s ({stamped})"
        ]
        lines += [f"  - FAILED {r.nodeid.partition('::')[2]}" for r in failed]
        for report in sorted(group, key=lambda r: r.nodeid):
            lines += [f"  - {line}" for line in report.capstdout.splitlines() if line.strip()]
        found[file, name] = lines
    return found


def render(found: Families, on: str) -> str:
    """The whole file."""
    lines = [
        HEADING,
        "",
        "Each family of tests as it was last run, with the day and the commit (+: with changes not "
        f"yet committed). The last run was on {on}.",
    ]
    last = ""
    for (file, _), group in sorted(found.items()):
        if file != last:
            last = file
            lines += ["", f"## {file}", ""]
        lines += group
    return "\n".join(lines) + "\n"


def stamp() -> str:
    """Day and commit."""

    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", *words], capture_output=True, text=True).stdout.strip()
        except OSError:
            return ""

    commit = git("rev-parse", "--short", "HEAD") or "no commit"
    changed = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{datetime.date.today()}, {commit}{changed}"


def machine() -> str:
    """The machine and the versions that matter."""
    versions = ", ".join(f"{p} {version(p)}" for p in ("jax", "numpyro", "blackjax", "numpy"))
    python = platform.python_version()
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {python}, {versions}"
