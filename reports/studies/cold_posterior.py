"""Do colder posteriors predict better, and what makes them?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from bnnzoo.models import make_model
from bnnzoo.registry import register
from bnnzoo.reports.claims import Claim, Measurement
from bnnzoo.reports.studies import _cold_images
from bnnzoo.reports.studies._digits import (
    digits,
    fitted,
    gain,
    gain_of_gains,
    interval,
    mean_gain,
    scored,
)
from bnnzoo.reports.study import Cell, Results, Study, StudyOptions, Table
from bnnzoo.reports.study_charts import Chart, Series

TEMPERATURES = {
    "smoke": (1.0, 0.1),
    "small": (1.0, 0.3, 0.1, 0.03),
    "paper": (1.0, 0.3, 0.1, 0.03, 0.01),
}
SETS = {"smoke": 2, "small": 4, "paper": 5}

SIZES: dict[str, dict[str, Any]] = {
    "smoke": {"chains": 2, "warmup": 40, "draws": 30, "max_steps": 20},
    "small": {"chains": 4, "warmup": 150, "draws": 100, "max_steps": 100},
    "paper": {"chains": 4, "warmup": 500, "draws": 500, "max_steps": 200},
}
WIDTHS = {"smoke": [10], "small": [50, 50], "paper": [50, 50]}

COLD = 0.1
"""The temperature that claims compare with 1."""

FEW = 100
"""Effective draws under which the page says so."""

BIASED = 0.005
"""Nats a row, likewise."""

CAUSES = ("wide", "narrow", "flipped", "averaged-log-likelihood", "averaged-logits")

NAMES = {
    "plain": "as it is",
    "wide": "prior three times wider",
    "narrow": "prior three times narrower",
    "flipped": "a fifth of the labels wrong",
    "averaged-log-likelihood": "shifts, mean log-likelihood",
    "averaged-logits": "shifts, mean logits",
    **_cold_images.NAMES,
}


class ColdPosterior(Study):
    """HMC on digits over both temperatures, and over candidate causes."""

    question: ClassVar = "Do colder posteriors predict better, and what makes them?"
    protocol: ClassVar = (
        "The 1,797 digits are cut into disjoint training sets of 300 rows and common test rows. "
        "A ReLU network 64-50-50-10, weights N(0, 2 / fan-in), biases N(0, 1), is sampled by HMC "
        "with trajectories of pi / 2 in the metric. The posterior temperature T divides the whole "
        "log posterior, the likelihood temperature L the log-likelihood alone. Candidate causes "
        "at L = 1 and 0.1: the prior's standard deviation times or over three, a fifth of the "
        "training labels replaced, five one-pixel shifts of every image written as the mean "
        "log-likelihood (usual practice) or the likelihood of the mean logits (a valid one)."
    )
    differences: ClassVar = (
        "Wenzel et al. used ResNet-20 on CIFAR-10 and an LSTM on IMDB with SG-MCMC; here the "
        "data are small enough for HMC, so that what is seen is not the sampler's.",
        "At scale small trajectories are cut at 100 steps and four training sets are used.",
        "Scale paper has, beside all that, a CNN on MNIST and ResNet-20 on CIFAR-10 by cyclical "
        "SG-HMC, three seeds each and no data augmentation; it needs a GPU and was not run.",
    )

    def cells(self) -> list[Cell]:
        """The grid of both temperatures, then the causes."""
        made = []
        for split in range(SETS[self.scale]):
            for T in TEMPERATURES[self.scale]:
                made.append(self._cell("plain", split, T, 1.0))
            for L in TEMPERATURES[self.scale][1:]:
                made.append(self._cell("plain", split, 1.0, L))
            made.append(Cell(f"map-{split}", {"kind": "map", "split": split}))
            for cause in CAUSES:
                for L in (1.0, COLD):
                    made.append(self._cell(cause, split, 1.0, L))
        return made + (_cold_images.cells(TEMPERATURES["paper"]) if self.scale == "paper" else [])

    def _cell(self, kind: str, split: int, T: float, L: float) -> Cell:
        settings = {"kind": kind, "split": split, "T": T, "L": L}
        return Cell(f"{kind}-T={T:g},L={L:g}-{split}", settings)

    def run(self, **settings: Any) -> dict[str, Any]:
        """Fit and score."""
        kind, split = settings["kind"], settings["split"]
        if kind in _cold_images.KINDS:
            return _cold_images.run(kind, split, settings["T"])
        augmentation: dict[str, Any] = {}
        if kind.startswith("averaged"):
            combine = {"averaged-log-likelihood": "average-log-likelihood"}.get(kind, kind)
            options = {"shape": [8, 8], "combine": combine}
            augmentation = {"augmentation": "shift", "augmentation_options": options}
        model = make_model(
            likelihood="categorical",
            network_options={"widths": WIDTHS[self.scale], "activation": "relu"},
            prior_options={"std": {"wide": 3.0, "narrow": 1 / 3}.get(kind, 1.0)},
            **augmentation,
        )
        tiny = self.scale == "smoke"
        data = digits(
            split,
            rows=60 if tiny else 300,
            test=100 if tiny else None,
            flipped=0.2 if kind == "flipped" else 0.0,
        )
        if kind == "map":
            steps = 300 if tiny else 3000
            return scored(fitted(model, data, "map", chains=1, draws=1, steps=steps, seed=split))
        run = fitted(
            model,
            data,
            "hmc",
            seed=split,
            posterior_temperature=settings["T"],
            likelihood_temperature=settings["L"],
            **SIZES[self.scale],
        )
        return scored(run)

    def claims(self) -> list[Claim]:
        """Seven, of three papers; at scale paper two more."""
        wenzel = "Wenzel et al. (2020), How Good is the Bayes Posterior in Deep Neural Networks"
        izmailov = "Izmailov et al. (2021), What Are Bayesian Neural Network Posteriors Like"
        nabarro = "Nabarro et al. (2022), Data augmentation in Bayesian neural networks"
        aitchison = "Aitchison (2021), A statistical theory of cold posteriors"
        more = _cold_images.claims(COLD) if self.scale == "paper" else []
        return [
            Claim(
                "posterior-temperature",
                "A posterior at T = 0.1 predicts better than at T = 1.",
                f"{wenzel}, on images and text",
                "gain in test log-likelihood, nats a row",
                lambda r: gain(_of(r, "plain", T=COLD, L=1.0), _of(r, "plain", T=1.0, L=1.0)),
            ),
            Claim(
                "likelihood-temperature",
                "A likelihood at L = 0.1 predicts better than at L = 1.",
                f"{wenzel}; Fortuin et al. (2022) for dense networks",
                "gain in test log-likelihood, nats a row",
                lambda r: gain(_of(r, "plain", T=1.0, L=COLD), _of(r, "plain", T=1.0, L=1.0)),
            ),
            Claim(
                "point-estimate",
                "The posterior at T = 1 predicts worse than a point estimate.",
                wenzel,
                "gain of the mode over the posterior, nats a row",
                lambda r: gain(r.where(kind="map"), _of(r, "plain", T=1.0, L=1.0)),
            ),
            Claim(
                "augmentation",
                "Augmentation as usually written (mean log-likelihood) makes the effect larger.",
                izmailov,
                "gain by L = 0.1 with shifts less that without, nats a row",
                lambda r: _more(r, "averaged-log-likelihood"),
            ),
            Claim(
                "valid-augmentation",
                "Written as a likelihood (mean logits), augmentation leaves a smaller effect than "
                "as the mean log-likelihood.",
                nabarro,
                "gain by L = 0.1, mean logits less mean log-likelihood, nats a row",
                lambda r: gain_of_gains(
                    _of(r, "averaged-logits", T=1.0, L=COLD),
                    _of(r, "averaged-logits", T=1.0, L=1.0),
                    _of(r, "averaged-log-likelihood", T=1.0, L=COLD),
                    _of(r, "averaged-log-likelihood", T=1.0, L=1.0),
                ),
                "below",
            ),
            Claim(
                "label-noise",
                "With wrong labels among those trained on, the effect shrinks.",
                f"{aitchison}: curated labels are what makes posteriors cold",
                "gain by L = 0.1 with a fifth of the labels wrong less that without, nats a row",
                lambda r: _more(r, "flipped"),
                "below",
            ),
            Claim(
                "prior-scale",
                "The effect is smaller under a wider prior.",
                f"{wenzel}, candidate cause: an unintentionally narrow prior",
                "gain by L = 0.1, prior three times wider less three times narrower, nats a row",
                lambda r: gain_of_gains(
                    _of(r, "wide", T=1.0, L=COLD),
                    _of(r, "wide", T=1.0, L=1.0),
                    _of(r, "narrow", T=1.0, L=COLD),
                    _of(r, "narrow", T=1.0, L=1.0),
                ),
                "below",
            ),
            *more,
        ]

    def cautions(self, results: Results) -> list[str]:
        """What few draws do: they make any sampler look cold."""
        sampled = [r for r in results if "T" in r]
        if not sampled:
            return []
        fewest = min(r["median_ess"] for r in sampled)
        biases = [r["bias"] for r in sampled if r["bias"] is not None]
        said = []
        if fewest < FEW:
            said.append(
                f"Chains are short: of the median function there are {fewest:.0f} effective draws "
                "in the worst cell, and few draws make any sampler look cold."
            )
        if biases and min(biases) < -BIASED:
            said.append(
                f"Averaging so few draws costs up to {-min(biases):.3f} nats a row, most at T = 1: "
                "gains of cold that are no larger say nothing."
            )
        return said

    def charts(self, results: Results) -> list[Chart]:
        """Test log-likelihood over both temperatures."""
        done = list(results)
        lines = []
        for label, own, other in (("posterior, T", "T", "L"), ("likelihood, L", "L", "T")):
            rows = [r for r in done if r["kind"] == "plain" and r[other] == 1.0]
            points = sorted({r[own] for r in rows})
            found = [interval([r for r in rows if r[own] == p]) for p in points]
            columns = list(zip(*found, strict=True)) or [(), (), ()]
            lines.append(Series(label, points, *map(list, columns)))
        return [
            Chart(
                "temperatures",
                "Test log-likelihood over two temperatures",
                "Left of 1 is colder. The two conventions need not agree: dividing the prior, too, "
                "narrows it. Means with 95 % intervals over training sets and test rows; both "
                "lines share the point at 1, and differences are much surer than the means.",
                "temperature",
                "mean test log-likelihood, nats",
                lines,
                log_x=True,
            )
        ]

    def tables(self, results: Results) -> list[Table]:
        """Every setting, and what each cause does to the gain of cold."""
        done = list(results)
        kinds = [k for k in NAMES if any(r["kind"] == k for r in done)]
        causes = []
        for kind in kinds:
            pair = [[r for r in done if r["kind"] == kind and (r["T"], r["L"]) == (1.0, L)]
                    for L in (1.0, COLD)]  # fmt: skip
            if len(pair[0]) == len(pair[1]) > 0:
                levels = [float(interval(p)[0]) for p in pair]
                causes.append((NAMES[kind], *levels, mean_gain(pair[1], pair[0])))
        sampled: dict[tuple[str, float, float], list[dict[str, Any]]] = {}
        for r in done:
            if "T" in r:
                sampled.setdefault((r["kind"], r["T"], r["L"]), []).append(r)
        rows = [
            (
                NAMES[kind], f"{T:g}", f"{L:g}", len(cells),
                float(interval(cells)[0]),
                100 * (1 - _mean([_mean(c["right"]) for c in cells])),
                _mean([c["ece"] for c in cells]),
                max(c["worst_rhat"] for c in cells),
                min(c["median_ess"] for c in cells),
                min((c["bias"] for c in cells if c["bias"] is not None), default=None),
            )
            for (kind, T, L), cells in sampled.items()
        ]  # fmt: skip
        heads = ("setting", "T", "L", "sets", "log-likelihood", "error (%)", "ECE")
        return [
            Table(
                "Causes",
                ("setting", "log-likelihood at L = 1", "at L = 0.1", "gain of cold"),
                causes,
                "Nats a test row; the claims have the intervals of differences.",
            ),
            Table(
                "All cells",
                (*heads, "worst R-hat of functions", "median effective draws", "few-draws bias"),
                rows,
                "R-hat and effective draws of function values over the chains, worst set; what "
                "averaging so few draws costs, nats a row.",
            ),
        ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _of(results: Results, kind: str, T: float, L: float) -> list[dict[str, Any]]:
    return results.where(kind=kind, T=T, L=L)


def _more(results: Results, kind: str) -> Measurement:
    """How much larger the gain of cold is in a setting than in the plain one."""
    return gain_of_gains(
        _of(results, kind, T=1.0, L=COLD),
        _of(results, kind, T=1.0, L=1.0),
        _of(results, "plain", T=1.0, L=COLD),
        _of(results, "plain", T=1.0, L=1.0),
    )


@register(
    "studies",
    "cold-posterior",
    summary="Do colder posteriors predict better, and what makes them?",
    options=StudyOptions,
    references=(
        "Wenzel et al. (2020), How Good is the Bayes Posterior in Deep Neural Networks Really?",
        "Izmailov et al. (2021), What Are Bayesian Neural Network Posteriors Really Like?",
        "Aitchison (2021), A statistical theory of cold posteriors in deep neural networks",
        "Nabarro et al. (2022), Data augmentation in Bayesian neural networks and the cold "
        "posterior effect",
    ),
)
def cold_posterior(options: StudyOptions) -> ColdPosterior:
    """The study at its scale."""
    return ColdPosterior(options.scale)
