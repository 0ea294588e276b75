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
"""Columns of a regression, after mean, std and its two parts."""

PARTS = ["aleatoric", "epistemic"]
"""The two parts of the uncertainty."""

ROWS_AT_ONCE = 5000
"""More rows are predicted in parts, so that memory does not grow with their number."""


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    rows: Annotated[Path, typer.Argument(help="CSV or Parquet file with the data set's columns.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="CSV file to write; default stdout.", metavar="FILE"),
    ] = None,
    model: AgainFlag = None,
    as_json: Json = False,
) -> None:
    """Predict new rows.

    Regression: mean, std and the 5 %, 50 % and 95 % quantiles of the target, noise included.
    Classification: the most probable class and the probability of each. Both: the part of the
    uncertainty that is noise (aleatoric) and the part that more data would take away (epistemic),
    as standard deviations, or for classes in nats.
    """
    if out is not None:
        _check_out(out, rows)
    require_model(run, model)
    function = load_function(model) if model is not None else None
    from bnnzoo.datasets._file import read_inputs
    from bnnzoo.inference import load_run

    loaded = load_run(run, function)
    data = loaded.posterior.data
    assert data is not None
    x, notes = read_inputs(rows, data)
    columns, lines = _predictions(loaded, data, x)
    if out is not None:
        _write(out, _as_csv(columns, lines))
    if as_json:
        summary: dict[str, Any] = {"run": str(run), "rows": len(lines), "columns": columns}
        summary["notes"] = notes
        summary["out"] = None if out is None else str(out)
        if out is None:
            summary["predictions"] = [dict(zip(columns, line, strict=True)) for line in lines]
        print_json(summary)
        return
    for note in notes:  # not among the predictions, which may go to stdout
        print("bnnzoo: note:", note, file=sys.stderr)
    if out is None:
        sys.stdout.write(_as_csv(columns, lines))
    else:
        console().print(f"Wrote {out}: {counted(len(lines), 'row')} of {', '.join(columns)}")


def _check_out(out: Path, rows: Path) -> None:
    """Refuse a file that predictions should not be written to, before any is made."""
    from bnnzoo.errors import InputError

    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file, such as {out / 'predictions.csv'}")
    if out.suffix.lower() in (".parquet", ".pq"):
        raise InputError(f"predictions are CSV: name {out.with_suffix('.csv')} in place of {out}")
    if out.resolve() == rows.resolve():
        raise InputError(f"{out} holds the rows to predict; name another file for the predictions")


def _predictions(
    run: Any, data: Dataset, x: np.ndarray
) -> tuple[list[str], list[list[float | str]]]:
    """Names of the columns, and one list a row."""
    made: list[list[float | str]] = []
    columns: list[str] = []
    for start in range(0, len(x), ROWS_AT_ONCE):
        prediction = run.predict(x[start : start + ROWS_AT_ONCE])
        if data.task == "classification":
            columns, part = _classes(data, prediction)
        else:
            columns, part = _numbers(data, prediction)
        made += part
    return columns, made


def _classes(data: Dataset, prediction: Any) -> tuple[list[str], list[list[float | str]]]:
    p = prediction.probabilities
    columns = ["class", *(f"p({name})" for name in data.class_names), *PARTS]
    values = zip(p.tolist(), prediction.aleatoric, prediction.epistemic, strict=True)
    best = (data.class_names[k] for k in p.argmax(axis=1))
    return columns, [
        [k, *row, float(aleatoric), float(epistemic)]
        for k, (row, aleatoric, epistemic) in zip(best, values, strict=True)
    ]


def _numbers(data: Dataset, prediction: Any) -> tuple[list[str], list[list[float | str]]]:
    import numpy as np

    levels = prediction.quantile(np.array(list(QUANTILES.values())))
    moments = [prediction.mean, prediction.std, prediction.aleatoric, prediction.epistemic]
    values = np.stack([*moments, *levels])  # (statistic, row[, output])
    names = ["mean", "std", *PARTS, *QUANTILES]
    if values.ndim == 3:
        names = [f"{target}.{name}" for target in data.target_names for name in names]
        values = np.moveaxis(values, 2, 0).reshape(-1, values.shape[1])
    return names, values.T.tolist()


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
