"""The linearised predictive of a Laplace run in closed form, without draws.

f(x) ~ N(f(x; c) + J (m - c), J H^-1 J') with c the mode, m the mean of the draws (another one after
a refit) and H the precision, all of which a finished run keeps as the end of its chains.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import logsumexp

from bnnzoo import registry, store
from bnnzoo.errors import InputError, RunError
from bnnzoo.inference import spectra
from bnnzoo.inference.curvature import block_rows
from bnnzoo.inference.laplace_structures import coordinates
from bnnzoo.inference.precision import precision
from bnnzoo.inference.run import Run
from bnnzoo.models.model import Model
from bnnzoo.models.posterior import Posterior


class FunctionMoments(NamedTuple):
    """Mean and covariance of f at some rows, a Gaussian a chain.

    Attributes:
        mean: ``(chain, row, output)``: original units; logits for classes.
        covariance: ``(chain, row, output, output)``, squared units.
    """

    mean: np.ndarray
    covariance: np.ndarray


def function_moments(run: Run, x: Any) -> FunctionMoments:
    """Mean and covariance of the linearised network's function values.

    Args:
        run: a finished run of ``laplace``.
        x: rows ``(row, *in_shape)``, original units.

    Raises:
        InputError: another backend's run, or one of the network itself (``sampled``).
        RunError: a run whose chains' ends were not kept.
    """
    inference = run.spec.inference
    if inference.backend != "laplace" or inference.options.get("predictive") == "sampled":
        raise InputError(
            f"{run.label}: closed-form predictions are those of backend 'laplace' with "
            "predictive = 'linearised'; others have run.predict"
        )
    found = store.load_ends(run.path)
    if found is None:
        raise RunError(f"{run.path} was kept without the ends of its chains; use run.predict")
    arrays, meta = found
    posterior = run.posterior
    assert posterior.data is not None
    backend = registry.get("backends", "laplace").build(inference.options, "inference")
    rows = posterior.scaling.transform_x(posterior.data.check_inputs(x))
    with precision(inference.dtype):
        like = jax.ShapeDtypeStruct((posterior.dimension,), posterior.x.dtype)
        tree = jax.tree.structure(jax.eval_shape(backend.init, posterior, like))
        where, _ = coordinates(posterior, backend.flavour)
        outputs = jax.eval_shape(_function, posterior, like, jnp.asarray(rows[:1])).shape[1]
        size = block_rows(posterior, outputs * len(where), backend.flavour.memory_bytes)
        means, covariances = [], []
        for chain in range(inference.chains):
            leaves = [jnp.asarray(arrays[f"state/{chain}/{i}"]) for i in range(meta["leaves"])]
            state = jax.tree.unflatten(tree, leaves)
            blocks = [
                _moments(posterior, state, jnp.asarray(rows[i : i + size]), jnp.asarray(where))
                for i in range(0, len(rows), size)
            ]
            means.append(np.concatenate([np.asarray(m) for m, _ in blocks]))
            covariances.append(np.concatenate([np.asarray(c) for _, c in blocks]))
    scaling = posterior.scaling
    std = np.broadcast_to(scaling.y_std, outputs)
    return FunctionMoments(
        scaling.inverse_y(np.stack(means)), np.stack(covariances) * std[:, None] * std
    )


def probit_probabilities(run: Run, x: Any) -> np.ndarray:
    """Class probabilities ``(row, class)`` by MacKay's probit correction, averaged over chains.

    Of two classes sigmoid(m / sqrt(1 + pi v / 8)) with m and v of their logits' difference (MacKay
    1992, The Evidence Framework Applied to Classification Networks, eq. 10); of several
    p_c = 1 / (1 + sum_d exp(-m_cd / sqrt(1 + pi v_cd / 8))) over pairs, normalised (Lu, Ie & Sha
    2020, Mean-Field Approximation to Gaussian-Softmax Integral, the pairwise form).

    Args:
        run: a finished run of ``laplace`` with likelihood ``categorical`` or ``bernoulli``.
        x: rows ``(row, *in_shape)``, original units.

    Raises:
        InputError: as :func:`function_moments`, or another likelihood.
        RunError: as :func:`function_moments`.
    """
    name = run.spec.likelihood.name if run.spec.model.name is None else None
    model = run.posterior.model
    assert isinstance(model, Model)
    label = name or model.likelihood.label
    if label not in ("categorical", "bernoulli"):
        raise InputError(
            f"likelihood {label!r} has no logits to correct; choices: 'categorical', 'bernoulli'"
        )
    mean, covariance = function_moments(run, x)
    if label == "bernoulli":  # the first class' logit is 0
        mean = np.concatenate([np.zeros_like(mean), mean], axis=-1)
        covariance = np.pad(covariance, [(0, 0), (0, 0), (1, 0), (1, 0)])
    variance = np.einsum("krcc->krc", covariance)
    between = variance[..., :, None] + variance[..., None, :] - 2.0 * covariance
    difference = mean[..., :, None] - mean[..., None, :]
    corrected = difference / np.sqrt(1.0 + np.pi / 8.0 * np.maximum(between, 0.0))
    share = np.exp(-logsumexp(-corrected, axis=-1))
    return (share / share.sum(-1, keepdims=True)).mean(0)


def _function(posterior: Posterior, u: Array, x: Array) -> Array:
    return posterior.predictive(posterior.constrain(u), x).f


@jax.jit
def _moments(posterior: Posterior, state: Any, x: Array, where: Array) -> tuple[Array, Array]:
    centre = state.mode[where]

    def of(w: Array, row: Array) -> Array:
        return _function(posterior, state.mode.at[where].set(w), row[None])[0]

    J = jax.vmap(jax.jacrev(of), (None, 0))(centre, x)
    mean = jax.vmap(of, (None, 0))(centre, x) + J @ (state.mean[where] - centre)
    spread = spectra.solve(state.found.network, J)
    return mean, jnp.einsum("rck,rdk->rcd", spread, J)
