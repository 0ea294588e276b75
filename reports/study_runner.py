"""Runs a study's cells: resumes what a kill left, skips what is done, writes the page."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bnnzoo import registry
from bnnzoo.errors import InputError, OptionError, RunError, StorageError
from bnnzoo.reports.formatting import seconds as seconds_text
from bnnzoo.reports.study import Cell, Results, Study
from bnnzoo.reports.study_workers import executor
from bnnzoo.store import alone, sweep, write_bytes

__all__ = ["FORMAT", "StudyRun", "load_study", "run_study"]

FORMAT = 1
"""Of ``study.json`` and the cells; raised when a field changes its meaning."""

WATCH_SECONDS = 10.0
"""Least time between two pages of a study that is watched."""

HELPER = re.compile(r"^from (bnnzoo\.reports\.studies\._\w+) import", re.MULTILINE)

PACKAGES = ("bnnzoo", "jax", "numpyro", "blackjax", "arviz", "numpy", "scipy")


class StudyRun:
    """A study with what its finished cells measured.

    Attributes:
        name: of the study.
        study: it, at its scale.
        folder: where its files are.
        results: of the finished cells.
        manifest: where and with what it was run.
    """

    def __init__(
        self, name: str, study: Study, folder: Path, results: Results, manifest: Mapping[str, Any]
    ) -> None:
        self.name, self.study, self.folder = name, study, folder
        self.results, self.manifest = results, manifest

    @property
    def page(self) -> Path:
        """The report, with each claim's verdict."""
        return self.folder / "index.html"

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict of every claim, by its name."""
        from bnnzoo.reports.claims import check

        return {c.name: str(check(c, self.results)["verdict"]) for c in self.study.claims()}

    def __repr__(self) -> str:
        done, of = len(self.results.measured), len(self.results.cells)
        return f"<study {self.name}, {self.study.scale}: {done} of {of} cells, in {self.folder}>"


def run_study(
    name: str,
    scale: str = "small",
    out: str | os.PathLike[str] | None = None,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    progress: bool = True,
    watch: bool = False,
) -> StudyRun:
    """Run a study and write its page; what a folder already has of it is not done again.

    Args:
        name: of the study; see ``bz.list("studies")``.
        scale: ``smoke`` (that it runs), ``small`` (an honest small answer) or ``paper``.
        out: folder; ``studies/NAME-SCALE`` if not given.
        workers: processes that run cells side by side; 1 is this one. A cell uses several cores
            by itself.
        scheduler: address of a ``dask.distributed`` scheduler (``tcp://host:8786``) whose workers
            run the cells instead; they need the same versions of bnnzoo and JAX.
        progress: say on standard error which cell is done, and about how long is left.
        watch: write the page of what is done while cells go on, at most every ten seconds; open in
            a browser, it reloads itself until the study is finished.

    Returns:
        The study with its results.

    Raises:
        UnknownNameError: no study has that name.
        InputError: a scale or number that cannot be used, a folder of another study or scale, or
            one that another process is writing to; nothing was changed.
        RunError: a cell failed, named; finished ones are kept, and the next run goes on.
        StorageError: the folder cannot be written.
    """
    study = make_study(name, scale)
    if workers < 1:
        raise OptionError(f"workers = {workers}: must be at least 1")
    folder = Path(out) if out is not None else Path("studies") / f"{name}-{scale}"
    cells = study.cells()
    manifest = _manifest(name, study)
    run = executor(workers, scheduler)
    with _opened(folder, manifest) as kept:
        waiting = [cell for cell in cells if cell.name not in kept]
        told = Told(len(cells), len(cells) - len(waiting), progress)
        page = _Page(name, study, folder, manifest)
        if watch and waiting:
            page.write(unfinished=True)
            told.say(f"Open {folder / 'index.html'}: it follows the study")

        def finished(cell: str, seconds: float) -> None:
            told.finished(cell, seconds)
            if watch and told.done < told.total and page.age() > WATCH_SECONDS:
                page.write(unfinished=True)

        _run_all(study, folder, waiting, run, finished)
        return page.write()


class _Page:
    """A study's page, written again as its cells are finished."""

    def __init__(self, name: str, study: Study, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.name, self.study, self.folder, self.manifest = name, study, folder, manifest
        self.written = -math.inf

    def age(self) -> float:
        """Seconds since it was written."""
        return time.monotonic() - self.written

    def write(self, unfinished: bool = False) -> StudyRun:
        """Write it of what is done, to be reloaded where more will come."""
        from bnnzoo.reports.study_page import write_page

        results = _results(self.folder, self.study)
        found = StudyRun(self.name, self.study, self.folder, results, self.manifest)
        write_page(found, reloads=unfinished)
        self.written = time.monotonic()
        return found


def load_study(folder: str | os.PathLike[str]) -> StudyRun:
    """A study's finished cells, read from its folder; nothing is run.

    Args:
        folder: of :func:`run_study`.

    Raises:
        InputError: the folder holds no study, or one of a format that this version cannot read.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder} holds no study: study.json is missing")
    study = make_study(manifest["study"], manifest["scale"])
    return StudyRun(manifest["study"], study, folder, _results(folder, study), manifest)


def make_study(name: str, scale: str) -> Study:
    """A registered study at a scale.

    Raises:
        UnknownNameError: no study has that name.
        OptionError: no such scale.
    """
    study: Study = registry.get("studies", name).build({"scale": scale})
    return study


def run_cell(study: Study, cell: Cell, folder: str) -> float:
    """Do one cell and write its file; in whatever process this is called.

    Args:
        study: it, at its scale.
        cell: to be done.
        folder: of the study, which all workers must see.

    Returns:
        Seconds it took.
    """
    begun = time.perf_counter()
    measured = study.run(**cell.settings)
    seconds = time.perf_counter() - begun
    record = {
        "format": FORMAT,
        "cell": cell.name,
        "settings": dict(cell.settings),
        "measured": measured,
        "seconds": seconds,
    }
    text = json.dumps(record, indent=1, allow_nan=True) + "\n"
    write_bytes(Path(folder) / "cells" / f"{cell.name}.json", text.encode())
    return seconds


class Told:
    """Says which cell is done and about how long is left, on standard error."""

    def __init__(self, total: int, done: int, enabled: bool) -> None:
        self.total, self.done, self.enabled = total, done, enabled
        self.begun, self.before = time.monotonic(), done
        if done:
            self.say(f"{done} of {total} cells are done already")

    def finished(self, cell: str, seconds: float) -> None:
        """One more cell is done."""
        self.done += 1
        left = (time.monotonic() - self.begun) / (self.done - self.before)
        left *= self.total - self.done
        rest = f", about {seconds_text(left)} left" if self.done < self.total else ""
        self.say(f"{self.done} of {self.total} cells: {cell}, {seconds:.1f} s{rest}")

    def say(self, text: str) -> None:
        """A line, if any are wanted."""
        if self.enabled:
            print(text, file=sys.stderr, flush=True)


def _run_all(
    study: Study,
    folder: Path,
    cells: Sequence[Cell],
    make_executor: Callable[[], Executor] | None,
    finished: Callable[[str, float], None],
) -> None:
    """All cells, in this process or by an executor, which is made anew where a worker died."""
    do = functools.partial(run_cell, study)
    if make_executor is None:
        for cell in cells:
            finished(cell.name, _named(cell, functools.partial(do, cell, str(folder))))
        return
    waiting, deaths = list(cells), 0
    while waiting:
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(make_executor())
            futures: dict[Future[float], Cell] = {
                pool.submit(do, c, str(folder.resolve())): c for c in waiting
            }
            try:
                for cell, future in _as_done(futures):
                    finished(cell.name, _named(cell, future.result))
                    waiting.remove(cell)
            except BrokenExecutor:
                # A worker was killed: what had been finished is kept, the rest is done again.
                deaths += 1
                if deaths > 3:
                    raise RunError(
                        f"workers died {deaths} times, last with {waiting[0].name} to do: "
                        "out of memory? Finished cells are kept; try fewer --workers"
                    ) from None
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _as_done(futures: Mapping[Future[float], Cell]) -> Iterator[tuple[Cell, Future[float]]]:
    left = set(futures)
    while left:
        done, left = wait(left, return_when=FIRST_COMPLETED)
        for future in done:
            yield futures[future], future


def _named(cell: Cell, work: Callable[[], float]) -> float:
    """Run it; an error is said to be of this cell."""
    try:
        return work()
    except (BrokenExecutor, StorageError, KeyboardInterrupt):
        raise
    except Exception as error:
        kind = type(error).__name__
        raise RunError(
            f"cell {cell.name} failed: {kind}: {error}; finished cells are kept, and the same "
            "command goes on from here"
        ) from error


@contextlib.contextmanager
def _opened(folder: Path, manifest: Mapping[str, Any]) -> Iterator[set[str]]:
    """A folder of this study alone, for as long as it is written to; gives its finished cells."""
    earlier = _read_manifest(folder)
    if earlier is not None:
        for key in ("study", "scale"):
            if earlier.get(key) != manifest[key]:
                raise InputError(
                    f"{folder} holds the study {earlier.get('study')} at scale "
                    f"{earlier.get('scale')}: give another folder with --out"
                )
        if earlier.get("code") != manifest["code"]:
            raise InputError(
                f"{folder} was begun with another version of the study {manifest['study']}, whose "
                "cells do not compare: give another folder with --out"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and holds no study: give another folder with --out")
    with alone(folder):
        try:
            (folder / "cells").mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write in {folder}: {error.strerror or error}") from None
        for place in (folder, folder / "cells"):
            sweep(place)
        if earlier is None:
            write_bytes(folder / "study.json", (json.dumps(manifest, indent=1) + "\n").encode())
        yield {path.stem for path in (folder / "cells").glob("*.json")}


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        text = (folder / "study.json").read_text(encoding="utf-8")
    except OSError:
        return None
    try:
        found: dict[str, Any] = json.loads(text)
        kind, _, _ = found["format"], found["study"], found["scale"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder / 'study.json'} is damaged: give another folder") from None
    if kind != FORMAT:
        raise InputError(f"{folder} is of format {kind}, this version of bnnzoo reads {FORMAT}")
    return found


def _results(folder: Path, study: Study) -> Results:
    """What the finished cells measured; a cell of other settings is refused."""
    cells = study.cells()
    measured = {}
    for cell in cells:
        path = folder / "cells" / f"{cell.name}.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            raise InputError(f"{path} is damaged: delete it, and run the study again") from None
        if record["settings"] != json.loads(json.dumps(dict(cell.settings))):
            raise InputError(f"{path} has other settings than this version of the study")
        measured[cell.name] = {**record["measured"], "seconds": record["seconds"]}
    return Results(cells, measured)


def _manifest(name: str, study: Study) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "study": name,
        "scale": study.scale,
        "code": code_hash(type(study).__module__),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
    }


def code_hash(module: str) -> str:
    """Hash of what a study's cells run: its file and the helpers beside it that it imports.

    Helpers whose names end in ``_page`` tell results and measure nothing.

    Args:
        module: the study's, imported.
    """
    sources, waiting = {}, [module]
    while waiting:
        name = waiting.pop()
        sources[name] = inspect.getsource(sys.modules[name])
        imported = set(HELPER.findall(sources[name])) - {name} - set(sources)
        waiting += sorted(one for one in imported if not one.endswith("_page"))
    whole = "".join(sources[name] for name in sorted(sources))
    return hashlib.sha256(whole.encode()).hexdigest()
