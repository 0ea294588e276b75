"""``bnnzoo.match_prior``: from a model and a process to the model with a functional prior."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from bnnzoo import registry
from bnnzoo.errors import InputError, OptionError, hint
from bnnzoo.inference import matching
from bnnzoo.inference.fitted_prior import save_model, with_prior
from bnnzoo.models.handwritten import HandwrittenModel, as_model
from bnnzoo.models.model import Model
from bnnzoo.models.priors.gp_matched import Variant
from bnnzoo.models.process import Process
from bnnzoo.specs import Component

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset

STEPS = {"moments": 300, "wasserstein": 200}
DRAWS = {"moments": 512, "wasserstein": 128}
RATES = {"moments": 0.1, "wasserstein": 0.05}
TRAINING_SHARE = {"mixed": 0.7, "training": 1.0, "box": 0.0}
CHECK_DRAWS = 4096
SHOWN = 20
LINE_POINTS, LINE_ROWS = 80, 2000
REACHED = 1.25
"""A standard deviation of functions further than this factor from the process's is said."""


@dataclass(frozen=True)
class MatchedPrior:
    """A functional prior and how it was found.

    Attributes:
        model: the model with the prior ``gp-matched``; bind or fit it as any other.
        widths: width of every parameter by path.
        shapes: of inverse-gamma variances by path (gpi-h).
        objective: the estimated distance at every step ``(step,)``.
        position: along the direction in which training inputs vary most ``(point,)``, modelled
            units: where the functions that follow are shown.
        target: functions of the process there ``(draw, point)``.
        before: first outputs of the network with widths of 1 ``(draw, point)``.
        after: of the matched network ``(draw, point)``.
        error_before: Frobenius norm of E[f f'] - K over that of K with widths of 1, at measurement
            points.
        error_after: the same of the matched network.
        scale_ratio: standard deviation of the matched functions over the process's.
        seconds: the search alone, with compilation.
        warnings: what could not be reached, in words.
    """

    model: Model
    widths: dict[str, float]
    shapes: dict[str, float]
    objective: np.ndarray
    position: np.ndarray
    target: np.ndarray
    before: np.ndarray
    after: np.ndarray
    error_before: float
    error_after: float
    scale_ratio: float
    seconds: float
    warnings: tuple[str, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as a TOML file: for ``fit_spec``, ``--config``, or another model's prior.

        Args:
            path: of the file.
        """
        save_model(self.model, path)


def match_prior(
    model: Any,
    data: Dataset,
    process: str = "rbf",
    *,
    variant: str = "gpi-g",
    method: str | None = None,
    measure: str = "mixed",
    points: np.ndarray | None = None,
    count: int = 100,
    steps: int | None = None,
    draws: int | None = None,
    learning_rate: float | None = None,
    critic_steps: int = 200,
    seed: int = 0,
    process_options: Mapping[str, Any] | None = None,
) -> MatchedPrior:
    """Tune the widths of a prior until the network draws the functions of a Gaussian process.

    Args:
        model: a zoo model; its own prior is replaced.
        data: training inputs, and the units in which the process is meant: standardised.
        process: a registered process.
        variant: ``gpi-g``, Gaussian weights of a width for every parameter array, or ``gpi-h``,
            with an inverse-gamma variance for each.
        method: ``moments`` (gpi-g; the default for it) or ``wasserstein`` (the default for gpi-h).
        measure: where functions are compared: 70 % training inputs and 30 % uniform in their box
            (``mixed``), or either alone.
        points: inputs ``(row, *in_shape)`` to choose from in place of the training inputs, original
            units.
        count: measurement points a step.
        steps: of the search; 300 by moments, 200 by wasserstein if not given.
        draws: functions of a step; 512 a half by moments, 128 by wasserstein if not given.
        learning_rate: of the log widths; 0.1 by moments, 0.05 by wasserstein if not given.
        critic_steps: of the critic, each step of the widths (wasserstein).
        seed: of everything random.
        process_options: lengthscale, variance, hyper-priors; ``bnnzoo.describe`` has them all.

    Returns:
        The model with its new prior, the distance at every step, and functions before and after.

    Raises:
        InputError: a hand-written model, points that do not fit the data or lie outside the box
            that was asked for, or a distance that became not a number.
        OptionError: an option out of range, or moments for a variant they do not determine.

    Source: Tran et al. (2022), sec. 4 and algorithm 1, for ``wasserstein``.
    """
    _choice("variant", variant, get_args(Variant))
    _choice("measure", measure, tuple(TRAINING_SHARE))
    method = _method(variant, method)
    counts = {
        "count": count,
        "critic_steps": critic_steps,
        "steps": STEPS[method] if steps is None else steps,
        "draws": DRAWS[method] if draws is None else draws,
    }
    first_rate = RATES[method] if learning_rate is None else learning_rate
    if not first_rate > 0:
        raise OptionError(f"learning_rate = {first_rate}: a number above 0 is needed")
    for name, value in counts.items():
        if value < 2:
            raise OptionError(f"{name} = {value}: a whole number above 1 is needed")
    bound = as_model(model)
    if isinstance(bound, HandwrittenModel):
        raise InputError(
            f"match_prior: {bound.label!r} is a hand-written model, whose priors cannot be "
            "replaced; a zoo model is needed (bnnzoo.make_model)"
        )
    target: Process = registry.get("processes", process).build(process_options or {})
    network = bound.bind(data).bound
    assert network is not None
    scaling = data.scaling_for(handwritten=False)
    pool = data.x if points is None else _fitting(np.asarray(points, float), data, measure)
    inside = round(TRAINING_SHARE[measure] * count)
    inside = min(inside, len(pool))
    x = jnp.asarray(scaling.transform_x(pool), jnp.result_type(float))
    low, high = (jnp.asarray(e, x.dtype) for e in _box(scaling.transform_x(data.x)))
    where = matching.Points(x, low, high, inside, count - inside if measure != "training" else 0)
    target.hyper(int(np.prod(x.shape[1:])))  # lengthscales of another number of inputs: here
    key = jax.random.key(seed)
    for_search, for_check = jax.random.split(key)
    begun = time.perf_counter()
    begin = matching.start(network, variant)
    rate = jnp.asarray(first_rate, x.dtype)
    fixed = (network, target, where, begin, for_search, counts["steps"], counts["draws"], rate)
    if method == "moments":
        found = matching.match_moments(*fixed)
    else:
        found = matching.match_wasserstein(*fixed, critic_steps)
    widths, objective = jax.device_get(found)
    seconds = time.perf_counter() - begun
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(widths)):
        raise InputError(
            "match_prior: the distance became not a number; lower learning_rate "
            f"(now {float(rate):g}), or look at the scale of the data"
        )
    made = _model(bound, widths, variant, target, process, data, method)
    return _checked(
        made, network, target, where, begin, found.widths, for_check, objective, seconds
    )


def _choice(name: str, given: str, choices: Sequence[str]) -> None:
    if given not in choices:
        raise OptionError(f"{name} = {given!r}{hint(given, choices)}")


def _method(variant: str, method: str | None) -> str:
    if method is None:
        return "moments" if variant == "gpi-g" else "wasserstein"
    _choice("method", method, tuple(STEPS))
    if method == "moments" and variant == "gpi-h":
        raise OptionError(
            "method = 'moments' says nothing of the tails that gpi-h learns: use method = "
            "'wasserstein', or variant = 'gpi-g'"
        )
    return method


def _fitting(points: np.ndarray, data: Dataset, measure: str) -> np.ndarray:
    if points.shape[1:] != data.x.shape[1:]:
        features = ", ".join(map(str, data.x.shape[1:]))
        raise InputError(f"points have shape {points.shape}, where (row, {features}) is needed")
    if not np.isfinite(points).all():
        raise InputError("points hold a value that is not a finite number")
    low, high = _box(data.x)
    outside = ((points < low) | (points > high)).reshape(len(points), -1).any(1)
    if measure == "box" and outside.any():
        raise InputError(
            f"points: row {int(np.argmax(outside))} lies outside the box of the training inputs, "
            "which measure = 'box' asks for; leave measure out, or the row"
        )
    return points


def _line(where: matching.Points) -> tuple[np.ndarray, jax.Array]:
    """Places along the first principal direction of the inputs, and the inputs there."""
    x = np.asarray(where.training, float).reshape(len(where.training), -1)
    centre = x.mean(0)
    direction = np.linalg.svd(x[:LINE_ROWS] - centre, full_matrices=False)[2][0]
    along = (x - centre) @ direction
    position = np.linspace(along.min(), along.max(), LINE_POINTS)
    line = centre + position[:, None] * direction
    shape = (LINE_POINTS, *where.training.shape[1:])
    return position, jnp.asarray(line.reshape(shape), where.training.dtype)


def _box(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.min(axis=0), x.max(axis=0)


def _model(
    model: Model,
    widths: matching.Widths,
    variant: str,
    process: Process,
    name: str,
    data: Dataset,
    method: str,
) -> Model:
    """The model with the prior found, and a spec that says so."""
    hyper = process.hyper(int(np.prod(data.x.shape[1:])))
    said = process.options.model_dump(exclude={"length_scale", "variance"})
    scales = sorted({f"{value:.3g}" for value in np.asarray(hyper.length_scale)})
    said = {"length_scale": "/".join(scales), "variance": f"{float(hyper.variance):.3g}", **said}
    words = ", ".join(f"{k} {v}" for k, v in said.items())
    options: dict[str, Any] = {
        "variant": variant,
        "widths": {p: float(np.exp(v)) for p, v in widths.log_width.items()},
        "matched_to": f"{name} ({words}) on the inputs of {data.name}, by {method}",
    }
    if widths.shape:
        shapes = {p: float(matching.shape_of(jnp.asarray(v))) for p, v in widths.shape.items()}
        options["shapes"] = shapes
    return with_prior(model, Component(name="gp-matched", options=options))


def _checked(
    model: Model,
    network: Any,
    process: Process,
    where: matching.Points,
    begin: matching.Widths,
    widths: matching.Widths,
    key: jax.Array,
    objective: np.ndarray,
    seconds: float,
) -> MatchedPrior:
    """Functions before and after, and how far their second moments are off."""
    keys = jax.random.split(key, 5)
    x = where(keys[0])
    target = np.asarray(process.second_moment(keys[1], x.reshape(x.shape[0], -1)))
    position, line = _line(where)
    theirs = matching.draw_process(process, keys[2], line, SHOWN, 1)
    drawn = {}
    for name, at, own in (("before", begin, keys[3]), ("after", widths, keys[4])):
        f = np.asarray(matching.draw_functions(network, at, own, x, CHECK_DRAWS), float)
        moments = np.einsum("dro,dso->rs", f, f) / (f.shape[0] * f.shape[2])
        error = float(np.linalg.norm(moments - target) / np.linalg.norm(target))
        shown = np.asarray(matching.draw_functions(network, at, own, line, SHOWN))[..., 0]
        drawn[name] = shown, error, float(np.sqrt(np.diag(moments).mean()))
    ratio = drawn["after"][2] / float(np.sqrt(np.diag(target).mean()))
    warnings: tuple[str, ...] = ()
    if not 1.0 / REACHED < ratio < REACHED:
        warnings = (
            f"the network does not reach the scale of the process: its functions have {ratio:.2f} "
            "times the standard deviation",
        )
    options = model.spec.prior.options if model.spec is not None else {}
    return MatchedPrior(
        model=model,
        widths=dict(options["widths"]),
        shapes=dict(options.get("shapes", {})),
        objective=np.asarray(objective),
        position=position,
        target=np.asarray(theirs),
        before=drawn["before"][0],
        after=drawn["after"][0],
        error_before=drawn["before"][1],
        error_after=drawn["after"][1],
        scale_ratio=ratio,
        seconds=seconds,
        warnings=warnings,
    )
