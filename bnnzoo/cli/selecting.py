"""``bnnzoo select``: which of several models the training rows speak for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnnzoo.cli import options as o
from bnnzoo.cli.console import console, counted, print_json, seconds, table
from bnnzoo.cli.evidence import SECTION
from bnnzoo.errors import OptionError

if TYPE_CHECKING:
    from bnnzoo.inference import Selection


def select(
    dataset: o.DatasetFlag = None,
    target: o.TargetFlag = None,
    task: o.TaskFlag = None,
    network: o.NetworkFlag = None,
    prior: o.PriorFlag = None,
    likelihood: o.LikelihoodFlag = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            help="Values of an option, as network.width=[10,50] or prior.std=[0.5,2]; every "
            "combination is a candidate. Repeatable; or a section [grid] of the file.",
            metavar="SECTION.OPTION=[VALUES]",
        ),
    ] = None,
    method: o.EstimateFlag = "laplace",
    seed: o.PlainSeedFlag = 0,
    dtype: o.PlainDtypeFlag = "float32",
    out: o.KeepFlag = None,
    config: o.ConfigFlag = None,
    assignments: o.SetFlag = None,
    no_progress: o.ProgressFlag = False,
    as_json: o.JsonFlag = False,
) -> None:
    """Rank every combination of some options by evidence.

    Options of the estimator: --set estimator.structure=kron.
    """
    given = locals()
    if out is not None:
        from bnnzoo.inference.kept import check_target

        check_target(out)
    own, others = o.split_section(assignments or [], SECTION)
    tree = o.make_tree(config, o.without_inference(given), others)
    own = {**_section(tree, SECTION), **own}
    axes = {**_flat(_section(tree, "grid")), **_axes(grid or [])}
    from bnnzoo.api import plan_grid
    from bnnzoo.inference import select as choose

    data, models = plan_grid(tree, axes)
    progress = not (no_progress or as_json)
    with o.written_in(SECTION):
        found = choose(models, data, method, seed=seed, dtype=dtype, progress=progress, **own)
    if out is not None:
        found.save(out)
    if as_json:
        print_json({**found.to_dict(), "out": None if out is None else str(out)})
        return
    _show(found, data.name)
    if out is not None:
        console().print(f"Wrote {out}: bnnzoo report {out} -o report.html")


def _section(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """Take a section that is no part of a run out of a tree."""
    part = tree.pop(name, {})
    if not isinstance(part, dict):
        raise OptionError(f"{name} = {part!r}: a section is expected")
    return part


def _flat(grid: dict[str, Any]) -> dict[str, Any]:
    """``network.width`` as a key, however TOML nested it."""
    flat: dict[str, Any] = {}
    for place, given in grid.items():
        if isinstance(given, dict):
            flat |= {f"{place}.{option}": values for option, values in given.items()}
        else:
            flat[place] = given
    return flat


def _axes(given: list[str]) -> dict[str, Any]:
    from bnnzoo.specs import read_value

    axes: dict[str, Any] = {}
    for text in given:
        place, equals, values = text.partition("=")
        values = values.strip()
        if not equals or not values:
            raise OptionError(f"--grid {text}: write SECTION.OPTION=[VALUES]")
        read = read_value(values)
        if isinstance(read, str):  # names without quotes: [tanh,relu] or tanh,relu
            bare = values.removeprefix("[").removesuffix("]").split(",")
            read = [read_value(word.strip()) for word in bare]
        axes[place.strip()] = read if isinstance(read, list) else [read]
    return axes


def _show(found: Selection, data: str) -> None:
    out = console()
    out.print(f"{counted(len(found.candidates), 'model')} on {data}, {seconds(found.seconds)}")
    numbers = ("log evidence", "behind", "probability", "95 %")
    from bnnzoo.inference.selection import DOUBTFUL

    made = table("model", *numbers, "", numbers=numbers, wraps="model")
    for c in found.candidates:
        if c.evidence is None:
            made.add_row(c.name, "-", "-", "-", "-", f"failed: {c.failure}")
            continue
        low, high = c.interval
        same = "" if c.distinct or c is found.candidates[0] else "not told from the first"
        made.add_row(
            c.name,
            c.evidence.written(original_units=True),
            f"{c.behind:.2f}",
            f"{c.probability:.3f}" + (f" {DOUBTFUL}" if c.doubts else ""),
            f"{low:.3f} to {high:.3f}" if c.evidence.standard_error > 0 else "-",
            same,
        )
    out.print(made)
    first = found.candidates[0].evidence
    assert first is not None
    out.print(f"\nNats, targets in their own units; {first.kind}. Wrong when: {first.cautions}.")
    out.print(f"Cost: {found.gradients:,} gradients.")
    for line, who in found.doubts.items():
        out.print(f"{DOUBTFUL} {'; '.join(who)}: {line}.")
    for line in found.warnings:
        out.print(f"Warning: {line}.")
