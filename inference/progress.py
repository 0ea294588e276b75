"""Progress in the terminal: one bar a run, quiet where nobody watches."""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """A bar over all steps of all chains; a context manager and a :class:`Monitor`.

    Where the output is not a terminal nothing is drawn: the caller's own lines say what was done.

    Args:
        label: what is running.
        total: steps of all chains, warm-up included.
        enabled: draw at all.
    """

    def __init__(self, label: str, total: int, enabled: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[phase]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (enabled and console.is_terminal),
        )
        self._task = self._progress.add_task(label, total=total, phase="compiling")
        self._lock = threading.Lock()

    def advance(self, chain: int, steps: int, sampling: bool) -> None:
        """A chain has finished this many more steps."""
        with self._lock:
            self._progress.update(
                self._task, advance=steps, phase="sampling" if sampling else "warming up"
            )

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
