"""Progress: a bar on a terminal, one plain line a minute anywhere else."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    track,
)

LINE_SECONDS = 60.0
"""Between two lines where the output is no terminal."""


class ProgressBar:
    """Steps done, divergences, gradients a second and time left; a :class:`Monitor`.

    Args:
        label: what is running.
        total: steps of all chains, warm-up included.
        enabled: say anything at all.
        console: where to; standard error if not given.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        label: str,
        total: int,
        enabled: bool,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._label, self._total, self._clock = label, total, clock
        terminal = self._console.is_terminal
        self._lines = enabled and not terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            get_time=clock,
            disable=not (enabled and terminal),
        )
        self._task = self._bar.add_task(label, total=total, said="compiling")
        self._lock = threading.Lock()
        self._begun = self._spoken = clock()
        self._before = self._done = self._gradients = self._divergences = 0

    def start(self, done: int) -> None:
        """Compilation is over; so many steps were done before, where a run is gone on with."""
        self._begun = self._clock()
        self._before = self._done = done
        self._bar.update(self._task, completed=done, said="warming up")

    def advance(
        self, chain: int, steps: int, sampling: bool, gradients: int, divergences: int
    ) -> None:
        """A chain has finished this many more steps."""
        with self._lock:
            now = self._clock()
            self._done += steps
            self._gradients += gradients
            self._divergences += divergences if sampling else 0
            said = self._said(now, sampling)
            self._bar.update(self._task, advance=steps, said=said)
            if self._lines and now - self._spoken >= LINE_SECONDS:
                self._spoken = now
                left = (now - self._begun) * (self._total - self._done)
                left /= self._done - self._before
                line = f"{self._label}: {self._done:,} of {self._total:,} steps, {said}, "
                line += f"about {_duration(left)} left"
                self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def _said(self, now: float, sampling: bool) -> str:
        parts = ["sampling" if sampling else "warming up"]
        if self._divergences:
            parts.append(f"{self._divergences:,} divergent")
        if self._gradients and now > self._begun:
            parts.append(f"{self._gradients / (now - self._begun):,.0f} gradients/s")
        return ", ".join(parts)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()


def through[T](items: Sequence[T], label: str, enabled: bool) -> Iterator[T]:
    """Items one by one, with a bar on a terminal, elsewhere with a line a minute.

    The first counts for nothing in the time that is left: it compiles what the others run.

    Args:
        items: what is gone through.
        label: what is running.
        enabled: show anything at all.
    """
    console = Console(stderr=True)
    if enabled and console.is_terminal:
        yield from track(items, label, console=console, transient=True)
        return
    second = spoken = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if number == 1:
            second = now
        elif enabled and number and now - spoken >= LINE_SECONDS:
            spoken, left = now, (now - second) * (len(items) - number) / (number - 1)
            said = f"{label}: {number} of {len(items)}, about {_duration(left)} left"
            console.print(said, soft_wrap=True, highlight=False)
        yield item


@contextlib.contextmanager
def waiting(label: str, enabled: bool) -> Iterator[None]:
    """For work that cannot say how far it is: the time so far, on a terminal or a line a minute.

    Args:
        label: what is running.
        enabled: show anything at all.
    """
    if not enabled:
        yield
        return
    console, begun, done = Console(stderr=True), time.monotonic(), threading.Event()
    with console.status(label) if console.is_terminal else contextlib.nullcontext() as status:
        every = 1.0 if status else LINE_SECONDS

        def tell() -> None:
            while not done.wait(every):
                said = f"{label}: {_duration(time.monotonic() - begun)} so far"
                if status:
                    status.update(said)
                else:
                    console.print(said, soft_wrap=True, highlight=False)

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            done.set()
            teller.join()


def _duration(seconds: float) -> str:
    if seconds < 180:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
