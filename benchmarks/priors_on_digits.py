"""Heavy tails and correlated filters against the Gaussian: digits at temperature 1, exact sampling.

    python benchmarks/priors_on_digits.py [--resume] [--table] [--splits 5] [--study mlp]

*mlp*: 64-50-50-10 ReLU, weights of scale sqrt(2 / fan-in); Laplace and Student-t(3) have the
Gaussian's variance, or its number as their own scale parameter, as published code has it, which
is twice and three times the variance: Gaussians of those variances tell width from shape. *cnn*:
two convolutions of 8 filters of 3 x 3, each with ReLU and 2 x 2 pooling, and a linear layer;
``correlated-conv`` at three length-scales has the same variance of every weight. *cnn-shuffled*:
the same with one permutation of the pixels of all images, in which neighbours mean nothing.

The 1797 digits are cut once into five disjoint training sets of 300 and 297 test rows, so that
splits are independent given the test rows, and every prior meets the same. Intervals are
``bnnzoo.metrics.crossed_difference``: over training sets and test rows both. Biases are N(0, 1),
the sampler is ``hmc`` with trajectories of pi/2 in the metric, cut where the settings below say.
Heavy-tailed weights are sampled as Gaussian ones with a random scale each (``as_mixture``), which
is the same prior: written directly, Student-t chains of twice the length gave a seventeenth of the
effective draws of the test log-likelihood.

Every fit adds a line to ``benchmarks/results/priors-on-digits.csv``; the table goes to
``priors-on-digits.md`` beside it.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import bnnzoo as bz
from bnnzoo.reports import diagnostics
from bnnzoo.reports.studies._digits import digits
from bnnzoo.reports.studies._digits_priors import as_mixture

RESULTS = Path(__file__).resolve().parent / "results"
ROWS, TABLE = RESULTS / "priors-on-digits.csv", RESULTS / "priors-on-digits.md"

SPLITS, TRAINING = 5, 300


class Setting(NamedTuple):
    """A prior on a network.

    Attributes:
        study: mlp, cnn or cnn-shuffled.
        prior: its name.
        label: what its options are called in the table.
        options: of the prior.
    """

    study: str
    prior: str
    label: str
    options: dict[str, Any]


def settings() -> list[Setting]:
    """Everything that is compared; the first of a study is what the others are compared with."""
    made = [Setting("mlp", "gaussian", "", {})]
    for match in ("variance", "scale"):
        made.append(Setting("mlp", "laplace", match, {"match": match}))
        made.append(Setting("mlp", "student-t", match, {"df": 3.0, "match": match}))
    made += [
        Setting("mlp", "gaussian", f"variance x {factor}", {"std": factor**0.5})
        for factor in (2, 3)
    ]
    for study in ("cnn", "cnn-shuffled"):
        made.append(Setting(study, "gaussian", "", {}))
        made += [
            Setting(study, "correlated-conv", f"{length:g}", {"length_scale": length})
            for length in (0.5, 1.0, 2.0)
        ]
    return made


SIZES: dict[str, dict[str, Any]] = {
    "mlp": {"chains": 4, "warmup": 200, "draws": 150, "max_steps": 120, "target_acceptance": 0.8},
    "cnn": {"chains": 2, "warmup": 120, "draws": 120, "max_steps": 60, "target_acceptance": 0.8},
}
"""Of the sampler, by network."""


def load(study: str, split: int) -> bz.Dataset:
    """One training set and the test rows, the same for every prior."""
    images, shuffled = study != "mlp", study == "cnn-shuffled"
    return digits(split, rows=TRAINING, splits=SPLITS, images=images, shuffled=shuffled)


def make(setting: Setting) -> bz.Model:
    """The network with its prior."""
    options: dict[str, Any] = {"channels": [8, 8]}
    if setting.study == "mlp":
        options = {"widths": [50, 50], "activation": "relu"}
    made = bz.make_model(
        "mlp" if setting.study == "mlp" else "cnn",
        setting.prior,
        "categorical",
        network_options=options,
        prior_options=setting.options,
    )
    return as_mixture(made) if setting.prior in ("laplace", "student-t") else made


def fit(setting: Setting, split: int, sizes: dict[str, Any]) -> dict[str, Any]:
    """A line of the results: one prior on one training set."""
    data = load(setting.study, split)
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bz.errors.DataWarning)
        run = bz.fit(make(setting), data, "hmc", seed=split, progress=False, **sizes)
    seconds = time.perf_counter() - begun
    scores = run.tree["test_scores"]
    wrong = np.flatnonzero(scores["probabilities"].to_numpy().argmax(1) != data.y_test)
    draws = run.predict(data.x_test).probability_draws
    draws = draws.reshape(sizes["chains"], -1, *draws.shape[-2:])
    row = np.arange(len(data.y_test))
    log_p = np.log(np.maximum(draws[:, :, row, data.y_test], 1e-30)).mean(-1)
    said = diagnostics.diagnose(run.tree)
    stats = run.tree["sample_stats"]
    return {
        "study": setting.study,
        "prior": setting.prior,
        "label": setting.label,
        "split": split,
        "error": f"{len(wrong) / len(row):.5f}",
        "nll": f"{run.metrics()['nll']:.5f}",
        "rhat": f"{said['function']['worst_rhat']:.3f}",
        "ess": f"{said['function']['worst_ess']:.0f}",
        "ess_test": f"{diagnostics.ess(log_p[:, :, None])[0]:.0f}",
        "rhat_test": f"{diagnostics.rhat(log_p[:, :, None])[0]:.3f}",
        "divergent": int(stats["diverging"].sum()),
        "steps": f"{float(stats['n_steps'].mean()):.0f}",
        "seconds": f"{seconds:.0f}",
        "wrong": " ".join(map(str, wrong)),
        "log_density": " ".join(f"{v:.4f}" for v in scores["log_density"].to_numpy()),
    }


def read(path: Path) -> list[dict[str, str]]:
    """Lines written so far."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line, after a heading where the file is new."""
    path.parent.mkdir(exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(line))
        if new:
            writer.writeheader()
        writer.writerow(line)


def scores(lines: list[dict[str, str]], key: tuple[str, str, str], splits: list[int]) -> Any:
    """Negative log densities and errors ``(split, row)`` of a prior."""
    of = {int(r["split"]): r for r in lines if (r["study"], r["prior"], r["label"]) == key}
    nll = -np.array([[float(v) for v in of[s]["log_density"].split()] for s in splits])
    wrong = np.zeros_like(nll)
    for number, s in enumerate(splits):
        wrong[number, [int(v) for v in of[s]["wrong"].split()]] = 1.0
    return nll, wrong


def as_text(lines: list[dict[str, str]]) -> str:
    """The table: means, differences with intervals, and how well it was sampled."""
    text = [
        "| network | prior | | sets | error (%) | NLL | NLL less Gaussian's |"
        " error less Gaussian's (%) | R-hat of f | ESS of f | ESS of test log-likelihood |",
        "|" + "---|" * 11,
    ]
    done = {(r["study"], r["prior"], r["label"], int(r["split"])) for r in lines}
    gains: dict[tuple[str, str], tuple[np.ndarray, list[int]]] = {}
    for setting in settings():
        key = (setting.study, setting.prior, setting.label)
        base = (setting.study, "gaussian", "")
        splits = [s for s in range(SPLITS) if {(*key, s), (*base, s)} <= done]
        if not splits:
            continue
        nll, wrong = scores(lines, key, splits)
        nll_base, wrong_base = scores(lines, base, splits)
        cells = [setting.study, setting.prior, setting.label, str(len(splits))]
        cells += [f"{100 * wrong.mean():.1f}", f"{nll.mean():.3f}"]
        if key == base:
            cells += ["", ""]
        else:
            gains[setting.study, setting.label] = nll - nll_base, splits
            cells += [_difference(nll, nll_base), _difference(100 * wrong, 100 * wrong_base, 1)]
        own = [r for r in lines if (r["study"], r["prior"], r["label"]) == key]
        worst = [max(float(r["rhat"]) for r in own)]
        worst += [min(float(r[name]) for r in own) for name in ("ess", "ess_test")]
        cells += [f"{worst[0]:.2f}", f"{worst[1]:.0f}", f"{worst[2]:.0f}"]
        text.append("| " + " | ".join(cells) + " |")
    text.append("")
    for family, factor in (("laplace", 2), ("student-t", 3)):
        keys = ("mlp", family, "scale"), ("mlp", "gaussian", f"variance x {factor}")
        splits = [s for s in range(SPLITS) if {(*keys[0], s), (*keys[1], s)} <= done]
        if splits:
            between = _difference(*(scores(lines, key, splits)[0] for key in keys))
            text.append(
                f"- {family}, matched by scale, less the Gaussian of its variance "
                f"({len(splits)} training sets): NLL {between}."
            )
    for (study, label), (gain, splits) in gains.items():
        shuffled = gains.get(("cnn-shuffled", label))
        if study == "cnn" and shuffled is not None and shuffled[1] == splits:
            text.append(
                f"- correlated-conv {label}: NLL less Gaussian's, pixels in order less shuffled "
                f"({len(splits)} training sets): {_difference(gain, shuffled[0])}."
            )
    return "\n".join(text) + "\n"


def _difference(a: np.ndarray, b: np.ndarray, digits: int = 3) -> str:
    """Mean difference and its 95 % interval, in words."""
    if len(a) < 2:
        return f"{(a - b).mean():+.{digits}f}"
    found = bz.metrics.crossed_difference(a, b)
    return f"{found.mean:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"


def main() -> None:
    """Run what is missing, split by split, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--splits", type=int, default=SPLITS, help="only the first so many")
    parser.add_argument("--study", action="append", choices=("mlp", "cnn", "cnn-shuffled"))
    parser.add_argument("--resume", action="store_true", help="keep the lines already written")
    parser.add_argument("--table", action="store_true", help="write the table of these lines alone")
    given = parser.parse_args()
    if not (given.resume or given.table):
        ROWS.unlink(missing_ok=True)
    done = {(r["study"], r["prior"], r["label"], int(r["split"])) for r in read(ROWS)}
    for split in range(0 if given.table else given.splits):
        for setting in settings():
            if given.study and setting.study not in given.study:
                continue
            if (setting.study, setting.prior, setting.label, split) in done:
                continue
            line = fit(setting, split, SIZES[setting.study.partition("-")[0]])
            append(ROWS, line)
            kept = {k: v for k, v in line.items() if k not in ("wrong", "log_density")}
            print(" ".join(f"{k} {v}" for k, v in kept.items()), flush=True)
    text = as_text(read(ROWS))
    TABLE.write_text("# Priors on digits\n\n<!-- table -->\n" + text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
