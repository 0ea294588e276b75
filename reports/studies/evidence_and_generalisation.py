"""Does the evidence choose the models that predict best?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from bnnzoo.datasets import Dataset, make_dataset
from bnnzoo.inference import fit, log_evidence
from bnnzoo.models import make_model
from bnnzoo.registry import register
from bnnzoo.reports.claims import Claim, Measurement
from bnnzoo.reports.study import Cell, Results, Study, StudyOptions
from bnnzoo.reports.study_charts import Chart, Series

WIDTHS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Of the bumps, as in the example of the basis width."""

FEATURES = (1, 2, 5, 10, 20, 40)
"""Of the linear models that are ranked by training speed; the data come from five."""

PRIOR_WIDENED = (1.0, 10.0, 100.0, 1000.0)

SETS = {
    "smoke": {"basis": 3, "speed": 3, "wide": 2, "sine": 2},
    "small": {"basis": 40, "speed": 40, "wide": 20, "sine": 6},
    "paper": {"basis": 400, "speed": 400, "wide": 200, "sine": 100},
}
"""Data sets of each part."""

GRID = {"smoke": 5, "small": 13, "paper": 21}
"""Prior precisions between 0.01 and 100."""

NOISE = 0.2


class EvidenceAndGeneralisation(Study):
    """Four parts, each over independent data sets."""

    question: ClassVar = (
        "Does the evidence choose what predicts best, and what else does it reward?"
    )
    protocol: ClassVar = (
        "Basis width: forty bumps of one width, weights N(0, 1), 25 noisy points of sin(1.5 x), "
        "seven widths; evidence in closed form. Training speed: linear models of 1 to 40 features, "
        "30 rows from five of them with noise 0.1; the bound of one draw, of twenty, and the "
        "evidence. Wide prior: five features and 30 rows, the prior 1 to 1000 times wider than "
        "that of the data; evidence and leave-one-out in closed form. Noisy sine: tanh network "
        "2 x 20, 100 points of a sine whose middle third is noisier, noise known to be the "
        "average, weights and biases N(0, 1 / precision); Laplace evidence with the Gauss-Newton "
        "matrix at the best of three modes, and errors of the mode on 500 new points."
    )
    differences: ClassVar = (
        "Every part is repeated over data sets: the papers show one, or ten.",
        "Basis width and training speed have their papers' form, data of our own.",
        "Noisy sine: Khan et al. train by Adam and take a diagonal posterior in places; here the "
        "whole Gauss-Newton matrix is used, at modes found by L-BFGS; errors are of modes that "
        "Adam finds in climbs of their own.",
    )

    def cells(self) -> list[Cell]:
        """One a data set and part."""
        made = []
        for part, number in SETS[self.scale].items():
            for seed in range(number):
                settings: dict[str, Any] = {"part": part, "seed": seed}
                if part == "sine":
                    settings["precisions"] = GRID[self.scale]
                made.append(Cell(f"{part}-{seed}", settings))
        return made

    def run(self, **settings: Any) -> dict[str, Any]:
        """The part's figures on one data set."""
        do: dict[str, Callable[..., dict[str, Any]]]
        do = {"basis": _basis, "speed": _speed, "wide": _wide, "sine": _sine}
        own = {name: value for name, value in settings.items() if name != "part"}
        return do[settings["part"]](**own)

    def claims(self) -> list[Claim]:
        """Nine, of four papers."""
        mackay = "MacKay (1992), Bayesian Interpolation; van der Wilk (2019), talk"
        lyle = "Lyle et al. (2020), A Bayesian Perspective on Training Speed and Model Selection"
        fong = "Fong & Holmes (2020), On the marginal likelihood and cross-validation"
        khan = "Khan et al. (2019), Approximate Inference Turns Deep Networks into GPs, fig. 4"
        return [
            Claim(
                "basis-training",
                "The training loss chooses the least restrictive width, not the best one.",
                mackay,
                "share of data sets where a width at most a quarter of the best has the lowest "
                "training error",
                _share("basis", lambda r: _at_least(r["train"], r["test"], 2)),
                threshold=0.5,
            ),
            Claim(
                "basis-evidence",
                "The evidence is highest at the width that predicts best.",
                mackay,
                "share of data sets where both widths are within a factor of two",
                _share("basis", lambda r: _steps(r["evidence"], r["test"]) <= 1),
                threshold=0.5,
            ),
            Claim(
                "speed-bound",
                "The summed losses of rows not yet learned bound the evidence from below.",
                lyle,
                "largest excess of the bound of one draw over the evidence, nats",
                _largest_excess,
                "below",
                threshold=0.0,
            ),
            Claim(
                "speed-choice",
                "The bound is highest for the model that has the highest evidence.",
                lyle,
                "share of data sets where both are highest for the same number of features",
                _share("speed", lambda r: _steps(r["one_draw"], r["evidence"], sign=-1) == 0),
                threshold=0.5,
            ),
            Claim(
                "speed-ranks",
                "The bound ranks models as the evidence does.",
                lyle,
                "share of pairs of models that the bound of one draw orders as the evidence does",
                _ranked("one_draw"),
                threshold=0.95,
            ),
            Claim(
                "speed-tightens",
                "More draws inside the logarithm rank models better.",
                lyle,
                "share of pairs ordered as by the evidence, twenty draws less one",
                _gained,
            ),
            Claim(
                "wide-evidence",
                "The evidence falls without limit as the prior is widened.",
                fong,
                "nats lost by a prior a thousand times wider",
                _mean("wide", lambda r: r["evidence"][0] - r["evidence"][-1]),
                threshold=10.0,
            ),
            Claim(
                "wide-loo",
                "Leave-one-out hardly notices a wider prior.",
                fong,
                "change of leave-one-out for all rows by a prior a thousand times wider, nats",
                _mean("wide", lambda r: r["loo"][0] - r["loo"][-1]),
                "within",
                margin=1.0,
            ),
            Claim(
                "sine-choice",
                "Laplace evidence is highest at the prior precision whose mode predicts best.",
                khan,
                "mean of log10 of the precision of highest evidence over that of lowest test error",
                _mean("sine", _log_ratio),
                "within",
                margin=0.5,
            ),
            Claim(
                "sine-training",
                "The training error goes on falling below the precision of highest evidence.",
                khan,
                "training error at the lowest precision over that at the highest evidence",
                _mean("sine", lambda r: r["train"][0] / r["train"][_best(r["evidence"], -1)]),
                "below",
                threshold=1.0,
            ),
        ]

    def charts(self, results: Results) -> list[Chart]:
        """Evidence beside training and test error, each part."""
        made = []
        basis = [r for r in results if r["part"] == "basis"]
        if len(basis) > 1:
            made.append(
                Chart(
                    "basis-width",
                    "The width of forty bumps",
                    "Training error says: as narrow as you like. Evidence and the error on new "
                    "points agree on the middle. Means over data sets with 95 % intervals.",
                    "width of the bumps",
                    "Standardised: 0 at the best width, 1 at the worst",
                    [
                        _series("training error", WIDTHS, [_unit(r["train"]) for r in basis]),
                        _series("error on new points", WIDTHS, [_unit(r["test"]) for r in basis]),
                        _series(
                            "less evidence",
                            WIDTHS,
                            [_unit([-v for v in r["evidence"]]) for r in basis],
                        ),
                    ],
                    log_x=True,
                )
            )
        speed = [r for r in results if r["part"] == "speed"]
        if len(speed) > 1:
            names = {"evidence": "evidence", "twenty": "bound, 20 draws", "one_draw": "bound, 1"}
            made.append(
                Chart(
                    "training-speed",
                    "Evidence and training speed of linear models",
                    "Five features made the data. All are highest there; beyond it the bounds "
                    "fall far faster than the evidence. log10 of 1 less the value in nats.",
                    "features",
                    "log10 of what is lost to certainty, nats (lower is better)",
                    [
                        _series(
                            label,
                            FEATURES,
                            [[np.log10(1 - min(v, 0)) for v in r[key]] for r in speed],
                        )
                        for key, label in names.items()
                    ],
                    log_x=True,
                )
            )
        wide = [r for r in results if r["part"] == "wide"]
        if len(wide) > 1:
            made.append(
                Chart(
                    "wide-prior",
                    "A needlessly wide prior",
                    "The evidence loses log(1000) nats a weight, leave-one-out nothing to speak "
                    "of. Means over data sets, less the value at width 1.",
                    "width of the prior over that of the data",
                    "Change, nats",
                    [
                        _series(label, PRIOR_WIDENED, [np.subtract(r[k], r[k][0]) for r in wide])
                        for k, label in (("evidence", "evidence"), ("loo", "leave-one-out"))
                    ],
                    log_x=True,
                )
            )
        sine = [r for r in results if r["part"] == "sine"]
        if len(sine) > 1:
            grid = _precisions(sine[0]["precisions"])
            made.append(
                Chart(
                    "noisy-sine",
                    "Prior precision of a tanh network on a noisy sine",
                    "Training error falls to the left. Evidence and test error turn at nearly one "
                    "precision. Means over data sets with 95 % intervals.",
                    "prior precision",
                    "Standardised: 0 at the best precision, 1 at the worst",
                    [
                        _series("training error", grid, [_unit(r["train"]) for r in sine]),
                        _series("error on new points", grid, [_unit(r["test"]) for r in sine]),
                        _series(
                            "less evidence",
                            grid,
                            [_unit([-v for v in r["evidence"]]) for r in sine],
                        ),
                    ],
                    log_x=True,
                )
            )
        return made


# -- parts -----------------------------------------------------------------------------------------


@functools.cache  # one function, one compiled program
def linear(number: int, scale: float = 1.0, noise: float = NOISE) -> Callable[..., None]:
    """A linear model of inputs that are features, weights N(0, scale^2)."""

    def model(x: Any, y: Any = None) -> None:
        w = numpyro.sample("w", dist.Normal(jnp.zeros(number), scale).to_event(1))
        numpyro.sample("y", dist.Normal(x @ w, noise), obs=y)

    return model


def _linear_data(features: np.ndarray, y: np.ndarray) -> Dataset:
    return make_dataset(features, y, task="regression", scale="none")


def _bumps(x: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((x[:, None] - np.linspace(-5, 5, 40)) ** 2) / (2 * width**2))


def _basis(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([1, seed])
    x = np.sort(rng.uniform(-5, 5, 25))
    new = np.linspace(-5, 5, 200)
    y = np.sin(1.5 * x) + NOISE * rng.normal(size=25)
    found: dict[str, list[float]] = {"train": [], "test": [], "evidence": []}
    for width in WIDTHS:
        features, unseen = _bumps(x, width), _bumps(new, width)
        fitted = np.linalg.lstsq(features, y, rcond=None)[0]
        mean = features.T @ np.linalg.solve(features @ features.T + NOISE**2 * np.eye(25), y)
        found["train"].append(float(np.mean((features @ fitted - y) ** 2)))
        found["test"].append(float(np.mean((unseen @ mean - np.sin(1.5 * new)) ** 2)))
        model = linear(40)
        said = log_evidence(model, _linear_data(features, y), "exact")
        found["evidence"].append(said.value)
    return found


def _speed(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([2, seed])
    features = rng.normal(size=(30, FEATURES[-1]))
    y = features[:, :5] @ rng.normal(size=5) + np.sqrt(0.1) * rng.normal(size=30)
    found: dict[str, list[float]] = {"evidence": [], "one_draw": [], "twenty": []}
    for number in FEATURES:
        chosen = features[:, :number]
        model = linear(number, noise=float(np.sqrt(0.1)))
        said = log_evidence(model, _linear_data(chosen, y), "training-speed", seed=seed, k=20)
        found["evidence"].append(float(said.diagnostics["log_evidence"]))
        found["one_draw"].append(float(said.diagnostics["one_draw"]))
        found["twenty"].append(said.value)
    return found


def _wide(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([3, seed])
    features = rng.normal(size=(30, 5))
    y = features @ rng.normal(size=5) + NOISE * rng.normal(size=30)
    data = _linear_data(features, y)
    found: dict[str, list[float]] = {"evidence": [], "loo": []}
    for scale in PRIOR_WIDENED:
        model = linear(5, scale)
        found["evidence"].append(log_evidence(model, data, "exact").value)
        found["loo"].append(30 * log_evidence(model, data, "leave-p-out", held_out=1).value)
    return found


def _precisions(number: int) -> list[float]:
    return [float(v) for v in np.logspace(-2, 2, number)]


def _sine(seed: int, precisions: int) -> dict[str, Any]:
    rng = np.random.default_rng([4, seed])
    x, new = np.sort(rng.uniform(-3, 3, 100)), np.linspace(-3, 3, 500)
    noise = np.where(np.abs(x) < 1, 0.6, 0.15)
    y = np.sin(1.7 * x) + noise * rng.normal(size=100)
    truth = np.sin(1.7 * new)
    data = make_dataset(x[:, None], y, new[:, None], truth, task="regression", scale="none")
    level = float(np.sqrt(np.mean(np.where(np.abs(new) < 1, 0.6, 0.15) ** 2)))
    found: dict[str, list[float]] = {"evidence": [], "train": [], "test": []}
    for precision in _precisions(precisions):
        model = make_model(
            network_options={"widths": [20, 20], "activation": "tanh"},
            prior_options={"std": precision**-0.5, "bias_std": precision**-0.5, "absolute": True},
            likelihood_options={"noise": "fixed", "noise_std": level},
        )
        said = log_evidence(model, data, "laplace", seed=seed, modes=3, steps=300, structure="full")
        mode = fit(
            model, data, "map", chains=1, draws=1, steps=1500, restarts=2, seed=seed, progress=False
        )
        found["evidence"].append(said.value)
        for name, at, target in (("train", x, y), ("test", new, truth)):
            error = mode.predict(at[:, None]).mean - target
            found[name].append(float(np.mean(error**2)))
    return found


# -- statistics ------------------------------------------------------------------------------------


def _best(values: Any, sign: int = 1) -> int:
    """Where the lowest value is; the highest for ``sign = -1``."""
    return int(np.argmin(sign * np.asarray(values, float)))


def _steps(higher: Any, other: Any, sign: int = 1) -> int:
    """Grid steps between the highest of one and the lowest (``sign`` -1: highest) of the other."""
    return abs(_best(higher, -1) - _best(other, sign))


def _at_least(train: Any, test: Any, steps: int) -> bool:
    return _best(test) - _best(train) >= steps


def _share(part: str, holds: Callable[[dict[str, Any]], bool]) -> Callable[[Results], Measurement]:
    return lambda results: Measurement.share_of(
        [bool(holds(r)) for r in results.where(part=part)], "data sets"
    )


def _mean(part: str, of: Callable[[dict[str, Any]], float]) -> Callable[[Results], Measurement]:
    return lambda results: Measurement.mean_of(
        [of(r) for r in results.where(part=part)], "data sets"
    )


def _largest_excess(results: Results) -> Measurement:
    found = [np.max(np.subtract(r["one_draw"], r["evidence"])) for r in results.where(part="speed")]
    return Measurement.exact(max(found), "nothing: both are in closed form")


def _agreeing(values: Any, evidence: Any) -> float:
    """Share of pairs that are ordered alike."""
    upper = np.triu_indices(len(values), 1)
    a, b = (np.subtract.outer(v, v)[upper] for v in (np.asarray(values), np.asarray(evidence)))
    return float(np.mean(np.sign(a) == np.sign(b)))


def _ranked(name: str) -> Callable[[Results], Measurement]:
    return _mean("speed", lambda r: _agreeing(r[name], r["evidence"]))


def _gained(results: Results) -> Measurement:
    return _mean(
        "speed",
        lambda r: _agreeing(r["twenty"], r["evidence"]) - _agreeing(r["one_draw"], r["evidence"]),
    )(results)


def _log_ratio(r: dict[str, Any]) -> float:
    grid = np.log10(_precisions(r["precisions"]))
    return float(grid[_best(r["evidence"], -1)] - grid[_best(r["test"])])


def _unit(values: Any) -> np.ndarray:
    found = np.asarray(values, float)
    logs = np.log(found) if (found > 0).all() else found
    return (logs - logs.min()) / ((logs.max() - logs.min()) or 1.0)


def _series(label: str, x: Any, rows: Any) -> Series:
    values = np.asarray(rows, float)
    mean = values.mean(0)
    half = 1.96 * values.std(0, ddof=1) / np.sqrt(len(values))
    return Series(label, list(x), list(mean), list(mean - half), list(mean + half))


@register(
    "studies",
    "evidence-and-generalisation",
    summary="Does the evidence choose the models that predict best?",
    options=StudyOptions,
    references=(
        "MacKay (1992), Bayesian Interpolation",
        "Fong & Holmes (2020), On the marginal likelihood and cross-validation",
        "Lyle et al. (2020), A Bayesian Perspective on Training Speed and Model Selection",
        "Khan et al. (2019), Approximate Inference Turns Deep Networks into Gaussian Processes",
    ),
)
def evidence_and_generalisation(options: StudyOptions) -> EvidenceAndGeneralisation:
    """The study at its scale."""
    return EvidenceAndGeneralisation(options.scale)
