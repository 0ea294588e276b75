"""Work 2: Laplace's evidence at the same weights, prior and noise, in three structures."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _bench import markdown, middle
from _environments import Peer
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier, MLPRegressor

import bnnzoo as bz
from bnnzoo.inference.precision import precision

TITLE = "Laplace's evidence"
OURS, THEIRS = "bnnzoo", "laplace-torch"
PROBLEMS = ("diabetes", "digits")
PEERS = tuple(
    Peer(f"{name}, {problem}", environment, worker, problem)
    for problem in PROBLEMS
    for name, environment, worker in (
        (OURS, None, "bnnzoo_laplace.py"),
        (THEIRS, "laplace", "torch_laplace.py"),
    )
)
WIDTHS = {"diabetes": 50, "digits": 10}
STRUCTURES = ("full", "kron", "diagonal")
DIGITS = 600
"""Rows of them."""
NOISE = 0.7
CLOSE = 1e-8
"""Relative distance of two equal evidences in float64."""


def asked(quick: bool) -> dict[str, Any]:
    """The job but for its seed."""
    return {
        "structures": STRUCTURES,
        "noise": NOISE,
        "repeats": 2 if quick else 3,
    }


@functools.cache
def rows() -> dict[str, np.ndarray]:
    """Rows of both problems, and weights that scikit-learn trained."""
    data = bz.load_dataset("diabetes")
    scaling = data.scaling_for(False)
    x, y = scaling.transform_x(data.x), scaling.transform_y(data.y)
    images, digits = load_digits(return_X_y=True)
    known = {
        "diabetes": (MLPRegressor, x, y),
        "digits": (MLPClassifier, images[:DIGITS] / 16.0, digits[:DIGITS]),
    }
    found = {}
    for name, (kind, x, y) in known.items():
        options = {"activation": "tanh", "alpha": 1.0, "max_iter": 200, "random_state": 0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # any weights will do, a mode or not
            net = kind(hidden_layer_sizes=[WIDTHS[name]], solver="lbfgs", **options).fit(x, y)
        (k0, k1), (b0, b1) = net.coefs_, net.intercepts_
        arrays = {"x": x, "y": y, "k0": k0, "b0": b0, "k1": k1, "b1": b1}
        found |= {f"{name}_{key}": value for key, value in arrays.items()}
    return found


def score(found: dict[str, Any], _: Any, __: Any) -> dict[str, Any]:
    """A worker's figures are all there is."""
    return found


@functools.cache
def dense(problem: str) -> dict[str, float]:
    """The same evidences by autodiff and dense matrices in float64; ``kron`` by either definition.

    ``kron`` takes a bias for one more input of its layer, as the layer's own Kronecker factors
    do; ``kron, biases apart`` leaves out the terms across kernels and biases.
    """
    own = {n.removeprefix(f"{problem}_"): v for n, v in rows().items() if n.startswith(problem)}
    x, y, names = own["x"], own["y"], ("k0", "b0", "k1", "b1")
    with precision("float64"):
        shapes = [own[n].shape for n in names]
        ends = np.cumsum([0, *(int(np.prod(s)) for s in shapes)])
        w = jnp.concatenate([jnp.ravel(jnp.asarray(own[n])) for n in names])

        def parts(w: Any) -> list[Any]:
            cut = zip(ends[:-1], ends[1:], shapes, strict=True)
            return [w[a:b].reshape(s) for a, b, s in cut]

        def head(w: Any, row: Any) -> Any:
            k0, b0, k1, b1 = parts(w)
            return jnp.tanh(row @ k0 + b0) @ k1 + b1

        if problem == "diabetes":

            def loss(h: Any, target: Any) -> Any:
                normal = jnp.log(NOISE * jnp.sqrt(2 * jnp.pi))
                return 0.5 * ((h[0] - target) / NOISE) ** 2 + normal
        else:

            def loss(h: Any, target: Any) -> Any:
                return jax.nn.logsumexp(h) - h[target]

        h = jax.vmap(head, (None, 0))(w, x)
        middle_of = np.asarray(jax.vmap(jax.hessian(loss))(h, y))
        J = np.asarray(jax.vmap(jax.jacrev(head), (None, 0))(w, x))
        likelihood = -float(jax.vmap(loss)(h, y).sum())
    variances = [1 / own["k0"].shape[0], 1.0, 1 / own["k1"].shape[0], 1.0]
    prior = np.concatenate(
        [np.full(b - a, 1 / v) for a, b, v in zip(ends[:-1], ends[1:], variances, strict=True)]
    )
    w = np.asarray(w)
    joint = likelihood + 0.5 * np.sum(np.log(prior) - prior * w**2)
    weighted = np.einsum("nkl,nlp->nkp", middle_of, J)
    ggn = np.einsum("nkp,nkq->pq", J, weighted, optimize=True)

    def evidence(*blocks: np.ndarray) -> float:
        return float(joint - 0.5 * sum(np.linalg.slogdet(block)[1] for block in blocks))

    hidden = np.tanh(x @ own["k0"] + own["b0"])
    back = (1 - hidden**2)[:, :, None] * own["k1"]
    roots = (np.einsum("nhk,nkl,nml->hm", back, middle_of, back, optimize=True), middle_of.sum(0))
    together, apart = [], []
    for layer, (z, B) in enumerate(zip((x, hidden), roots, strict=True)):
        ones = np.column_stack([z, np.ones(len(z))])
        kernel, bias = prior[ends[2 * layer]], np.ones(B.shape[0])
        of = np.repeat([kernel] * z.shape[1] + [1.0], B.shape[0])
        together.append(np.kron(ones.T @ ones, B / len(z)) + np.diag(of))
        apart += [np.kron(z.T @ z, B / len(z)) + kernel * np.eye(z.shape[1] * len(B))]
        apart += [B + np.diag(bias)]
    return {
        "full": evidence(ggn + np.diag(prior)),
        "diagonal": evidence(np.diag(np.diag(ggn) + prior)),
        "kron": evidence(*together),
        "kron, biases apart": evidence(*apart),
    }


def check(runs: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    """Relative distances from the dense evidences, in float64.

    Raises:
        AssertionError: ours is not the dense evidence, or theirs not that of their definition.
    """
    found = {}
    for name, several in runs.items():
        library, _, problem = name.partition(", ")
        for structure in STRUCTURES:
            same = "kron, biases apart" if (library, structure) == (THEIRS, "kron") else structure
            right = dense(problem)[same]
            far = abs(several[0]["structures"][structure]["float64"] / right - 1.0)
            assert far < CLOSE, f"{name}, {structure}: {far:.2g} from the dense evidence"
            found[f"{name}, {structure}"] = far
    return {"relative distance": found, "dense": {p: dense(p) for p in PROBLEMS}}


def table(runs: Mapping[str, Sequence[dict[str, Any]]], job: Mapping[str, Any]) -> str:
    """Medians over the turns.

    Args:
        runs: a peer's figures, a turn each; without those that failed.
        job: what was asked.
    """
    lines = []
    for problem in PROBLEMS:
        for structure in STRUCTURES:
            for library in (OURS, THEIRS):
                several = runs.get(f"{library}, {problem}", ())
                if not several:
                    continue
                here = [r["structures"][structure] for r in several]
                apart = library == THEIRS and structure == "kron"
                right = dense(problem)["kron, biases apart" if apart else structure]
                keys = ("first", "first_cpu", "later", "later_cpu", "widths")
                times = {k: middle([h[k] for h in here]) for k in keys if k in here[0]}
                lines.append(
                    [
                        problem,
                        structure + (", biases apart" if apart else ""),
                        library,
                        f"{here[0]['float64']:.4f}",
                        f"{right:.4f}",
                        f"{here[0]['float32'] - right:+.4f}",
                        f"{times['first']:.2f} ({times['first_cpu']:.2f})",
                        f"{1e3 * times['later']:.1f} ({1e3 * times['later_cpu']:.1f})",
                        f"{1e3 * times['widths']:.2f}" if "widths" in times else "as later",
                    ]
                )
    heads = ["problem", "structure", "", "float64", "dense reference", "float32, off by"]
    heads += ["first, s (processor)", "later, ms (processor)", "another prior, ms"]
    sizes = "10-50-1 tanh on diabetes, noise 0.7; 64-10-10 tanh on 600 digits."
    return f"{sizes} Median of {job['repeats']} later evaluations a turn.\n\n" + markdown(
        heads, lines
    )
