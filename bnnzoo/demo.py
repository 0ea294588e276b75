"""``python -m bnnzoo.demo``: priors, backends and temperatures compared on real data, as a page.

Three priors x two backends x two temperatures on a regression and on a classification. Finished
runs are kept, so that the same command again goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.padding import Padding

from bnnzoo.cli.console import console, seconds
from bnnzoo.cli.errors import guarded
from bnnzoo.cli.reporting import verdicts
from bnnzoo.cli.summary import NAMES, metric

if TYPE_CHECKING:
    from rich.console import Console

    from bnnzoo.inference import Run


HEADLINES = {"regression": "rmse", "classification": "accuracy"}
"""The metric shown beside the log density."""


@dataclass(frozen=True)
class Grid:
    """What is compared, and how long each run is.

    Attributes:
        datasets: options of the network by data set.
        priors: names.
        backends: options of the inference by backend.
        temperatures: posterior temperatures.
        test_size: fraction of the rows that the comparison is made on.
    """

    datasets: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {
            "diabetes": {"widths": [10]},
            "breast-cancer": {"widths": [5]},
        }
    )
    priors: Sequence[str] = ("gaussian", "laplace", "student-t")
    backends: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {
            "hmc": {"chains": 4, "warmup": 250, "draws": 200, "max_steps": 192},
            "mean-field-vi": {
                "chains": 4,
                "warmup": 1200,
                "draws": 200,
                "samples": 4,
                "learning_rate": 0.03,
            },
        }
    )
    temperatures: Sequence[float] = (1.0, 0.5)
    test_size: float = 0.25

    @property
    def size(self) -> int:
        """Number of runs."""
        return len(self.datasets) * len(self.priors) * len(self.backends) * len(self.temperatures)

    def trees(self, dataset: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Folder and tree of each run on a data set.

        Runs that share compiled programs follow each other: only the temperature differs.
        """
        for prior, backend, T in itertools.product(self.priors, self.backends, self.temperatures):
            yield (
                f"{dataset}/{prior}-{backend}-{T:g}",
                {
                    "data": {"name": dataset, "test_size": self.test_size},
                    "network": {"name": "mlp", **self.datasets[dataset]},
                    "prior": {"name": prior},
                    "inference": {
                        "backend": backend,
                        "posterior_temperature": T,
                        **self.backends[backend],
                    },
                },
            )


def run_demo(out: Path, runs: Path, grid: Grid | None = None) -> Path:
    """Run the grid and write the page.

    Args:
        out: the page; Markdown and JSON are written beside it.
        runs: folder that the runs go to; what is finished there is kept.
        grid: what to compare.

    Returns:
        The page.
    """
    begun = time.perf_counter()
    grid = grid or Grid()
    shown = console()
    shown.print(
        f"Comparing {len(grid.priors)} priors x {len(grid.backends)} backends x "
        f"{len(grid.temperatures)} temperatures on {' and '.join(grid.datasets)}: {grid.size} runs"
    )
    made: list[Run] = []
    with _progress(shown, grid.size) as advance:
        for dataset in grid.datasets:
            made += _run_dataset(dataset, grid, runs, shown, advance)
    from bnnzoo.reports import write_report

    page = write_report(made, out, title="Bayesian neural networks: priors, backends, temperatures")
    shown.print()
    for sentence in verdicts(page):
        shown.print(sentence, style="bold")
    shown.print(f"\nDone in {seconds(time.perf_counter() - begun)}. The runs are in {runs}.")
    shown.print("The page:", style="bold")
    print(page.resolve())  # one line, however long: terminals make it a link
    return page


def _run_dataset(dataset: str, grid: Grid, folder: Path, shown: Console, advance: Any) -> list[Run]:
    """The runs on one data set, a line each, and what is doubtful about them."""
    from bnnzoo.api import plan
    from bnnzoo.cli.summary import convergence, warnings_of
    from bnnzoo.reports.flags import merge_messages, template

    made: list[Run] = []
    doubts: dict[str, list[tuple[str, str]]] = {}
    for k, (name, tree) in enumerate(grid.trees(dataset)):
        advance(0, name)
        planned = plan(tree)
        if k == 0:
            data = planned.data
            shown.print(
                f"\n{dataset}: {data.rows} training rows, {data.test_rows} test rows, "
                f"{data.x[0].size} features, {data.task}",
                style="bold",
            )
            shown.print(_heading(data.task), style="dim")
        kept = planned.state(folder / name) == "complete"
        begun = time.perf_counter()
        run = planned.fit(folder / name, progress=False)
        found = convergence(run)
        said = warnings_of(run, found)
        took = "kept" if kept else seconds(time.perf_counter() - begun)
        shown.print(f"{_line(run, found['rhat'])} {took:>8}{'  !' if said else ''}")
        for line in said:
            doubts.setdefault(template(line), []).append((_words(run), line))
        made.append(run)
        advance(1, name)
    for same in doubts.values():
        who = "; ".join(name for name, _ in same)
        line = f"! {who}: {merge_messages(message for _, message in same)}"
        shown.print(Padding(line, (0, 0, 0, 2)), style="yellow")
    return made


def _heading(task: str) -> str:
    columns = f"  {'prior':<10} {'backend':<14} {'T':<4} {'NLL':>7} {NAMES[HEADLINES[task]]:>10}"
    return f"{columns} {'R-hat':>7} {'time':>8}"


def _line(run: Run, rhat: float | None) -> str:
    """What was run and how well it predicts, in columns."""
    inference, scores = run.spec.inference, run.manifest["metrics"]
    headline = HEADLINES[run.manifest["data"]["task"]]
    return (
        f"  {run.spec.prior.name:<10} {inference.backend:<14} "
        f"{inference.posterior_temperature:<4g} {metric('nll', scores['nll']):>7} "
        f"{metric(headline, scores[headline]):>10} {'-' if rhat is None else f'{rhat:.3f}':>7}"
    )


def _words(run: Run) -> str:
    inference = run.spec.inference
    return f"{run.spec.prior.name}, {inference.backend}, T={inference.posterior_temperature:g}"


@contextmanager
def _progress(shown: Console, total: int) -> Iterator[Any]:
    """A bar below the lines with the time left; on a terminal only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    columns = (BarColumn(20), MofNCompleteColumn(), Left(), TextColumn("{task.description}"))
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda done, name: bar.update(task, advance=done, description=name)


def main(arguments: Sequence[str] | None = None) -> int:
    """The demo's command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bnnzoo.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="page to write")
    parser.add_argument("--runs", type=Path, default=Path("runs/demo"), help="folder of the runs")
    given = parser.parse_args(arguments)

    def command() -> int:
        try:
            run_demo(given.out, given.runs)
        except KeyboardInterrupt:
            print("bnnzoo: interrupted; the same command goes on", file=sys.stderr)
            return 130
        return 0

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
