"""``bnnzoo tune``: hyper-parameters chosen by the training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnnzoo.cli import options as o
from bnnzoo.cli.console import console, facts, print_json, seconds
from bnnzoo.errors import InputError

SECTION = "tuner"


def tune(
    dataset: o.DatasetFlag = None,
    target: o.TargetFlag = None,
    task: o.TaskFlag = None,
    model: o.ModelFlag = None,
    network: o.NetworkFlag = None,
    prior: o.PriorFlag = None,
    likelihood: o.LikelihoodFlag = None,
    method: Annotated[
        str, typer.Option(help="A name of `bnnzoo list tuners`.", metavar="NAME")
    ] = "laplace",
    groups: Annotated[
        str,
        typer.Option(help="What shares a width: global, layer, input or unit.", metavar="NAME"),
    ] = "layer",
    keep_noise: Annotated[
        bool, typer.Option("--keep-noise", help="Leave the noise as the model has it.")
    ] = False,
    seed: o.PlainSeedFlag = 0,
    dtype: o.PlainDtypeFlag = "float32",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="TOML file for the model.", metavar="FILE")
    ] = Path("tuned.toml"),
    config: o.ConfigFlag = None,
    assignments: o.SetFlag = None,
    no_progress: o.ProgressFlag = False,
    as_json: o.JsonFlag = False,
) -> None:
    """Tune widths of a Gaussian prior, and the noise, to the data.

    Options of the tuner: --set tuner.structure=kron. The file goes to fit --config.
    """
    given = locals()
    own, others = o.split_section(assignments or [], SECTION)
    tree = o.make_tree(config, o.without_inference(given), others)
    if o.file_model(tree):
        raise InputError("tune: a hand-written model has priors of its own; name a network")
    from bnnzoo.api import plan
    from bnnzoo.inference import tune as search

    planned = plan(tree)
    with o.written_in(SECTION):
        found = search(
            planned.model,
            planned.data,
            method,
            groups=groups,
            noise=not keep_noise,
            seed=seed,
            dtype=dtype,
            progress=not (no_progress or as_json),
            **own,
        )
    found.save(out)
    if as_json:
        shown = {name: value for name, value in vars(found).items() if name != "model"}
        print_json({"out": str(out), "value": found.value, **shown})
        return
    console().print(
        facts([("model", planned.model.label), ("time", seconds(found.seconds)), *found.facts()])
    )
    console().print(f"Wrote {out}: bnnzoo fit --config {out} --dataset {planned.data.name}")
