"""What is of another type than it should be: one line, where no annotations are checked."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

WRONG = """
import numpy as np
import bnnzoo as bz
from bnnzoo.inference import InfiniteNetwork

model, data, x = bz.make_model(), bz.load_dataset("gap", n=20), np.ones((30, 30))

def said(name, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except bz.errors.InputError as error:
        print(name, "|", repr(str(error)))

for part in ("network", "prior", "likelihood", "augmentation"):
    for given in (3, ["mlp"], x):
        said(part, bz.make_model, **{part: given})
        said(part + "_options", bz.make_model, **{part + "_options": given})

entrances = (bz.fit, bz.log_evidence, bz.select, bz.tune, bz.match_prior, bz.weight_statistics)
for entrance in (*entrances, bz.Posterior, InfiniteNetwork):
    for given in (x, "diabetes", (x, x)):
        said("data", entrance, model, given)
    said("swapped", entrance, data, model)
said("data", model.bind, x)
said("path", bz.write_report, "report.html", [model])
"""

SAID = {
    **dict.fromkeys(
        ("network", "prior", "likelihood", "augmentation"),
        r"\w+ = (3|\['mlp'\]|array.*): a name is needed; choices: \w.*",
    ),
    **dict.fromkeys(
        ("network_options", "prior_options", "likelihood_options", "augmentation_options"),
        r"\w+_options = (3|\['mlp'\]|array.*): options by name are needed, as .*",
    ),
    "data": (
        r"data = (ndarray of shape \(30, 30\): a data set is needed; make_dataset\(X, y\) .*"
        r"|'diabetes': a data set is needed; load_dataset\('diabetes'\) gives one"
        r"|\(array.*: a data set is needed; load_dataset\(NAME\) or make_dataset.*)"
    ),
    "swapped": "model and data are swapped: the model comes first, then the data set",
    "path": "path = .*: the name of a file is needed, as report.html",
}


def test_python_refuses_what_is_of_another_type():
    """In a process of its own: here modules that name axes check their annotations first."""
    done = subprocess.run(
        [sys.executable, "-c", WRONG], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [line.split(" | ", 1) for line in done.stdout.splitlines()]
    assert len(lines) == 4 * 3 * 2 + 8 * (3 + 1) + 2
    for name, text in lines:
        message = ast.literal_eval(text)
        assert re.fullmatch(SAID[name], message), message
        assert len(message) < 400 and "\n" not in message
