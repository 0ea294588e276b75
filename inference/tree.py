"""The DataTree of a run, in ArviZ's schema; ``docs/design.md`` lists the groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from bnnzoo import store
from bnnzoo.errors import InputError
from bnnzoo.inference.chains import Chains
from bnnzoo.inference.draws import Draws, FlatDraws, TreeDraws
from bnnzoo.inference.evaluation import (
    ConstrainedDraws,
    constrain_draws,
    pointwise_log_likelihood,
    total_log_likelihood,
)
from bnnzoo.inference.linearised import GROUP, mode_group, read_values, read_vectors
from bnnzoo.inference.prediction import Prediction
from bnnzoo.inference.virial import virial_ratios
from bnnzoo.models.layout import tree_name
from bnnzoo.models.posterior import Posterior

MOST_CHAINS = 64
"""Beyond so many, scores of single chains are not kept: they would outgrow all other groups."""

DIAGNOSTIC_POINTS = 20
"""Most rows at which convergence of the function is judged."""

PREDICTIVE_DRAWS = 200
"""Most target draws kept a row, over all chains: enough for a predictive check, small on disk."""

LIKELIHOOD_BYTES = 256_000_000
"""Most memory the pointwise log-likelihood may take before draws are thinned."""

STREAMED = ("posterior", "unconstrained_posterior")
"""Groups whose variables are too large for memory."""

_KINDS = {"diverging": np.bool_, "n_steps": np.int64}
"""Statistics that are not real numbers."""


def build_tree(
    posterior: Posterior,
    chains: Chains,
    seed: int,
    dtype: str,
    points: np.ndarray | None = None,
    spread: Posterior | None = None,
) -> xr.DataTree:
    """Everything a run keeps but the draws of its sites, which :func:`site_draws` gives.

    Args:
        posterior: bound to its data.
        chains: draws and statistics from the loop.
        seed: of predictive draws.
        dtype: precision of the run.
        points: where each chain's network is linearised ``(chain, dim)``, if it is.
        spread: the posterior whose rows lie on several devices, if they do: it takes the sums over
            them.
    """
    data = posterior.data
    assert data is not None
    target, (posterior, u) = posterior, read_vectors(posterior, chains.u, points)
    summing = posterior if spread is None else spread
    values = constrain_draws(posterior, u)
    numbers = {d: np.arange(n) for d, n in zip(("chain", "draw"), values.shape, strict=True)}
    temperatures = {
        "posterior_temperature": posterior.posterior_temperature,
        "likelihood_temperature": posterior.likelihood_temperature,
    }
    groups = {
        "posterior": xr.Dataset(coords=numbers, attrs=temperatures),
        "sample_stats": _statistics(chains.stats | {"virial": virial_ratios(summing, u)}, "draw"),
        "warmup_sample_stats": _statistics(chains.warmup_stats, "draw"),
        "observed_data": xr.Dataset({"y": _rows(data.y, "row", "output")}),
        "constant_data": xr.Dataset({"x": _rows(data.x, "row")}),
    }
    if not all(site.free for site in posterior.sites):
        groups["unconstrained_posterior"] = xr.Dataset(coords=numbers)
    if points is not None:
        groups[GROUP] = mode_group(target, points)
    likelihood = _log_likelihood(summing, u)
    groups["function_draws"] = _function_draws(
        posterior, summing, values, u, likelihood, seed, dtype
    )
    if likelihood is not None:
        groups["log_likelihood"] = likelihood
    groups["posterior_predictive"] = _target_draws(
        posterior, values, data.x, "row", seed + 1, dtype
    )
    if data.x_test is not None and data.y_test is not None:
        groups["predictions"] = _target_draws(
            posterior, values, data.x_test, "test_row", seed + 2, dtype
        )
        groups["predictions_constant_data"] = xr.Dataset(
            {
                "x": _rows(data.x_test, "test_row"),
                "y": _rows(data.y_test, "test_row", "output"),
            }
        )
        groups["test_scores"] = _test_scores(posterior, values, seed + 3, dtype)
    tree = xr.DataTree.from_dict({name: group for name, group in groups.items() if group.variables})
    tree.attrs |= temperatures
    return tree


def site_draws(posterior: Posterior, u: Draws) -> store.Stream:
    """The tree's ``posterior`` group, and what it does not hold of the draws bit for bit.

    Args:
        posterior: the target.
        u: unconstrained draws.
    """
    shapes = {f"posterior/{tree_name(s.name)}": s.shape for s in posterior.sites}
    shapes |= {f"posterior/{tree_name(i.path)}": i.shape for i in posterior.derived}
    bound = [s for s in posterior.sites if not s.free]
    shapes |= {f"unconstrained_posterior/{tree_name(s.name)}": s.free_shape for s in bound}
    values = ConstrainedDraws(posterior, u)

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, u.count, values.piece):
            raw = u.read(start, min(start + values.piece, u.count))
            made = {f"posterior/{tree_name(k)}": v for k, v in values.constrain(raw).items()}
            for site in bound:
                own = raw[:, site.offset : site.offset + site.size]
                name = f"unconstrained_posterior/{tree_name(site.name)}"
                made[name] = own.reshape(-1, *site.free_shape)
            yield made

    return store.Stream(u.shape, shapes, posterior.x.dtype, blocks())


def tree_draws(tree: xr.DataTree, posterior: Posterior) -> Draws:
    """Constrained draws, by site, of a run's tree.

    Args:
        tree: of a run of this very posterior.
        posterior: the target.
    """
    group = tree["posterior"].to_dataset()
    return TreeDraws({s.name: group[tree_name(s.name)].variable for s in posterior.sites})


def unconstrained_draws(tree: xr.DataTree, posterior: Posterior) -> Draws:
    """Flat unconstrained draws of a run's tree: what its sampler gave, bit for bit.

    Args:
        tree: of a run of this very posterior.
        posterior: the target.
    """
    variables = {}
    for site in posterior.sites:
        group = tree["posterior" if site.free else "unconstrained_posterior"]
        variables[site.name] = group[tree_name(site.name)].variable
    return FlatDraws(TreeDraws(variables), tuple(variables))


def _statistics(stats: Mapping[str, np.ndarray], dimension: str) -> xr.Dataset:
    variables = {}
    for name, array in stats.items():
        # NaN marks the end of a chain that was stopped; no whole number or truth value can.
        kind: Any = _KINDS.get(name, array.dtype) if np.isfinite(array).all() else array.dtype
        if array.shape[1]:
            variables[name] = xr.DataArray(array.astype(kind), dims=("chain", dimension))
    return xr.Dataset(variables)


def _rows(array: np.ndarray, row: str, axis: str = "feature") -> xr.DataArray:
    """Rows with one more axis for features or outputs; images are flattened."""
    if array.ndim == 1:
        return xr.DataArray(array, dims=(row,))
    return xr.DataArray(array.reshape(len(array), -1), dims=(row, axis))


def _log_likelihood(posterior: Posterior, u: Draws) -> xr.Dataset | None:
    """Pointwise terms, thinned where they would not fit; None for a model without terms a row."""
    chains, draws = u.shape
    step = max(1, -(-chains * draws * posterior.rows * 4 // LIKELIHOOD_BYTES))
    try:
        terms = pointwise_log_likelihood(posterior, u.select(step=step))
    except InputError:
        return None
    array = xr.DataArray(terms, dims=("chain", "draw", "row"))
    made = xr.Dataset({"y": array}, attrs={"thinned_by": step, "units": "original, untempered"})
    return made.assign_coords(chain=np.arange(chains), draw=np.arange(draws)[::step])


def _target_draws(
    posterior: Posterior,
    values: Draws,
    x: np.ndarray,
    row: str,
    seed: int,
    dtype: str,
) -> xr.Dataset:
    chains, draws = values.shape
    step = max(1, -(-chains * draws // PREDICTIVE_DRAWS))
    y = Prediction(posterior, values.select(step=step), x, seed, dtype).draws
    y = (
        y.astype(np.int64)
        if posterior.data is not None and posterior.data.task == "classification"
        else y
    )
    dims = ("chain", "draw", row, "output")[: y.ndim]
    made = xr.Dataset({"y": xr.DataArray(y, dims=dims)}, attrs={"thinned_by": step})
    return made.assign_coords(chain=np.arange(chains), draw=np.arange(draws)[::step])


def score_again(
    tree: xr.DataTree, posterior: Posterior, values: Draws, seed: int, dtype: str
) -> None:
    """Replace a tree's test scores, where it has them, by those of other draws.

    Args:
        tree: changed in place.
        posterior: bound to its data.
        values: constrained draws by site.
        seed: of predictive draws.
        dtype: precision of the run.
    """
    if "test_scores" in tree.children:
        posterior, values = read_values(posterior, values, tree)
        scores = _test_scores(posterior, values, seed + 3, dtype)
        tree["test_scores"] = xr.DataTree(scores)


def _test_scores(posterior: Posterior, values: Draws, seed: int, dtype: str) -> xr.Dataset:
    data = posterior.data
    assert data is not None and data.x_test is not None and data.y_test is not None
    prediction = Prediction(posterior, values, data.x_test, seed, dtype)
    made = {"log_density": xr.DataArray(prediction.log_prob(data.y_test), dims="test_row")}
    if 1 < values.shape[0] <= MOST_CHAINS:
        by_chain = prediction.chain_log_prob(data.y_test)
        made["chain_log_density"] = xr.DataArray(by_chain, dims=("chain", "test_row"))
    if data.task == "classification":
        made["probabilities"] = xr.DataArray(prediction.probabilities, dims=("test_row", "class"))
        return xr.Dataset(made)
    dims = ("test_row", "output")[: prediction.mean.ndim]
    made["mean"] = xr.DataArray(prediction.mean, dims=dims)
    made["std"] = xr.DataArray(prediction.std, dims=dims)
    made["crps"] = xr.DataArray(prediction.crps(data.y_test), dims="test_row")
    pit = prediction.pit(data.y_test)
    if pit is not None:
        made["pit"] = xr.DataArray(pit, dims="test_row")
    return xr.Dataset(made)


def _function_draws(
    posterior: Posterior,
    summing: Posterior,
    values: Draws,
    u: Draws,
    likelihood: xr.Dataset | None,
    seed: int,
    dtype: str,
) -> xr.Dataset:
    """Function values and total log-likelihood of every draw: what convergence is judged on."""
    data = posterior.data
    assert data is not None
    x = data.x if data.x_test is None else data.x_test
    if data.x_test is None or len(x) > DIAGNOSTIC_POINTS:
        try:
            posterior.check_rows_are_free()
            x = x[np.linspace(0, len(x) - 1, min(len(x), DIAGNOSTIC_POINTS)).astype(int)]
        except InputError:
            x = data.x  # Latent sites a row: the function exists at all training rows or at none.
    prediction = Prediction(posterior, values, x, seed, dtype)
    if data.task == "classification":
        # Not the network's outputs: logits are free to move together, an ordinal score with its
        # cuts. The floor keeps a probability that is rounded to 0 from being minus infinity.
        f = np.log(np.maximum(prediction.probability_draws, np.finfo(np.float32).tiny))
    else:
        f = prediction.f
    if likelihood is not None and likelihood.sizes["draw"] == u.shape[1]:
        total = likelihood["y"].sum("row").to_numpy()
    else:
        total = total_log_likelihood(summing, u)
    made = xr.Dataset(
        {
            "f": xr.DataArray(f, dims=("chain", "draw", "point", "output")),
            "log_likelihood": xr.DataArray(total, dims=("chain", "draw")),
        }
    )
    return made.assign_coords(chain=np.arange(f.shape[0]), draw=np.arange(f.shape[1]))
