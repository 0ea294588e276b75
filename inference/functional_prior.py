"""``bnnzoo.match_prior``: from a model and a process to the model with a functional prior."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from bnnzoo import registry
from bnnzoo.errors import InputError, OptionError, hint
from bnnzoo.inference import matching
from bnnzoo.inference.fitted_prior import save_model, with_prior
from bnnzoo.inference.fitted_process import FittedProcess, fit_process
from bnnzoo.models.arguments import check_data
from bnnzoo.models.handwritten import HandwrittenModel, as_model
from bnnzoo.models.likelihoods.gaussian import Gaussian
from bnnzoo.models.model import Model
from bnnzoo.models.network import BoundNetwork
from bnnzoo.models.noise import AdditiveNoise
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.planar import Flow
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
FLOW_STEPS = 4
MOST_NUMBERS = 1_000_000
"""Of all flows together: they are written out in the model's file and in every run's."""
REACHED = 1.25
"""A standard deviation of functions further than this factor from the process's is said."""


@dataclass(frozen=True)
class MatchedPrior:
    """A functional prior and how it was found.

    Attributes:
        model: the model with the prior ``gp-matched``; bind or fit it as any other.
        widths: width of every parameter by path.
        shapes: of inverse-gamma variances by path (gpi-h).
        flows: planar steps u, w and b by path (gpi-nf).
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
        fitted: the process, its noise and evidence, where it was fitted to the training targets.
    """

    model: Model
    widths: dict[str, float]
    shapes: dict[str, float]
    flows: dict[str, dict[str, Any]]
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
    fitted: FittedProcess | None = None

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
    flow_steps: int | None = None,
    seed: int = 0,
    process_options: Mapping[str, Any] | None = None,
) -> MatchedPrior:
    """Tune the widths of a prior until the network draws the functions of a Gaussian process.

    Args:
        model: a zoo model; its own prior is replaced.
        data: training inputs, and the units in which the process is meant: standardised.
        process: a registered process.
        variant: ``gpi-g``, Gaussian weights of a width for every parameter array; ``gpi-h``, with
            an inverse-gamma variance for each; ``gpi-nf``, with a normalising flow for each.
        method: ``moments`` (not gpi-h; the default for gpi-g) or ``wasserstein`` (the default for
            gpi-h and gpi-nf).
        measure: where functions are compared: 70 % training inputs and 30 % uniform in their box
            (``mixed``), or either alone.
        points: inputs ``(row, *in_shape)`` to choose from in place of the training inputs, original
            units.
        count: measurement points a step.
        steps: of the search; 300 by moments, 200 by wasserstein if not given.
        draws: functions of a step; 512 a half by moments, 128 by wasserstein if not given.
        learning_rate: of the log widths; 0.1 by moments, 0.05 by wasserstein if not given.
        critic_steps: of the critic, each step of the widths (wasserstein).
        flow_steps: planar steps of every parameter array's flow (gpi-nf); 4 if not given.
        seed: of everything random.
        process_options: lengthscales, variance, and ``hyper``: fixed ones, random ones, or ones
            fitted to the training targets; ``bnnzoo.describe`` has them all.

    Returns:
        The model with its new prior, the distance at every step, and functions before and after.

    Raises:
        InputError: a hand-written model, points that do not fit the data or lie outside the box
            that was asked for, targets to which no process can be fitted, or a distance that
            became not a number.
        OptionError: an option out of range, or moments for a variant they do not determine.

    Source: Tran et al. (2022), sec. 4 and algorithm 1, for ``wasserstein``.
    """
    check_data(data, model)
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
    if flow_steps is not None and variant != "gpi-nf":
        raise OptionError(f"flow_steps has no effect with variant = {variant!r}; only with gpi-nf")
    if flow_steps is not None and flow_steps < 1:
        raise OptionError(f"flow_steps = {flow_steps}: a whole number above 0 is needed")
    steps_of_flow = FLOW_STEPS if flow_steps is None else flow_steps
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
    fitted = None
    if target.options.hyper == "fitted":
        fitted = _fitted(target, bound, data)
        target = fitted.process
    pool = data.x if points is None else _fitting(np.asarray(points, float), data, measure)
    inside = round(TRAINING_SHARE[measure] * count)
    inside = min(inside, len(pool))
    x = jnp.asarray(scaling.transform_x(pool), jnp.result_type(float))
    low, high = (jnp.asarray(e, x.dtype) for e in _box(scaling.transform_x(data.x)))
    where = matching.Points(x, low, high, inside, count - inside if measure != "training" else 0)
    target.hyper(int(np.prod(x.shape[1:])))  # lengthscales of another number of inputs: here
    if variant == "gpi-nf":
        _check_size(network.infos, steps_of_flow)
    key = jax.random.key(seed)
    for_search, for_check = jax.random.split(key)
    begun = time.perf_counter()
    begin = matching.start(network, variant, steps_of_flow, jax.random.fold_in(key, 2))
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
    made = _model(bound, widths, variant, target, process, data, method, fitted is not None)
    checked = _checked(
        made, network, target, where, begin, found.widths, for_check, objective, seconds
    )
    return replace(checked, fitted=fitted)


def _fitted(target: Process, model: Model, data: Dataset) -> FittedProcess:
    """The process fitted to the training rows, in the units that the model sees."""
    likelihood = model.likelihood
    if not isinstance(likelihood, AdditiveNoise):
        raise InputError(
            f"process.hyper = 'fitted': targets of likelihood {likelihood.label!r} are no function "
            "with additive noise, so their evidence is not exact; choose 'fixed' or 'log-normal'"
        )
    scaling = data.scaling_for(handwritten=False)
    x = scaling.transform_x(data.x).reshape(len(data.x), -1)
    known = isinstance(likelihood, Gaussian) and likelihood.noise == "fixed"
    noise = float(likelihood.number) if known else None
    return fit_process(target, x, scaling.transform_y(data.y), noise)


def _choice(name: str, given: str, choices: Sequence[str]) -> None:
    if given not in choices:
        raise OptionError(f"{name} = {given!r}{hint(given, choices)}")


def _check_size(infos: Sequence[ParameterInfo], flow_steps: int) -> None:
    numbers = 2 * flow_steps * sum(math.prod(i.shape) for i in infos)
    if numbers > MOST_NUMBERS:
        raise InputError(
            f"variant = 'gpi-nf' with flow_steps = {flow_steps} has {numbers:,} numbers for this "
            f"network, more than the {MOST_NUMBERS:,} that a model's file holds: choose fewer "
            "steps, a smaller network, or variant = 'gpi-g'"
        )


def _method(variant: str, method: str | None) -> str:
    if method is None:
        return "moments" if variant == "gpi-g" else "wasserstein"
    _choice("method", method, tuple(STEPS))
    if method == "moments" and variant == "gpi-h":
        raise OptionError(
            "method = 'moments' says nothing of the tails that gpi-h learns: use method = "
            "'wasserstein', or variant = 'gpi-g' or 'gpi-nf'"
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
    fitted: bool,
) -> Model:
    """The model with the prior found, and a spec that says so."""
    hyper = process.hyper(int(np.prod(data.x.shape[1:])))
    said = process.options.model_dump(exclude={"length_scale", "variance"})
    scales = [f"{value:.3g}" for value in np.asarray(hyper.length_scale)]
    scales = scales if fitted else sorted(set(scales))
    said = {"length_scale": "/".join(scales), "variance": f"{float(hyper.variance):.3g}", **said}
    said |= {"hyper": "fitted"} if fitted else {}
    words = ", ".join(f"{k} {v}" for k, v in said.items())
    rows = "inputs and targets" if fitted else "inputs"
    options: dict[str, Any] = {
        "variant": variant,
        "widths": {p: float(np.exp(v)) for p, v in widths.log_width.items()},
        "matched_to": f"{name} ({words}) on the {rows} of {data.name}, by {method}",
    }
    if fitted:
        options["fitted_to_targets"] = True
    if widths.shape:
        shapes = {p: float(matching.shape_of(jnp.asarray(v))) for p, v in widths.shape.items()}
        options["shapes"] = shapes
    if widths.flow is not None:
        options["flows"] = {p: _written(matching.flow_of(raw)) for p, raw in widths.flow.items()}
    return with_prior(model, Component(name="gp-matched", options=options))


def _written(flow: Flow) -> dict[str, Any]:
    """A flow as plain numbers, of the nine digits that give a float32 back."""

    def digits(values: Any) -> Any:
        return [digits(v) for v in values] if np.ndim(values) else float(f"{values:.9g}")

    return {name: digits(np.asarray(part)) for name, part in flow._asdict().items()}


@functools.partial(jax.jit, static_argnames=("network", "process"))
def _drawn(
    network: BoundNetwork,
    process: Process,
    x: jax.Array,
    line: jax.Array,
    widths: tuple[matching.Widths, ...],
    keys: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Second moments at ``x`` and functions on a line of the process; functions at both of each."""
    target = process.second_moment(keys[0], x.reshape(x.shape[0], -1))
    theirs = matching.draw_process(process, keys[1], line, SHOWN, 1)
    points = jnp.concatenate([x, line])

    def functions(at: matching.Widths, own: jax.Array) -> jax.Array:
        return matching.draw_functions(network, at, own, points, CHECK_DRAWS)

    every = jax.tree.map(lambda *leaves: jnp.stack(leaves), *widths)
    return target, theirs, jax.vmap(functions)(every, keys[2:])


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
    position, line = _line(where)
    target, theirs, made = jax.device_get(
        _drawn(network, process, x, line, (begin, widths), keys[1:])
    )
    drawn = {}
    for name, functions in zip(("before", "after"), made, strict=True):
        f, shown = functions[:, : len(x)].astype(float), functions[:SHOWN, len(x) :]
        moments = np.einsum("dro,dso->rs", f, f) / (f.shape[0] * f.shape[2])
        error = float(np.linalg.norm(moments - target) / np.linalg.norm(target))
        drawn[name] = shown[..., 0], error, float(np.sqrt(np.diag(moments).mean()))
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
        flows=dict(options.get("flows", {})),
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
