"""What the terminal says of a finished run."""

import io

import pytest
from rich.console import Console

import bnnzoo as bz
from bnnzoo.cli.summary import show_run


def said(backend, **sizes):
    data = bz.load_dataset("gap", n=20, seed=0)
    model = bz.make_model(network_options={"widths": [3]})
    run = bz.fit(model, data, backend, progress=False, **sizes)
    out = io.StringIO()
    show_run(Console(file=out, width=1000), run)
    return run, out.getvalue()


def test_few_effective_draws_of_a_chain_are_said():
    run, text = said("hmc", chains=1, warmup=10, draws=20)
    assert "one chain: no R-hat, at least" in text
    assert "effective ones of function values, fewer than 100; go on with: bnnzoo resume" in text
    assert f"{run.manifest['gradients']:,} gradients" in text
    assert text.index("scores") < text.index("beware") < text.index("Wrote")


@pytest.mark.validate
def test_draws_of_an_approximation_are_not_counted_against_it():
    _, text = said("laplace", chains=1, draws=20)
    assert "few draws" not in text
