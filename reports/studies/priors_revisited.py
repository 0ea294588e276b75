"""Are weights heavy-tailed and correlated, and do priors that say so predict better?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from bnnzoo.inference import IntervalEstimate, weight_statistics
from bnnzoo.inference.programs import compiled_quickly
from bnnzoo.models import Model, make_model
from bnnzoo.registry import register
from bnnzoo.reports.claims import Claim, Measurement, NotMeasuredError
from bnnzoo.reports.studies._digits import digits, fitted, gain, gain_of_gains, scored
from bnnzoo.reports.studies._digits_priors import as_mixture
from bnnzoo.reports.studies._priors_page import COLD, charts, tables
from bnnzoo.reports.study import Cell, Results, Study, StudyOptions, Table
from bnnzoo.reports.study_charts import Chart

LENGTH = 1.0
"""Length-scale of correlated filters, in pixels, that claims are about; the study took it too."""

INDEPENDENT = 0.01
"""The same of independent filters, exp(-100) being nothing: one compiled program serves both."""

LENGTHS = {"smoke": (LENGTH,), "small": (LENGTH,), "paper": (0.5, LENGTH, 2.0)}

SETS = {
    "smoke": {"mlp": 2, "cnn": 0},
    "small": {"mlp": 3, "cnn": 3},
    "paper": {"mlp": 5, "cnn": 5},
}
"""Training sets, by network; smoke leaves out what is longest to compile."""

SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {
        "mlp": {"chains": 2, "warmup": 30, "draws": 20, "max_steps": 10},
    },
    "small": {
        "mlp": {"chains": 2, "warmup": 120, "draws": 100, "max_steps": 60},
        "cnn": {"chains": 2, "warmup": 80, "draws": 60, "max_steps": 40},
    },
    "paper": {
        "mlp": {"chains": 4, "warmup": 500, "draws": 500, "max_steps": 200},
        "cnn": {"chains": 4, "warmup": 300, "draws": 300, "max_steps": 100},
    },
}
"""Of the sampler, by network."""

ROWS = {"smoke": 40, "small": 300, "paper": 300}
"""Of each training set."""

ONLY_LARGER = ("laplace-variance", "laplace-scale", "gaussian-x2")
"""Priors that smoke leaves out: a family to compile, and those of tables alone."""

WIDTHS = {"smoke": [10, 10], "small": [50, 50], "paper": [50, 50]}

CHANNELS = {"smoke": [4, 4], "small": [8, 8], "paper": [8, 8]}

TRAINED: dict[str, dict[str, Any]] = {
    "smoke": {"networks": 5, "steps": 200, "resamples": 20},
    "small": {"networks": 10, "steps": 3000, "resamples": 100},
    "paper": {"networks": 30, "steps": 10_000, "resamples": 500},
}

PRIORS: dict[str, tuple[str, dict[str, Any]]] = {
    "gaussian": ("gaussian", {}),
    "laplace-variance": ("laplace", {"match": "variance"}),
    "student-t-variance": ("student-t", {"df": 3.0, "match": "variance"}),
    "laplace-scale": ("laplace", {"match": "scale"}),
    "student-t-scale": ("student-t", {"df": 3.0, "match": "scale"}),
    "gaussian-x2": ("gaussian", {"std": math.sqrt(2.0)}),
    "gaussian-x3": ("gaussian", {"std": math.sqrt(3.0)}),
}
"""Of the dense network's weights; those that share a compiled program are of one family."""

COLD_PRIORS = {
    False: ("gaussian", "laplace-variance", "student-t-variance", "student-t-scale"),
    True: ("gaussian", "student-t-variance"),
}
"""Priors at two temperatures, at larger scales and at smoke."""

NEARLY_GAUSSIAN = 0.03
"""1 / df below which a Student-t is a Gaussian to the eye."""


class PriorsRevisited(Study):
    """Weights of trained networks, then priors of their shape under HMC."""

    question: ClassVar = (
        "Are the weights of trained networks heavy-tailed and correlated, and do priors that say "
        "so predict better than independent Gaussians?"
    )
    protocol: ClassVar = (
        "Weights: networks trained on 1,600 digits by gradient descent from independent starts, "
        "without weight decay; a Student-t fitted to every kernel, correlation exp(-distance / "
        "length) to filters. "
        "Dense: 64-50-50-10 with ReLU on disjoint training sets of 300 digits, weights of scale "
        "sqrt(2 / fan-in), biases N(0, 1), sampled by HMC; Laplace and Student-t(3) once with the "
        "Gaussian's variance, once with its number as their own scale parameter (as published), "
        "which is twice and three times the variance, and so Gaussians of those variances. "
        "Temperatures: T divides the whole log posterior, L the log-likelihood alone. "
        "Convolutional: two layers of 8 filters of 3 x 3, the weights of a filter independent or "
        "with correlation exp(-distance / length), of one variance; the same with one permutation "
        "of the pixels of all images, in which neighbours mean nothing."
    )
    differences: ClassVar = (
        "Fortuin et al. sampled networks for MNIST by SG-MCMC with cycles; digits are small enough "
        "for HMC, so that what is seen is not the sampler's. The scale paper has more draws, sets, "
        "networks and length-scales, and the same data. Their ResNet-20 is not part of this.",
        "Heavy-tailed weights are sampled as Gaussian ones with a random scale each: the same "
        "prior, on which chains mix. At posterior temperature T the family is tempered first and "
        "then written so, because tempering weights and scales together would be another target.",
        "They matched families by scale alone; matched by variance, only the shape differs.",
        "Intervals of weights are about other trainings on the same digits, those of predictions "
        "about other training sets and test rows.",
        "Scale smoke has dense layers of 10 units and filters of 4, and leaves out Laplace weights "
        "and sampled convolutions, whose programs take longest to compile.",
    )

    def cells(self) -> list[Cell]:
        """Weights, then priors family by family."""
        made = [
            Cell(f"weights-{network}", {"part": "weights", "network": network})
            for network in ("mlp", "cnn")
        ]
        sets, tiny = SETS[self.scale], self.scale == "smoke"
        for split in range(sets["mlp"]):
            for prior in PRIORS:
                if tiny and prior in ONLY_LARGER:
                    continue
                made.append(_cell("mlp", prior, split))
                if prior in COLD_PRIORS[tiny]:
                    made.append(_cell("mlp", prior, split, T=COLD))
                    made.append(_cell("mlp", prior, split, L=COLD))
        for split in range(sets["cnn"]):
            for prior in ("gaussian", *(f"correlated-{v:g}" for v in LENGTHS[self.scale])):
                made.append(_cell("cnn", prior, split))
                made.append(_cell("cnn", prior, split, T=COLD))
                made.append(_cell("cnn-shuffled", prior, split))
        return made

    def run(self, **settings: Any) -> dict[str, Any]:
        """Train and look at weights, or fit and score."""
        with compiled_quickly(self.scale == "smoke"):
            if settings["part"] == "weights":
                return _weights(settings["network"], self.scale)
            return self._sampled(settings)

    def _sampled(self, settings: dict[str, Any]) -> dict[str, Any]:
        network, T = settings["part"], settings["T"]
        model = _model(network, settings["prior"], self.scale)
        temperatures = {"posterior_temperature": T, "likelihood_temperature": settings["L"]}
        if settings["prior"].startswith(("laplace", "student-t")):
            model = as_mixture(model, T)
            assert 1.0 in (T, settings["L"])
            temperatures = {"likelihood_temperature": T * settings["L"]}
        data = digits(
            settings["split"],
            rows=ROWS[self.scale],
            test=100 if self.scale == "smoke" else None,
            images=network != "mlp",
            shuffled=network == "cnn-shuffled",
        )
        run = fitted(
            model,
            data,
            "hmc",
            seed=settings["split"],
            target_acceptance=0.8,
            **temperatures,
            **SIZES[self.scale][network.partition("-")[0]],
        )
        return scored(run)

    def claims(self) -> list[Claim]:
        """Thirteen, of one paper."""
        fortuin = "Fortuin et al. (2022), Bayesian Neural Network Priors Revisited"
        tails = (
            "1 / df of the Student-t of highest likelihood (0 is a Gaussian, 0.03 is nearly one)"
        )
        nats = "gain in test log-likelihood, nats a row"
        correlated = f"correlated-{LENGTH:g}"
        return [
            Claim(
                "tails-first",
                "The weights of a trained dense network are heavier-tailed than Gaussian ones: "
                "first layer.",
                f"{fortuin}, sec. 3: df 2.2 on MNIST",
                tails,
                _tail("layers.0.kernel"),
                threshold=NEARLY_GAUSSIAN,
            ),
            Claim(
                "tails-middle",
                "The weights of a trained dense network are heavier-tailed than Gaussian ones: "
                "middle layer.",
                f"{fortuin}, sec. 3: df 6.3 on MNIST",
                tails,
                _tail("layers.1.kernel"),
                threshold=NEARLY_GAUSSIAN,
            ),
            Claim(
                "filters-first",
                "The weights of a trained convolution's filter are correlated: first layer.",
                f"{fortuin}, sec. 3",
                "correlation of neighbours, exp(-1 / length-scale)",
                _neighbours("convs.0.kernel"),
                margin=0.05,
            ),
            Claim(
                "filters-second",
                "The weights of a trained convolution's filter are correlated: second layer.",
                f"{fortuin}, sec. 3",
                "correlation of neighbours, exp(-1 / length-scale)",
                _neighbours("convs.1.kernel"),
                margin=0.05,
            ),
            Claim(
                "laplace",
                "Laplace weights predict better than Gaussian ones of the same variance.",
                f"{fortuin}, sec. 4, matched by scale there",
                nats,
                _gain("laplace-variance", "gaussian"),
            ),
            Claim(
                "student-t",
                "Student-t weights predict better than Gaussian ones of the same variance.",
                f"{fortuin}, sec. 4, matched by scale there",
                nats,
                _gain("student-t-variance", "gaussian"),
            ),
            Claim(
                "as-published",
                "Student-t weights predict better than Gaussian ones where both have the same "
                "number as scale parameter.",
                f"{fortuin}, sec. 4",
                nats,
                _gain("student-t-scale", "gaussian"),
            ),
            Claim(
                "shape-or-width",
                "That gain is of the shape: a Gaussian of the Student-t's variance predicts worse.",
                f"{fortuin}, sec. 4, who read it so",
                nats,
                _gain("student-t-scale", "gaussian-x3"),
            ),
            Claim(
                "cold-posterior",
                "Heavy tails lessen the cold posterior effect of dense networks.",
                f"{fortuin}, abstract; matched by variance here",
                "gain by T = 0.1 with Student-t weights less that with Gaussian ones, nats a row",
                lambda r: _gains(r, "mlp", "student-t-variance", "gaussian", T=COLD),
                "below",
            ),
            Claim(
                "cold-likelihood",
                "Heavy tails lessen the cold effect of the likelihood's temperature, too.",
                f"{fortuin}, abstract, read for the other temperature",
                "gain by L = 0.1 with Student-t weights less that with Gaussian ones, nats a row",
                lambda r: _gains(r, "mlp", "student-t-variance", "gaussian", L=COLD),
                "below",
            ),
            Claim(
                "correlated",
                "Correlated filters predict better than independent ones of the same variance.",
                f"{fortuin}, abstract",
                nats,
                _gain(correlated, "gaussian", "cnn"),
            ),
            Claim(
                "neighbours",
                "They do so because neighbouring pixels are alike: shuffled pixels take the gain "
                "away.",
                f"{fortuin}, sec. 3, who correlate neighbours for that",
                "gain by correlated filters, pixels in order less shuffled, nats a row",
                lambda r: gain_of_gains(
                    _of(r, "cnn", correlated),
                    _of(r, "cnn", "gaussian"),
                    _of(r, "cnn-shuffled", correlated),
                    _of(r, "cnn-shuffled", "gaussian"),
                ),
            ),
            Claim(
                "correlated-cold",
                "Correlated filters make the cold posterior effect larger.",
                f"{fortuin}, abstract, of ResNet-20",
                "gain by T = 0.1 with correlated filters less that with independent ones, nats a "
                "row",
                lambda r: _gains(r, "cnn", correlated, "gaussian", T=COLD),
            ),
        ]

    def charts(self, results: Results) -> list[Chart]:
        """Log-likelihood of dense priors by variance, and correlation of filters by distance."""
        return charts(results)

    def tables(self, results: Results) -> list[Table]:
        """Tails of every kernel, the effect of cold by prior, and every cell."""
        return tables(results)


# -- parts -----------------------------------------------------------------------------------------


def _cell(part: str, prior: str, split: int, T: float = 1.0, L: float = 1.0) -> Cell:
    settings = {"part": part, "prior": prior, "split": split, "T": T, "L": L}
    return Cell(f"{part}-{prior}-T={T:g},L={L:g}-{split}", settings)


def _model(part: str, prior: str, scale: str) -> Model:
    """A network with a prior of :data:`PRIORS`, or ``correlated-LENGTH``."""
    name, options = PRIORS.get(prior, ("", {}))
    if part != "mlp":
        name, options = "correlated-conv", {"length_scale": INDEPENDENT}
        if prior != "gaussian":
            options = {"length_scale": float(prior.removeprefix("correlated-"))}
    dense = part == "mlp"
    return make_model(
        "mlp" if dense else "cnn",
        name,
        "categorical",
        network_options=(
            {"widths": WIDTHS[scale], "activation": "relu"}
            if dense
            else {"channels": CHANNELS[scale]}
        ),
        prior_options=options,
    )


def _weights(network: str, scale: str) -> dict[str, Any]:
    """Tails of kernels and correlations of filters after training on 1,600 digits."""
    model = _model(network, "gaussian", scale)
    data = digits(0, rows=1600, splits=1, images=network != "mlp")
    found = weight_statistics(model, data, **TRAINED[scale])
    kernels, filters = {}, {}
    for path, one in found.parameters.items():
        if not path.endswith("kernel"):
            continue
        kernels[path] = {
            "df": _plain(one.df), "initial_df": float(one.initial_df), "family": one.family
        }  # fmt: skip
        if one.filters is not None:
            filters[path] = {
                "distance": [float(v) for v in one.filters.distance],
                "correlation": [float(v) for v in one.filters.correlation],
                "initial": [float(v) for v in one.filters.initial],
                "length_scale": _plain(one.filters.length_scale),
            }
    return {"kernels": kernels, "filters": filters, "loss": [float(v) for v in found.loss[:, 1]]}


def _plain(value: IntervalEstimate) -> list[float]:
    return [float(v) for v in value]


# -- statistics ------------------------------------------------------------------------------------

TRAININGS = "trainings on the same digits"


def _tail(path: str) -> Callable[[Results], Measurement]:
    """1 / df of a dense kernel."""

    def measure(results: Results) -> Measurement:
        value, low, high = results.where(part="weights", network="mlp")[0]["kernels"][path]["df"]
        if math.isnan(low):
            raise NotMeasuredError(f"no interval for {path}")
        return Measurement(1 / value, 1 / high, 1 / low, TRAININGS)

    return measure


def _neighbours(path: str) -> Callable[[Results], Measurement]:
    """Correlation of neighbouring positions of a convolution's filters."""

    def measure(results: Results) -> Measurement:
        found = results.where(part="weights", network="cnn")[0]["filters"][path]["length_scale"]
        value, low, high = (math.exp(-1.0 / v) if v > 0 else 0.0 for v in found)
        return Measurement(value, low, high, TRAININGS)

    return measure


def _of(
    results: Results, part: str, prior: str, T: float = 1.0, L: float = 1.0
) -> list[dict[str, Any]]:
    return results.where(part=part, prior=prior, T=T, L=L)


def _gain(better: str, base: str, part: str = "mlp") -> Callable[[Results], Measurement]:
    """Of one prior over another at temperature 1."""
    return lambda r: gain(_of(r, part, better), _of(r, part, base))


def _gains(
    results: Results, part: str, prior: str, base: str, T: float = 1.0, L: float = 1.0
) -> Measurement:
    """How much more cold adds under one prior than under another."""
    return gain_of_gains(
        _of(results, part, prior, T, L),
        _of(results, part, prior),
        _of(results, part, base, T, L),
        _of(results, part, base),
    )


@register(
    "studies",
    "priors-revisited",
    summary="Are weights heavy-tailed and correlated, and do priors that say so predict better?",
    options=StudyOptions,
    references=("Fortuin et al. (2022), Bayesian Neural Network Priors Revisited",),
)
def priors_revisited(options: StudyOptions) -> PriorsRevisited:
    """The study at its scale."""
    return PriorsRevisited(options.scale)
