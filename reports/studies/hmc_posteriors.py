"""How near do cheaper methods come to HMC's predictions, and how robust are those?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from bnnzoo.metrics import agreement, total_variation
from bnnzoo.models import make_model
from bnnzoo.registry import register
from bnnzoo.reports.claims import Claim, Measurement
from bnnzoo.reports.studies._corrupted import KINDS, LEVELS, corrupted
from bnnzoo.reports.studies._digits import (
    difference,
    digits,
    fitted,
    gain,
    interval,
    interval_of,
    scored,
)
from bnnzoo.reports.study import Cell, Results, Study, StudyOptions, Table
from bnnzoo.reports.study_charts import Chart, Series

METHODS = {
    "hmc": "HMC",
    "hmc-again": "HMC, other chains",
    "sghmc": "SGHMC",
    "cyclical-sghmc": "cyclical SGHMC",
    "mean-field-vi": "mean-field VI",
    "laplace": "Laplace",
    "swag": "SWAG",
    "deep-ensemble": "deep ensemble",
    "map": "single mode (MAP)",
}
"""In the order they are run in."""

PUBLISHED = ("sghmc", "deep-ensemble", "mean-field-vi", "map")
"""From the nearest to HMC to the farthest, in the paper by total variation."""

SHOWN = ("hmc", "sghmc", "mean-field-vi", "laplace", "deep-ensemble", "map")
"""On charts: six lines can be told apart."""

LATER = ("cyclical-sghmc", "swag")
"""No claim needs them; at scale smoke they are left out."""

SETS = {"smoke": 2, "small": 4, "paper": 5}
WIDTHS = {"smoke": [10], "small": [50, 50], "paper": [50, 50]}

SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {
        "hmc": {"chains": 2, "warmup": 40, "draws": 30, "max_steps": 20},
        "sghmc": {"chains": 2, "warmup": 20, "draws": 20, "batch_size": 100},
        "cyclical-sghmc": {"chains": 2, "warmup": 2, "draws": 8, "thin": 200, "batch_size": 100},
        "mean-field-vi": {"chains": 1, "warmup": 300, "draws": 40},
        "laplace": {"chains": 1, "warmup": 100, "draws": 40, "structure": "kron"},
        "swag": {"chains": 1, "warmup": 400, "draws": 20},
        "deep-ensemble": {"chains": 2, "draws": 2, "steps": 300},
        "map": {"chains": 1, "draws": 1, "steps": 300},
    },
    "small": {
        "hmc": {"chains": 4, "warmup": 150, "draws": 100, "max_steps": 100},
        "sghmc": {"chains": 4, "warmup": 200, "draws": 200, "batch_size": 100},
        "cyclical-sghmc": {"chains": 4, "warmup": 5, "draws": 25, "batch_size": 100},
        "mean-field-vi": {"chains": 1, "warmup": 5000, "draws": 300, "samples": 4},
        "laplace": {"chains": 1, "warmup": 1000, "draws": 300, "structure": "kron"},
        "swag": {"chains": 1, "warmup": 5000, "draws": 100},
        "deep-ensemble": {"chains": 2, "draws": 5, "steps": 3000},
        "map": {"chains": 1, "draws": 1, "steps": 3000},
    },
    "paper": {
        "hmc": {"chains": 4, "warmup": 500, "draws": 500, "max_steps": 200},
        "sghmc": {"chains": 5, "warmup": 1000, "draws": 1000, "batch_size": 100},
        "cyclical-sghmc": {"chains": 5, "warmup": 10, "draws": 100, "batch_size": 100},
        "mean-field-vi": {"chains": 1, "warmup": 20000, "draws": 1000},
        "laplace": {"chains": 1, "warmup": 3000, "draws": 1000, "structure": "full"},
        "swag": {"chains": 1, "warmup": 10000, "draws": 300},
        "deep-ensemble": {"chains": 2, "draws": 25, "steps": 10000},
        "map": {"chains": 1, "draws": 1, "steps": 10000},
    },
}


class HMCPosteriors(Study):
    """Nine approximations of one posterior of digits, on clean and on corrupted images."""

    question: ClassVar = (
        "How near do cheaper methods come to HMC's predictions, and is the posterior they "
        "approximate robust to corrupted images?"
    )
    protocol: ClassVar = (
        "The 1,797 digits are cut into disjoint training sets of 300 rows and 297 common test "
        "rows. A ReLU network 64-50-50-10, weights N(0, 2 / fan-in), biases N(0, 1), at a "
        "temperature of 1. HMC with trajectories of pi / 2 in the metric is the reference; a "
        "second HMC of other chains says how far two references lie apart. Agreement is the share "
        "of test rows with the same most probable class as HMC, total variation the distance of "
        "the class probabilities. Test images are then corrupted by pixel noise (standard "
        "deviation 2, 4, 8 of 16), blur (0.5, 0.8, 1.2 pixels) and shifts (0.25, 0.5, 0.75 pixels "
        "in random directions), the same for every method; where claims speak of corruption, all "
        "nine are averaged."
    )
    differences: ClassVar = (
        "Izmailov et al. used ResNet-20 on CIFAR-10 and CIFAR-10-C; here HMC is affordable, runs "
        "on several training sets, and what corrupts is drawn for images of 8 x 8.",
        "Their SGD baseline and the members of their ensemble are trained with weight decay; ours "
        "are modes of the posterior under the very prior that HMC has.",
        "Their stochastic-gradient sampler nearest to HMC was SGLD with 10,000 epochs; ours is "
        "SGHMC with a metric from its warm-up, and the cyclical one beside it.",
        "At scale small trajectories are cut at 100 steps, ensembles have 10 members (theirs 50) "
        "and four training sets are used; at scale smoke the network is 64-10-10, without cyclical "
        "SGHMC and SWAG.",
    )

    def cells(self) -> list[Cell]:
        """One a method and training set; a method's share its programs."""
        return [
            Cell(f"{method}-{split}", {"method": method, "split": split})
            for method in METHODS
            if self.scale != "smoke" or method not in LATER
            for split in range(SETS[self.scale])
        ]

    def run(self, **settings: Any) -> dict[str, Any]:
        """Fit, and score on the test rows and on all that became of them."""
        method, split = settings["method"], settings["split"]
        model = make_model(
            likelihood="categorical",
            network_options={"widths": WIDTHS[self.scale], "activation": "relu"},
        )
        data = digits(split)
        assert data.x_test is not None and data.y_test is not None
        backend, seed = ("hmc", 1000 + split) if method == "hmc-again" else (method, split)
        run = fitted(model, data, backend, seed=seed, **SIZES[self.scale][backend])
        probabilities = run.tree["test_scores"]["probabilities"].to_numpy().astype(float)
        found = scored(run) | {"probabilities": probabilities.round(5).tolist()}
        images = corrupted(data.x_test)
        told = run.predict(np.concatenate(list(images.values())))
        truth = np.tile(data.y_test, len(images))
        density = told.log_prob(truth).reshape(len(images), -1)
        right = (told.probabilities.argmax(1) == truth).reshape(len(images), -1)
        found["corrupted"] = {
            f"{kind}-{level}": {
                "log_density": [round(float(v), 5) for v in density[k]],
                "right": [int(v) for v in right[k]],
            }
            for k, (kind, level) in enumerate(images)
        }
        return found

    def claims(self) -> list[Claim]:
        """Ten, of one paper."""
        paper = "Izmailov et al. (2021), abstract"
        table = "Izmailov et al. (2021), table of agreement with HMC, as recalled"
        return [
            Claim(
                "better-than-ensemble",
                "HMC predicts better than a deep ensemble.",
                paper,
                "gain in test log-likelihood, nats a row",
                lambda r: gain(r.where(method="hmc"), r.where(method="deep-ensemble")),
            ),
            Claim(
                "better-than-mode",
                "HMC predicts better than standard training.",
                paper,
                "gain in test log-likelihood over a single mode, nats a row",
                lambda r: gain(r.where(method="hmc"), r.where(method="map")),
            ),
            Claim(
                "corruption-ensemble",
                "Under corruption HMC is less accurate than a deep ensemble.",
                paper,
                "accuracy of HMC less that of the ensemble, corrupted rows",
                lambda r: difference(_corrupted(r, "hmc"), _corrupted(r, "deep-ensemble")),
                "below",
            ),
            Claim(
                "corruption-mode",
                "Under corruption HMC is less accurate than standard training.",
                paper,
                "accuracy of HMC less that of a single mode, corrupted rows",
                lambda r: difference(_corrupted(r, "hmc"), _corrupted(r, "map")),
                "below",
            ),
            Claim(
                "corruption-costs",
                "Corruption costs HMC more than it costs standard training.",
                paper,
                "accuracy lost to pixel noise of standard deviation 4, HMC less single mode",
                lambda r: difference(_lost(r, "hmc"), _lost(r, "map")),
            ),
            Claim(
                "sampler-nearer",
                "Stochastic-gradient MCMC lies nearer to HMC than mean-field VI does.",
                paper,
                "total variation from HMC, SGHMC less mean-field VI",
                lambda r: difference(_distance(r, "sghmc"), _distance(r, "mean-field-vi")),
                "below",
            ),
            Claim(
                "ensemble-nearer",
                "Deep ensembles lie nearer to HMC than mean-field VI does.",
                paper,
                "total variation from HMC, ensemble less mean-field VI",
                lambda r: difference(_distance(r, "deep-ensemble"), _distance(r, "mean-field-vi")),
                "below",
            ),
            Claim(
                "ensemble-as-sampler",
                "Deep ensembles are about as near to HMC as stochastic-gradient MCMC.",
                paper,
                "total variation from HMC, ensemble less SGHMC",
                lambda r: difference(_distance(r, "deep-ensemble"), _distance(r, "sghmc")),
                "within",
                margin=0.02,
            ),
            Claim(
                "ranking",
                "From the nearest to HMC: stochastic-gradient MCMC, deep ensemble, mean-field VI, "
                "a single network.",
                table,
                "share of the six pairs of methods so ordered by total variation",
                _ranked,
                threshold=0.75,
            ),
            Claim(
                "reference",
                "Two HMC runs lie nearer to each other than any cheaper method to HMC.",
                f"{paper}: one long chain stands for several",
                "total variation from HMC, nearest cheaper method less a second HMC",
                _beyond_reference,
            ),
        ]

    def charts(self, results: Results) -> list[Chart]:
        """Accuracy and log-likelihood over the strength of corruption."""
        found = _by_method(results)
        strengths = [0.0, *map(float, LEVELS)]
        made = []
        for name, title, kinds, key, y in (
            ("corruption-error", "Error under corruption", KINDS, "right", "test error, %"),
            ("noise-error", "Error under pixel noise", ("noise",), "right", "test error, %"),
            (
                "corruption-log-likelihood", "Log-likelihood under corruption", KINDS,
                "log_density", "mean test log-likelihood, nats",
            ),
        ):  # fmt: skip
            lines = []
            for method in (m for m in SHOWN if m in found):
                points = [interval_of(_level(found[method], kinds, n, key)) for n in (0, *LEVELS)]
                if key == "right":
                    points = [(100 * (1 - m), 100 * (1 - h), 100 * (1 - w)) for m, w, h in points]
                lines.append(
                    Series(METHODS[method], strengths, *map(list, zip(*points, strict=True)))
                )
            if lines:
                what = "noise, blur and shift averaged" if len(kinds) > 1 else "of every pixel"
                made.append(
                    Chart(
                        name,
                        title,
                        f"0 is the clean test rows, 3 the strongest corruption ({what}). Means "
                        "with 95 % intervals over training sets and test rows; differences of two "
                        "methods are much surer than their levels.",
                        "strength of the corruption",
                        y,
                        lines,
                    )
                )
        return made

    def tables(self, results: Results) -> list[Table]:
        """Every method on clean rows, its distance from HMC, and every corruption."""
        found = _by_method(results)
        reference = found.get("hmc")
        near, spoiled = [], []
        for method, cells in found.items():
            other = reference if reference and len(reference) == len(cells) else None
            tv = agrees = None
            if other is not None and method != "hmc":
                tv = float(_distances(other, cells).mean())
                agrees = 100 * float(_agreements(other, cells).mean())
            near.append(
                (
                    METHODS[method], len(cells), tv, agrees,
                    float(interval(cells)[0]),
                    100 * (1 - _mean([_mean(c["right"]) for c in cells])),
                    _mean([c["ece"] for c in cells]),
                    _worst([c["worst_rhat"] for c in cells]),
                )
            )  # fmt: skip
            errors = [
                100 * (1 - float(_level(cells, (kind,), level, "right").mean()))
                for kind in KINDS
                for level in LEVELS
            ]
            spoiled.append((METHODS[method], *errors))
        return [
            Table(
                "Distance from HMC, and scores on clean test rows",
                (
                    "method", "sets", "total variation", "agreement (%)", "log-likelihood",
                    "error (%)", "ECE", "worst R-hat of functions",
                ),
                near,
                "R-hat is of function values over the chains, worst set; a single chain has "
                "none, and members of an ensemble are no chains that mix.",
            ),
            Table(
                "Error (%) under each corruption",
                ("method", *(f"{kind} {level}" for kind in KINDS for level in LEVELS)),
                spoiled,
                "Noise: standard deviation 2, 4, 8 of 16. Blur: 0.5, 0.8, 1.2 pixels. Shift: 0.25, "
                "0.5, 0.75 pixels.",
            ),
        ]  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _worst(values: Sequence[float | None]) -> float | None:
    return max((v for v in values if v is not None and np.isfinite(v)), default=None)


def _by_method(results: Results) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for r in results:
        found.setdefault(r["method"], []).append(r)
    return found


def _level(cells: list[dict[str, Any]], kinds: Sequence[str], level: int, key: str) -> np.ndarray:
    """Scores ``(set, row)`` at one strength, averaged over kinds; level 0 is the clean rows."""
    if not level:
        return np.array([c[key] for c in cells], float)
    return np.mean([[c["corrupted"][f"{k}-{level}"][key] for c in cells] for k in kinds], axis=0)


def _corrupted(results: Results, method: str, key: str = "right") -> np.ndarray:
    """Scores ``(set, row)`` averaged over all corruptions."""
    cells = results.where(method=method)
    return np.mean([_level(cells, KINDS, level, key) for level in LEVELS], axis=0)


def _lost(results: Results, method: str) -> np.ndarray:
    """What pixel noise of the middle strength takes of the accuracy ``(set, row)``."""
    cells = results.where(method=method)
    return _level(cells, KINDS, 0, "right") - _level(cells, ("noise",), 2, "right")


def _distances(reference: list[dict[str, Any]], cells: list[dict[str, Any]]) -> np.ndarray:
    pairs = zip(reference, cells, strict=True)
    return np.array(
        [total_variation(a["probabilities"], b["probabilities"], per_row=True) for a, b in pairs]
    )


def _agreements(reference: list[dict[str, Any]], cells: list[dict[str, Any]]) -> np.ndarray:
    pairs = zip(reference, cells, strict=True)
    return np.array(
        [agreement(a["probabilities"], b["probabilities"], per_row=True) for a, b in pairs]
    )


def _distance(results: Results, method: str) -> np.ndarray:
    """Total variation from HMC ``(set, row)``."""
    return _distances(results.where(method="hmc"), results.where(method=method))


def _ranked(results: Results) -> Measurement:
    """Share of pairs in the published order, a training set each."""
    far = np.array([_distance(results, method).mean(1) for method in PUBLISHED])
    pairs = [(i, j) for i in range(len(far)) for j in range(i + 1, len(far))]
    ordered = np.mean([far[i] < far[j] for i, j in pairs], axis=0)
    return Measurement.mean_of(ordered, "training sets, on common test rows")


def _beyond_reference(results: Results) -> Measurement:
    cheaper = [_distance(results, m) for m in METHODS if not m.startswith("hmc")]
    nearest = min(cheaper, key=lambda found: float(found.mean()))
    return difference(nearest, _distance(results, "hmc-again"))


@register(
    "studies",
    "hmc-posteriors",
    summary="How near do cheaper methods come to HMC, and how robust is the posterior?",
    options=StudyOptions,
    references=(
        "Izmailov et al. (2021), What Are Bayesian Neural Network Posteriors Really Like?",
        "Izmailov et al. (2021), Dangers of Bayesian Model Averaging under Covariate Shift",
        "Hendrycks & Dietterich (2019), Benchmarking Neural Network Robustness to Common "
        "Corruptions and Perturbations",
    ),
)
def hmc_posteriors(options: StudyOptions) -> HMCPosteriors:
    """The study at its scale."""
    return HMCPosteriors(options.scale)
