"""What is said while a run goes on."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

import bnnzoo as bz
from bnnzoo.inference import progress
from bnnzoo.inference.progress import ProgressBar


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def reporter(terminal=False, enabled=True, total=1000):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)
    clock = Clock()
    return ProgressBar("nuts", total, enabled, console, clock), console.file, clock


def test_a_line_a_minute_where_nobody_watches():
    bar, file, clock = reporter()
    with bar:
        clock.now += 50.0  # compiling
        bar.start(done=200)
        for _ in range(12):
            clock.now += 10.0
            bar.advance(0, 50, sampling=_ >= 6, gradients=2_000, divergences=1)
    lines = file.getvalue().splitlines()
    assert lines == [
        "nuts: 250 of 1,000 steps, warming up, 200 gradients/s, about 150 s left",
        "nuts: 550 of 1,000 steps, sampling, 1 divergent, 200 gradients/s, about 90 s left",
    ]


def test_a_bar_on_a_terminal():
    bar, file, clock = reporter(terminal=True)
    with bar:
        bar.start(done=0)
        for divergences in (0, 3):
            clock.now += 2.0
            bar.advance(0, 200, sampling=True, gradients=8_000, divergences=divergences)
        bar._bar.refresh()
    text = file.getvalue()
    assert "400/1000" in text and "sampling, 3 divergent, 4,000 gradients/s" in text
    assert "0:00:06" in text, "600 steps are left, at 100 a second"


def test_silence_where_it_is_asked_for():
    for terminal in (True, False):
        bar, file, clock = reporter(terminal, enabled=False)
        with bar:
            bar.start(done=0)
            clock.now += 500.0
            bar.advance(0, 10, sampling=True, gradients=10, divergences=0)
        assert file.getvalue() == ""


@pytest.mark.validate
def test_a_run_tells_of_every_step_and_gradient(monkeypatch, capfd):
    told = []

    class Telling(ProgressBar):
        def advance(self, chain, steps, sampling, gradients, divergences):
            told.append((chain, steps, sampling, gradients, divergences))
            super().advance(chain, steps, sampling, gradients, divergences)

    monkeypatch.setattr("bnnzoo.inference.fitting.ProgressBar", Telling)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    data = bz.load_dataset("gap", n=20, seed=0)
    model = bz.make_model(network_options={"widths": [3]})
    run = bz.fit(model, data, "nuts", chains=2, draws=40, warmup=30)
    for chain in range(2):
        assert sum(t[1] for t in told if t[0] == chain and not t[2]) == 30
        assert sum(t[1] for t in told if t[0] == chain and t[2]) == 40
    assert sum(t[3] for t in told) == run.manifest["gradients"]
    divergences = int(run.tree["sample_stats"]["diverging"].sum())
    assert sum(t[4] for t in told if t[2]) == divergences
    assert re.search(
        r"nuts: 140 of 140 steps, .*gradients/s, about 0 s left", capfd.readouterr().err
    )


def test_work_that_cannot_say_how_far_it_is_tells_the_time(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.02)
    with progress.waiting("evidence by smc", True):
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert lines and set(lines) == {"evidence by smc: 0 s so far"}
    with progress.waiting("evidence by smc", False):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_what_compiles_counts_for_nothing_in_the_time_that_is_left(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for number in progress.through(range(5), "tune", True):
        now[0] += 100.0 if number == 0 else 10.0
    assert capsys.readouterr().err == "tune: 2 of 5, about 30 s left\n"
