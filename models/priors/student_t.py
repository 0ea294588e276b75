"""The Student-t prior."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpyro.distributions as dist
from jax.tree_util import register_dataclass
from pydantic import Field
from scipy import stats

from bnnzoo.errors import OptionError
from bnnzoo.models.leaf import Leaf
from bnnzoo.models.prior import NORMAL_IQR, ElementwiseOptions, ElementwisePrior, Match
from bnnzoo.options import Positive
from bnnzoo.registry import register


class StudentTOptions(ElementwiseOptions):
    """Options of ``student-t``."""

    df: Positive = Field(5.0, description="Degrees of freedom: smaller is heavier-tailed.")


@functools.partial(
    register_dataclass, data_fields=("scale", "df", "bias_std"), meta_fields=("absolute",)
)
@dataclass(frozen=True)
class StudentT(ElementwisePrior):
    """Independent Student-t(df) with this scale."""

    scale: Leaf
    df: Leaf
    bias_std: Leaf
    absolute: bool

    def family(self, loc: float, scale: Leaf) -> dist.Distribution:
        """Student-t(df, loc, scale)."""
        return dist.StudentT(self.df, loc, scale)


@register(
    "priors",
    "student-t",
    summary="Independent Student-t weights: polynomial tails.",
    options=StudentTOptions,
    references=("Fortuin et al. (2022), Bayesian Neural Network Priors Revisited, sec. 4",),
    tags={"family": ("heavy-tailed", "elementwise"), "tails": "polynomial"},
    notes="With match = variance the scale is std * sqrt((df - 2) / df) (by gain / sqrt(fan-in)), "
    "which needs df > 2; with df <= 2 choose match = iqr or scale. The posterior at temperature T "
    "needs T < df + 1, or the tempered prior is improper.",
)
def student_t(options: StudentTOptions) -> StudentT:
    """The prior of these options, its scale matched."""
    unit = student_t_unit(options.df, options.match)
    return StudentT(options.std * unit, options.df, options.bias_std, options.absolute)


def student_t_unit(df: float, match: Match) -> float:
    """Scale of a Student-t that has the width of N(0, 1).

    Args:
        df: degrees of freedom.
        match: which width.

    Raises:
        OptionError: a variance is to be matched and there is none.
    """
    if match == "scale":
        return 1.0
    if match == "iqr":
        return NORMAL_IQR / (2.0 * float(stats.t.ppf(0.75, df)))
    if df <= 2:
        raise OptionError(
            f"prior.df = {df:g}: a Student-t has no variance for df <= 2; set prior.match to 'iqr' "
            "(or 'scale'), or df above 2"
        )
    return math.sqrt((df - 2.0) / df)
