"""The results of `make validate` as Markdown: what passed, and the figures it printed or recorded.

A run replaces the tests that it ran and keeps the others, each with the day and the commit it was
run at, so that hours of validation need not be run in one go.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path


@dataclass
class Turn:
    """Tests of one name that were run together.

    Attributes:
        stamp: day and commit.
        passed: number.
        failed: number.
        seconds: of all; None once some of them were run again.
        members: their parameters; empty of a test that has none, or where they were not kept.
        lines: figures and failures, each with its member before it.
    """

    stamp: str
    passed: int
    failed: int
    seconds: int | None
    members: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def without(self, again: list[str]) -> Turn | None:
        """What is left of it once these members were run again; None if that is nothing."""
        left = [m for m in self.members if m not in again]
        if not left or not again:
            return None
        if left == self.members:
            return self
        lines = [line for line in self.lines if not line.startswith(_quoted(again))]
        failed = sum(line.endswith("` FAILED") for line in lines)
        return Turn(self.stamp, len(left) - failed, failed, None, left, lines)


Families = dict[tuple[str, str], list[Turn]]
"""Turns of every family of tests, by file and test name."""

HEADING = "# Results of `make validate`"

TURN = re.compile(r"- ([\w:]+): (\d+) passed, (\d+) failed(?:, (\d+) s)? \((.*)\)")


def write(path: Path, reports: list) -> None:
    """Bring the file up to date with the reports of a run."""
    kept = read(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(render(merged(kept, families(reports, stamp())), machine()), encoding="utf-8")


def merged(kept: Families, new: Families) -> Families:
    """Both, without what was run again."""
    found = dict(kept)
    for name, (turn,) in new.items():
        older = (old.without(turn.members) for old in kept.get(name, ()))
        found[name] = [*(old for old in older if old is not None), turn]
    return found


def read(text: str) -> Families:
    """The families in a file that :func:`render` wrote."""
    found: Families = {}
    file, turn = "", None
    for line in text.splitlines():
        if line.startswith("## "):
            file, turn = line.removeprefix("## "), None
        elif said := TURN.fullmatch(line):
            name, passed, failed, seconds, stamped = said.groups()
            turn = Turn(stamped, int(passed), int(failed), int(seconds) if seconds else None)
            found.setdefault((file, name), []).append(turn)
        elif line.startswith("- "):
            raise ValueError(f"{file}: {line!r} was not written by make validate")
        elif turn and not turn.lines and re.fullmatch("  - of( `[^`]*`)+", line):
            turn.members = re.findall("`([^`]*)`", line)
        elif turn and line.startswith("  - "):
            turn.lines.append(line.removeprefix("  - "))
    return found


def families(reports: list, stamped: str) -> Families:
    """One turn a family of tests."""
    members: dict[tuple[str, str], dict[str, object]] = {}
    for report in reports:
        file, _, name = report.nodeid.partition("::")
        name, _, member = name.partition("[")
        members.setdefault((file, name), {})[member.removesuffix("]")] = report
    return {name: [_turn(group, stamped)] for name, group in members.items()}


def _turn(group: dict, stamped: str) -> Turn:
    failed = sum(not r.passed for r in group.values())
    turn = Turn(
        stamped, len(group) - failed, failed, round(sum(r.duration for r in group.values()))
    )
    turn.members = sorted(filter(None, group))
    for member, report in sorted(group.items()):
        said = [] if report.passed else ["FAILED"]
        said += [line.strip() for line in report.capstdout.splitlines() if line.strip()]
        said += [f"{key} = {' '.join(str(v).split())}" for key, v in report.user_properties]
        turn.lines += [f"`{member}` {line}" if member else line for line in said]
    return turn


def _quoted(members: list[str]) -> tuple[str, ...]:
    return tuple(f"`{member}` " for member in members)


def render(found: Families, on: str) -> str:
    """The whole file."""
    lines = [
        HEADING,
        "",
        "Each test as it was last run, with the day and the commit (+: with changes not yet "
        f"committed). The last run was on {on}.",
    ]
    last = ""
    for (file, name), turns in sorted(found.items(), key=lambda item: item[0]):
        if file != last:
            last = file
            lines += ["", f"## {file}", ""]
        for turn in turns:
            time = "" if turn.seconds is None else f", {turn.seconds} s"
            counts = f"{turn.passed} passed, {turn.failed} failed{time}"
            lines += [f"- {name}: {counts} ({turn.stamp})"]
            if turn.members:
                lines += ["  - of " + " ".join(f"`{member}`" for member in turn.members)]
            lines += [f"  - {line}" for line in turn.lines]
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
