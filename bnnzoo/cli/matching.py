"""``bnnzoo match-prior``: a prior over functions from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bnnzoo.cli import options as o
from bnnzoo.cli.console import console, facts, print_json, seconds
from bnnzoo.errors import InputError

MATCH = "Matching"


def _option(help_text: str, metavar: str) -> Any:
    return typer.Option(help=help_text, rich_help_panel=MATCH, metavar=metavar)


def match_prior(
    dataset: o.DatasetFlag = None,
    target: o.TargetFlag = None,
    task: o.TaskFlag = None,
    model: o.ModelFlag = None,
    network: o.NetworkFlag = None,
    likelihood: o.LikelihoodFlag = None,
    process: Annotated[str, _option("A name of `bnnzoo list processes`.", "NAME")] = "rbf",
    variant: Annotated[str, _option("gpi-g, gpi-h or gpi-nf.", "NAME")] = "gpi-g",
    method: Annotated[
        str | None, _option("moments (default for gpi-g; not gpi-h) or wasserstein.", "NAME")
    ] = None,
    measure: Annotated[str, _option("mixed, training or box.", "NAME")] = "mixed",
    steps: Annotated[int | None, _option("Of the search.", "N")] = None,
    flow_steps: Annotated[
        int | None, _option("Planar steps a parameter array (gpi-nf).", "N")
    ] = None,
    seed: Annotated[int, _option("Default 0.", "N")] = 0,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="TOML file for the model.", metavar="FILE")
    ] = Path("matched.toml"),
    plot: Annotated[
        Path | None, typer.Option(help="Picture of functions before and after.", metavar="FILE")
    ] = None,
    config: o.ConfigFlag = None,
    assignments: o.SetFlag = None,
    as_json: o.JsonFlag = False,
) -> None:
    """Tune a prior to a Gaussian process over functions.

    Options of the process: --set process.length_scale=0.6. The file goes to fit --config.
    """
    given = locals()
    for_process, others = o.split_section(assignments or [], "process")
    tree = o.make_tree(config, o.without_inference(given), others)
    if o.file_model(tree):
        raise InputError("match-prior: a hand-written model has priors of its own; name a network")
    from bnnzoo.api import plan
    from bnnzoo.inference import match_prior as match
    from bnnzoo.reports.matched import check_picture, plot_matched_prior

    if plot is not None:
        check_picture(plot)

    planned = plan(tree)
    matched = match(
        planned.model,
        planned.data,
        process,
        variant=variant,
        method=method,
        measure=measure,
        steps=steps,
        flow_steps=flow_steps,
        seed=seed,
        process_options=for_process,
    )
    matched.save(out)
    if plot is not None:
        plot_matched_prior(matched, plot)
    if as_json:
        print_json(
            {
                "out": str(out),
                "widths": matched.widths,
                "shapes": matched.shapes,
                "flow_steps": {path: len(flow["b"]) for path, flow in matched.flows.items()},
                "error_before": matched.error_before,
                "error_after": matched.error_after,
                "scale_ratio": matched.scale_ratio,
                "seconds": matched.seconds,
                "fitted_to_targets": matched.fitted is not None,
                "process_log_evidence": matched.fitted and matched.fitted.log_evidence,
                "warnings": list(matched.warnings),
            }
        )
        return
    fitted: list[tuple[str, str]] = []
    if matched.fitted is not None:
        evidence = f"log evidence {matched.fitted.log_evidence:.1f} nats"
        noise = f"noise {matched.fitted.noise_std:.3g}, modelled units"
        fitted = [("fitted to targets", f"{evidence}; {noise}; the prior is data-dependent")]
    said = matched.model.spec.prior.options["matched_to"] if matched.model.spec else ""
    rows = [
        ("model", matched.model.label),
        ("target", said),
        *fitted,
        (
            "off by",
            f"{matched.error_after:.3f} of the second moments; {matched.error_before:.3f} "
            "with widths of 1",
        ),
        ("time", seconds(matched.seconds)),
        *((f"width {path}", f"{width:.3g}") for path, width in matched.widths.items()),
        *((f"flow {path}", f"{len(f['b'])} planar steps") for path, f in matched.flows.items()),
        *(("note", line) for line in matched.warnings),
    ]
    console().print(facts(rows))
    console().print(f"Wrote {out}: bnnzoo fit --config {out} --dataset {planned.data.name}")
    if plot is not None:
        console().print(f"Wrote {plot}")
