"""``bnnzoo evidence``: how probable the training rows are under a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnzoo.cli import options as o
from bnnzoo.cli.console import console, facts, print_json, seconds
from bnnzoo.cli.userfile import load_function

if TYPE_CHECKING:
    from bnnzoo.inference import Evidence

SECTION = "estimator"


def evidence(
    dataset: o.DatasetFlag = None,
    target: o.TargetFlag = None,
    task: o.TaskFlag = None,
    model: o.ModelFlag = None,
    network: o.NetworkFlag = None,
    prior: o.PriorFlag = None,
    likelihood: o.LikelihoodFlag = None,
    method: o.EstimateFlag = "smc",
    seed: o.PlainSeedFlag = 0,
    dtype: o.PlainDtypeFlag = "float32",
    out: o.KeepFlag = None,
    config: o.ConfigFlag = None,
    assignments: o.SetFlag = None,
    no_progress: o.ProgressFlag = False,
    as_json: o.JsonFlag = False,
) -> None:
    """Estimate the log evidence of a model on the training rows.

    Options of the estimator: --set estimator.particles=512.
    """
    given = locals()
    if out is not None:
        from bnnzoo.inference.kept import check_target

        check_target(out)
    own, others = o.split_section(assignments or [], SECTION)
    tree = o.make_tree(config, o.without_inference(given), others)
    reference = o.file_model(tree)
    from bnnzoo.api import plan

    planned = plan(tree, load_function(reference) if reference else None)
    from bnnzoo.inference import log_evidence
    from bnnzoo.inference.progress import waiting

    with o.written_in(SECTION), waiting(f"evidence by {method}", not (no_progress or as_json)):
        found = log_evidence(planned.model, planned.data, method, seed=seed, dtype=dtype, **own)
    if out is not None:
        found.save(out)
    if as_json:
        print_json({**found.to_dict(), "out": None if out is None else str(out)})
        return
    console().print(facts(evidence_rows(found, planned.model.label, planned.data.name)))
    if out is not None:
        console().print(f"Wrote {out}: bnnzoo report {out} -o report.html")


def evidence_rows(found: Evidence, model: str, data: str) -> list[tuple[str, str]]:
    """What a person is told of an evidence."""
    from bnnzoo.inference.evidence import KINDS

    rows = [
        ("model", f"{model} on {data}"),
        ("log evidence" if found.is_evidence else "score", f"{found.written()} nats"),
        ("kind", f"{found.kind}: {KINDS[found.kind]}"),
    ]
    if found.log_jacobian:
        rows.append(("in units of the target", f"{found.written(True)} nats"))
    rows.append(("cost", f"{found.gradients:,} gradients, {seconds(found.seconds)}"))
    if found.data_dependent:
        rows.append(("data-dependent", ", ".join(found.data_dependent) + " from training targets"))
    rows.append(("wrong when", found.cautions))
    rows += [("warning", line) for line in found.warnings]
    return rows
