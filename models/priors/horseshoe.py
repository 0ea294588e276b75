"""The regularised horseshoe prior."""

from __future__ import annotations

from bnnzoo.models.horseshoe import Horseshoe, HorseshoeOptions, make_horseshoe
from bnnzoo.registry import register


@register(
    "priors",
    "horseshoe",
    summary="Regularised horseshoe: most weights near zero, a few as large as a slab allows.",
    options=HorseshoeOptions,
    references=(
        "Piironen & Vehtari (2017), Sparsity information and regularization in the horseshoe and "
        "other shrinkage priors, eq. 2.8",
        "Carvalho, Polson & Scott (2010), The horseshoe estimator for sparse signals",
    ),
    tags={"family": ("heavy-tailed", "sparse", "hierarchical"), "tails": "polynomial"},
    notes="w = k s z tau l~, s = std * gain / sqrt(fan-in), z ~ N(0, 1), l~^2 = c^2 l^2 / (c^2 + "
    "tau^2 l^2), l ~ HalfCauchy(1) an element, tau ~ HalfCauchy(tau0) and c^2 ~ InverseGamma(df/2, "
    "df scale^2/2) a kernel. Sites <path>.base (z), .local (l), .global (tau), .slab (c^2); the "
    "kernel itself is in a run's draws under its path. k makes an element's marginal standard "
    "deviation s (match = variance, which needs slab_df > 2) or its interquartile range that of "
    "N(0, s^2), both by quadrature; match = scale has k = 1. Its tails are those of a Student-t "
    "with slab_df degrees of freedom but for logarithms. The posterior at temperature T needs "
    "T < 2, as of every Cauchy.",
)
def horseshoe(options: HorseshoeOptions) -> Horseshoe:
    """The prior of these options, its scale matched."""
    return make_horseshoe(options, "element")
