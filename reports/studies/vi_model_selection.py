"""When does a variational bound choose the model that the evidence would, and when does it fail?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from bnnzoo.inference.programs import compiled_quickly
from bnnzoo.registry import register
from bnnzoo.reports.claims import Claim, Measurement, NotMeasuredError
from bnnzoo.reports.studies._bounds import FAMILIES, NOISE, finite, linear, sine
from bnnzoo.reports.study import Cell, Results, Study, StudyOptions, Table
from bnnzoo.reports.study_charts import Chart, Series

BOUND = {
    "mean-field-vi": "mean-field bound",
    "low-rank-vi": "low-rank bound",
    "full-rank-vi": "full-rank bound",
}

LITTLE = 0.1
"""Noise at which nothing is expected to collapse."""

CORRELATED = 0.9

SIZES: dict[str, dict[str, Any]] = {
    "smoke": {
        "linear": 2, "stds": 3, "sine": 2, "finite": 0,
        "priors": (0.1, 1.0, 3.0), "units": (10, 50), "steps": 600,
    },
    "small": {
        "linear": 20, "stds": 9, "sine": 8, "finite": 4,
        "priors": (0.01, 0.1, 0.3, 1.0, 3.0), "units": (50, 200), "steps": 3000, "particles": 128,
    },
    "paper": {
        "linear": 100, "stds": 17, "sine": 20, "finite": 20,
        "priors": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0), "units": (50, 200), "steps": 10000,
        "particles": 512,
    },
}  # fmt: skip
"""Data sets of each part, the grids, and how long is fitted."""


class VIModelSelection(Study):
    """Linear models, whose evidence is exact, and networks beside their infinite partner."""

    question: ClassVar = (
        "When does a variational bound choose the prior that the evidence would, and when does it "
        "collapse?"
    )
    protocol: ClassVar = (
        "Linear: 30 rows, ten features of correlation 0 or 0.9, weights N(0, 1), noise 0.5 and "
        "known. Over a grid of prior standard deviations, the exact evidence and the bounds of "
        "Gaussians that are mean-field, diagonal plus rank two, and of full rank. Network: 40 "
        "points of sin(2.5 x) on [-2, 2] with known noise of 0.5; one hidden layer of erf units, "
        "weights N(0, std^2 / fan-in), biases N(0, std^2); at each std the mean-field bound (the "
        "better of two fits), the exact evidence of the infinitely wide network, and for the "
        "smaller network its own evidence by SMC. The same again with a noise of 0.1. A bound "
        "chooses the std at which it is highest."
    )
    differences: ClassVar = (
        "Every figure is over independent data sets: the papers show one.",
        "Blundell et al. learn the prior along with the approximation, on MNIST; here the bound is "
        "fitted at each prior of a grid, so that an optimiser's path decides nothing.",
        "At scale smoke the networks have 10 and 50 units, elsewhere 50 and 200, and the narrowest "
        "prior is 0.1, elsewhere 0.01; it leaves out SMC, whose programs take longest to compile.",
    )

    def cells(self) -> list[Cell]:
        """One a data set; those of one shape stand beside each other."""
        size, made = SIZES[self.scale], []
        stds = [float(f"{v:.4g}") for v in np.logspace(-1, 1, size["stds"])]
        for correlation in (0.0, CORRELATED):
            for seed in range(size["linear"]):
                own = {"correlation": correlation, "seed": seed, "stds": stds}
                settings = {"part": "linear", **own, "steps": size["steps"]}
                made.append(Cell(f"linear-{correlation:g}-{seed}", settings))
        small, large = size["units"]
        for units, noise in ((small, NOISE), (small, LITTLE), (large, NOISE)):
            for seed in range(size["sine"]):
                own = {"units": units, "noise": noise, "seed": seed}
                own |= {"priors": list(size["priors"]), "steps": size["steps"]}
                made.append(Cell(f"sine-{units}-{noise:g}-{seed}", {"part": "sine", **own}))
        for seed in range(size["finite"]):
            priors = [v for v in size["priors"] if v >= 0.1]
            own = {"units": small, "seed": seed, "priors": priors, "particles": size["particles"]}
            made.append(Cell(f"finite-{small}-{seed}", {"part": "finite", **own}))
        return made

    def run(self, **settings: Any) -> dict[str, Any]:
        """The part's figures on one data set."""
        do: dict[str, Callable[..., dict[str, Any]]]
        do = {"linear": linear, "sine": sine, "finite": finite}
        part = settings.pop("part")
        with compiled_quickly(self.scale == "smoke" and part == "linear"):  # others run too long
            return do[part](**settings)

    def claims(self) -> list[Claim]:
        """Six of linear models, seven of networks."""
        jordan = "Jordan et al. (1999), An Introduction to Variational Methods"
        turner = "Turner & Sahani (2011), Two problems with variational expectation maximisation"
        blundell = "Blundell et al. (2015), Weight Uncertainty in Neural Networks"
        trippe = "Trippe & Turner (2018), Overpruning in Variational Bayesian Neural Networks"
        coker = "Coker et al. (2022), Wide Mean-Field Bayesian Neural Networks Ignore the Data"
        lee = "Lee et al. (2018), Deep Neural Networks as Gaussian Processes"
        return [
            Claim(
                "mean-field-gap",
                "A mean-field bound is looser than a low-rank one.",
                jordan,
                "mean-field gap less low-rank gap at prior std 1, correlated features, nats",
                _linear_mean(lambda r: _gap(r, "mean-field-vi") - _gap(r, "low-rank-vi")),
            ),
            Claim(
                "low-rank-gap",
                "A low-rank bound is looser than a full-rank one.",
                jordan,
                "low-rank gap less full-rank gap at prior std 1, correlated features, nats",
                _linear_mean(lambda r: _gap(r, "low-rank-vi") - _gap(r, "full-rank-vi")),
            ),
            Claim(
                "full-rank-tight",
                "Where the posterior is Gaussian the full-rank bound is the evidence.",
                jordan,
                "gap of the full-rank bound at prior std 1, correlated features, nats",
                _linear_mean(lambda r: _gap(r, "full-rank-vi")),
                "within",
                margin=0.01,
            ),
            Claim(
                "full-rank-choice",
                "The full-rank bound chooses the prior of highest evidence.",
                jordan,
                "share of data sets with correlated features where both choose the same std",
                _same_choice,
                threshold=0.8,
            ),
            Claim(
                "mean-field-choice",
                "Hyper-parameters are drawn to where the bound is tight: with correlated features "
                "the mean-field bound chooses a narrower prior than the evidence.",
                turner,
                "mean of log10 of the std chosen by the bound over that of highest evidence",
                _linear_mean(lambda r: _decades(r["stds"], r["mean-field-vi"], r["evidence"])),
                "below",
            ),
            Claim(
                "independent-choice",
                "Where the gap hardly depends on the prior, the bound chooses rightly: with "
                "independent features the mean-field choice is that of the evidence.",
                turner,
                "mean of log10 of the std chosen by the bound over that of highest evidence",
                _linear_mean(lambda r: _decades(r["stds"], r["mean-field-vi"], r["evidence"]), 0.0),
                "within",
                margin=0.1,
            ),
            Claim(
                "sensible-prior",
                "The bound of a sensible prior lies below that of a prior of almost no width.",
                f"van der Wilk (2019), talk, of {blundell}",
                "bound at prior std 1 less that at the narrowest, smaller network, nats",
                self._sine_mean(0, lambda r: r["bound"][r["priors"].index(1.0)] - r["bound"][0]),
                "below",
                margin=1.0,
            ),
            Claim(
                "evidence-rises",
                "The evidence does not collapse: the smaller network's own rises from prior std "
                "0.1 to 3.",
                "van der Wilk (2019), talk: the bound fails, not the model",
                "evidence by SMC at prior std 3 less that at 0.1, nats",
                _mean("finite", "evidence", lambda r: r["evidence"][-1] - r["evidence"][0]),
                margin=1.0,
            ),
            Claim(
                "infinite-partner",
                "The evidence of the infinitely wide network stands for that of a finite one.",
                lee,
                "evidence by SMC less the exact one of infinite width, prior std 3, nats",
                _mean("finite", "SMC less exact", lambda r: r["evidence"][-1] - r["infinite"][-1]),
                "within",
                margin=3.0,
            ),
            Claim(
                "units-cost",
                "More hidden units lower the bound.",
                trippe,
                "bound of the larger network less that of the smaller, prior std 1, nats",
                self._wider(lambda r: r["bound"][r["priors"].index(1.0)]),
                "below",
                margin=1.0,
            ),
            Claim(
                "data-ignored",
                "The wider the network, the less of the data its mean-field posterior keeps.",
                coker,
                "root mean square of the predictive mean over that of the infinite network's "
                "exact one, prior std 1: larger network less smaller",
                self._wider(lambda r: r["size"] / r["exact_size"]),
                "below",
            ),
            Claim(
                "little-noise",
                "With little noise the bound does not collapse: it chooses a prior within a factor "
                "of ten of that of highest evidence.",
                "a first run for this project (2026), not published",
                "share of data sets with noise 0.1 where it does, smaller network",
                self._little_noise,
                threshold=0.5,
            ),
            Claim(
                "collapse",
                "With much noise the bound collapses: it chooses a prior at least ten times "
                "narrower than that of highest evidence.",
                f"van der Wilk (2019), talk, of {blundell}",
                "share of data sets with noise 0.5 where it does, larger network",
                self._collapsed,
                threshold=0.5,
            ),
        ]

    # -- statistics of networks ----------------------------------------------------------------

    def _sine_cells(
        self, results: Results, which: int, noise: float = NOISE
    ) -> list[dict[str, Any]]:
        return results.where(part="sine", units=SIZES[self.scale]["units"][which], noise=noise)

    def _sine_mean(
        self, which: int, of: Callable[[dict[str, Any]], float]
    ) -> Callable[[Results], Measurement]:
        return lambda results: Measurement.mean_of(
            [of(r) for r in self._sine_cells(results, which)], "data sets"
        )

    def _wider(self, of: Callable[[dict[str, Any]], float]) -> Callable[[Results], Measurement]:
        """The larger network less the smaller on the same data sets."""

        def measure(results: Results) -> Measurement:
            pairs = zip(self._sine_cells(results, 1), self._sine_cells(results, 0), strict=True)
            return Measurement.mean_of([of(a) - of(b) for a, b in pairs], "data sets")

        return measure

    def _little_noise(self, results: Results) -> Measurement:
        rows = self._sine_cells(results, 0, LITTLE)
        return Measurement.share_of([abs(_network_decades(r)) < 1.01 for r in rows], "data sets")

    def _collapsed(self, results: Results) -> Measurement:
        rows = self._sine_cells(results, 1)
        return Measurement.share_of([_network_decades(r) <= -0.99 for r in rows], "data sets")

    # -- the page ------------------------------------------------------------------------------

    def charts(self, results: Results) -> list[Chart]:
        """Bounds beside the evidence over the width of the prior."""
        x, made = "standard deviation of the prior", []
        rows = [r for r in results if _is(r, "linear", correlation=CORRELATED)]
        if len(rows) > 1:
            lines = [
                _series(
                    label, rows[0]["stds"], [np.subtract(r[k], max(r["evidence"])) for r in rows]
                )
                for k, label in {"evidence": "exact evidence", **BOUND}.items()
            ]
            caption = (
                "The full-rank bound lies on the evidence. The gaps of the others depend on the "
                "prior, and so does where they are highest. Means over data sets with 95 % "
                "intervals."
            )
            title = "Linear models with correlated features"
            y = "nats above the highest evidence of each data set"
            made.append(Chart("linear-models", title, caption, x, y, lines, log_x=True))
        for name, noise in (("noisy-sine", NOISE), ("clear-sine", LITTLE)):
            lines = []
            for units in SIZES[self.scale]["units"]:
                rows = [r for r in results if _is(r, "sine", units=units, noise=noise)]
                if len(rows) > 1:
                    for key, label in (
                        ("evidence", "exact evidence, infinitely wide"),
                        ("bound", f"mean-field bound, {units} units"),
                    ):
                        if label not in [line.label for line in lines]:
                            lines.append(_series(label, rows[0]["priors"], [r[key] for r in rows]))
            rows = [r for r in results if _is(r, "finite")]
            if lines and noise == NOISE and len(rows) > 1:
                label = f"evidence by SMC, {rows[0]['units']} units"
                lines.append(_series(label, rows[0]["priors"], [r["evidence"] for r in rows]))
            if lines:
                caption = (
                    "What is chosen is where a line is highest. The distance of bound and evidence "
                    "is the divergence of the best mean-field density from the posterior. Means "
                    "over data sets with 95 % intervals."
                )
                title = f"Networks on a sine with noise of {noise:g}"
                made.append(Chart(name, title, caption, x, "nats", lines, log_x=True))
        return made

    def tables(self, results: Results) -> list[Table]:
        """What each bound chose, and how many fits had not ended."""
        done, rows = list(results), []
        for correlation in (0.0, CORRELATED):
            own = [r for r in done if _is(r, "linear", correlation=correlation)]
            for family in FAMILIES if own else ():
                said = _chosen([(r["stds"], r[family], r["evidence"]) for r in own])
                left = _unended(r["remaining"][family] for r in own)
                name = f"linear, correlation {correlation:g}"
                rows.append((name, BOUND[family], len(own), *said, left))
        for units, noise in {(r["units"], r["noise"]): None for r in done if _is(r, "sine")}:
            own = [r for r in done if _is(r, "sine", units=units, noise=noise)]
            said = _chosen([(r["priors"], r["bound"], r["evidence"]) for r in own])
            left = _unended(r["remaining"] for r in own)
            name = f"{units} units, noise {noise:g}"
            rows.append((name, BOUND["mean-field-vi"], len(own), *said, left))
        return [
            Table(
                "What each bound chose",
                (
                    "model", "bound", "data sets", "median std chosen",
                    "median std of highest evidence", "sets where they are the same",
                    "fits not ended",
                ),
                rows,
                "For networks the evidence is that of infinite width. A fit that has not ended "
                "had more than a nat left to gain, so that its bound is lower than that of its "
                "family; it is kept everywhere.",
            )
        ]  # fmt: skip


# -- statistics ------------------------------------------------------------------------------------


def _is(r: dict[str, Any], part: str, **settings: Any) -> bool:
    return r["part"] == part and all(r[k] == v for k, v in settings.items())


def _gap(r: dict[str, Any], family: str) -> float:
    at = r["stds"].index(1.0)
    return float(r["evidence"][at] - r[family][at])


def _decades(grid: Any, values: Any, evidence: Any) -> float:
    """log10 of the grid's value where one is highest over that where the evidence is."""
    return float(np.log10(grid[int(np.argmax(values))] / grid[int(np.argmax(evidence))]))


def _network_decades(r: dict[str, Any]) -> float:
    return _decades(r["priors"], r["bound"], r["evidence"])


def _linear_mean(
    of: Callable[[dict[str, Any]], float], correlation: float = CORRELATED
) -> Callable[[Results], Measurement]:
    return lambda results: Measurement.mean_of(
        [of(r) for r in results.where(part="linear", correlation=correlation)], "data sets"
    )


def _same_choice(results: Results) -> Measurement:
    rows = results.where(part="linear", correlation=CORRELATED)
    same = [np.argmax(r["full-rank-vi"]) == np.argmax(r["evidence"]) for r in rows]
    return Measurement.share_of(same, "data sets")


def _mean(
    part: str, what: str, of: Callable[[dict[str, Any]], float]
) -> Callable[[Results], Measurement]:
    def measure(results: Results) -> Measurement:
        values = [of(r) for r in results.where(part=part)]
        if not np.isfinite(values).all():
            raise NotMeasuredError(f"{what} is not finite on a data set")
        return Measurement.mean_of(values, "data sets")

    return measure


def _chosen(rows: list[tuple[Any, Any, Any]]) -> tuple[float, float, int]:
    """Median choices of bound and evidence, and on how many data sets they are one."""
    own = [grid[int(np.argmax(values))] for grid, values, _ in rows]
    best = [grid[int(np.argmax(evidence))] for grid, _, evidence in rows]
    agree = sum(a == b for a, b in zip(own, best, strict=True))
    return float(np.median(own)), float(np.median(best)), agree


def _unended(remaining: Any) -> str:
    left = [v for values in remaining for v in values]
    return f"{sum(v > 1.0 for v in left)} of {len(left)}"


def _series(label: str, x: Any, rows: Any) -> Series:
    values = np.asarray(rows, float)
    mean, own = values.mean(0), values.std(0, ddof=1)
    from scipy import stats  # slow to import: only where it is used

    half = float(stats.t.ppf(0.975, len(values) - 1)) * own / np.sqrt(len(values))
    return Series(label, list(x), list(mean), list(mean - half), list(mean + half))


@register(
    "studies",
    "vi-model-selection",
    summary="When does a variational bound choose the prior that the evidence would?",
    options=StudyOptions,
    references=(
        "Jordan et al. (1999), An Introduction to Variational Methods for Graphical Models",
        "Turner & Sahani (2011), Two problems with variational expectation maximisation for "
        "time-series models",
        "Blundell et al. (2015), Weight Uncertainty in Neural Networks",
        "Trippe & Turner (2018), Overpruning in Variational Bayesian Neural Networks",
        "Coker et al. (2022), Wide Mean-Field Bayesian Neural Networks Ignore the Data",
        "Lee et al. (2018), Deep Neural Networks as Gaussian Processes",
    ),
)
def vi_model_selection(options: StudyOptions) -> VIModelSelection:
    """The study at its scale."""
    return VIModelSelection(options.scale)
