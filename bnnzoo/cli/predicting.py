"""``bnnzoo predict``: what a run says of new rows, as CSV."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnnzoo.cli.console import Json, console, counted, print_json
from bnnzoo.cli.options import AgainFlag
from bnnzoo.cli.userfile import load_function, require_model

if TYPE_CHECKING:
    import numpy as np

    from bnnzoo.datasets import Dataset

QUANTILES = {"q05": 0.05, "q50": 0.5, "q95": 0.95}
"""Columns of a regression, besides mean and std."""

ROWS_AT_ONCE = 5000
"""More rows are predicted in parts, so that memory does not grow with their number."""


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    rows: Annotated[Path, typer.Argument(help="CSV file with a column for each feature.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="CSV file to write; default stdout.", metavar="FILE"),
    ] = None,
    model: AgainFlag = None,
    as_json: Json = False,
) -> None:
    """Predict new rows.

    Regression: mean, std and the 5 %, 50 % and 95 % quantiles of the target, noise included.
    Classification: the most probable class and the probability of each.
    """
    from bnnzoo.errors import InputError

    if out is not None and out.is_dir():
        raise InputError(f"{out} is a folder; name a file, such as {out / 'predictions.csv'}")
    require_model(run, model)
    function = load_function(model) if model is not None else None
    from bnnzoo.datasets import load_inputs
    from bnnzoo.inference import load_run

    loaded = load_run(run, function)
    data = loaded.posterior.data
    assert data is not None
    columns, lines = _predictions(loaded, data, load_inputs(rows, data))
    if out is not None:
        _write(out, _as_csv(columns, lines))
    if as_json:
        summary: dict[str, Any] = {"run": str(run), "rows": len(lines), "columns": columns}
        summary["out"] = None if out is None else str(out)
        if out is None:
            summary["predictions"] = [dict(zip(columns, line, strict=True)) for line in lines]
        print_json(summary)
    elif out is None:
        sys.stdout.write(_as_csv(columns, lines))
    else:
        console().print(f"Wrote {out}: {counted(len(lines), 'row')} of {', '.join(columns)}")


def _predictions(
    run: Any, data: Dataset, x: np.ndarray
) -> tuple[list[str], list[list[float | str]]]:
    """Names of the columns, and one list a row."""
    made: list[list[float | str]] = []
    columns: list[str] = []
    for start in range(0, len(x), ROWS_AT_ONCE):
        prediction = run.predict(x[start : start + ROWS_AT_ONCE])
        if data.task == "classification":
            columns, part = _classes(data, prediction.probabilities)
        else:
            columns, part = _numbers(data, prediction)
        made += part
    return columns, made


def _classes(data: Dataset, p: np.ndarray) -> tuple[list[str], list[list[float | str]]]:
    columns = ["class", *(f"p({name})" for name in data.class_names)]
    best = p.argmax(axis=1)
    return columns, [
        [data.class_names[k], *row] for k, row in zip(best.tolist(), p.tolist(), strict=True)
    ]


def _numbers(data: Dataset, prediction: Any) -> tuple[list[str], list[list[float | str]]]:
    import numpy as np

    levels = prediction.quantile(np.array(list(QUANTILES.values())))
    parts = np.stack([prediction.mean, prediction.std, *levels])  # (statistic, row[, output])
    names = ["mean", "std", *QUANTILES]
    if parts.ndim == 3:
        names = [f"{target}.{name}" for target in data.target_names for name in names]
        parts = np.moveaxis(parts, 2, 0).reshape(-1, parts.shape[1])
    return names, parts.T.tolist()


def _as_csv(columns: list[str], lines: list[list[float | str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in line] for line in lines)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    """The whole file or none; folders that are missing are made."""
    from bnnzoo.store._files import storing, write_file

    with storing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, lambda file: file.write(text.encode()))
