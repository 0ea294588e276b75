"""Exact regression with the infinitely wide partner of a model."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from bnnzoo.errors import InputError
from bnnzoo.inference.gaussian_process import (
    Conditioned,
    GaussianProcess,
    ProcessPrediction,
    StudentTProcess,
)
from bnnzoo.models.arguments import check_data
from bnnzoo.models.ends import chosen
from bnnzoo.models.infinite.nngp import kernel_of, skeleton_of, variances_of
from bnnzoo.models.infinite.partner_cnn import CNNPartner
from bnnzoo.models.likelihoods import gaussian as gaussian_noise
from bnnzoo.models.model import Model
from bnnzoo.models.priors.gaussian import Gaussian
from bnnzoo.models.priors.inverse_gamma_scale import InverseGammaScale

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset


class InfiniteNetwork:
    """The exact posterior of a model whose hidden layers are infinitely wide.

    Prior, noise and scaling of the data are the model's, as a finite network of it has them in
    :func:`bnnzoo.fit`; the widths are ignored. Never tempered.

    Args:
        model: of network ``mlp`` or ``cnn`` and likelihood ``gaussian``; see :func:`nngp_kernel`
            for what has a limit.
        data: a regression data set.
        noise_std: standard deviation of the noise, modelled units; needed where the likelihood
            learns it, and the likelihood's own where that is fixed.
        scale_mixture: shape and rate of an inverse-gamma factor of the last layer's variances *and*
            of the noise's: a :class:`StudentTProcess`; None for none. ``prior``: those of the
            model's prior, which then is ``inverse-gamma-scale``. A finite network of that prior
            has its noise outside of the mixture, the process inside: they share the prior over
            functions, and their posteriors as the noise becomes small.
        approximate_inputs: as in :func:`nngp_kernel`.

    Attributes:
        process: the regression, in modelled units.
        scaling: between original and modelled units.

    Raises:
        InputError: a model without such a limit or without Gaussian noise, no noise, or rows that
            make the covariance singular.

    Source: Lee et al. (2018), Deep Neural Networks as Gaussian Processes, sec. 2.4.
    """

    def __init__(
        self,
        model: Model,
        data: Dataset,
        noise_std: float | None = None,
        *,
        scale_mixture: tuple[float, float] | str | None = None,
        approximate_inputs: bool = False,
    ) -> None:
        check_data(data, model)
        shape = tuple(data.x.shape[1:])
        if scale_mixture == "prior":
            model, scale_mixture = _without_mixture(model, data)
        elif isinstance(scale_mixture, str):
            raise InputError(f"scale_mixture = {scale_mixture!r}: 'prior', or a shape and a rate")
        self._skeleton = skeleton_of(model, shape, approximate_inputs)
        noise = _noise(model, noise_std)
        bound = model.bind(data)
        self._prior = bound.prior
        self.scaling = data.scaling_for(bound.handwritten)
        self._shape = shape
        self._x = self._modelled(data.x)
        covariance, y = self._kernel(self._x), self.scaling.transform_y(data.y)
        self.process: GaussianProcess
        if scale_mixture is None:
            self.process = GaussianProcess(covariance, y, noise)
        else:
            self.process = StudentTProcess(covariance, y, noise, *scale_mixture)

    @property
    def log_evidence(self) -> float:
        """Nats: log p(y) of the targets in modelled units, as ``smc`` gives it of a finite one.

        For that of the targets in original units take off rows * log(``scaling.y_std``).
        """
        return self.process.log_evidence

    @cached_property
    def evidence_gradient(self) -> dict[str, float]:
        """Derivative of :attr:`log_evidence` by ``noise_std`` and every number of the prior.

        Numbers go by the names the prior gives them, such as ``prior.scale`` and
        ``prior.bias_std``; ``prior.priors[0].scale`` is of the first rule.

        Raises:
            InputError: of network ``cnn``, whose kernel is computed a few pairs of images at a
                time: take differences of :attr:`log_evidence`.
        """
        if isinstance(self._skeleton, CNNPartner):
            raise InputError(
                "evidence_gradient: the kernel of a cnn is computed a few pairs of images at a "
                "time and not differentiated; take differences of log_evidence"
            )
        slope, skeleton = self.process.evidence_slope, self._skeleton
        with jax.enable_x64(True):
            x = jnp.asarray(self._x)
            _, pull = jax.vjp(lambda prior: kernel_of(prior, skeleton, x), self._prior)
            (of_prior,) = pull(jnp.asarray(slope))
            leaves = jax.tree_util.tree_flatten_with_path(of_prior)[0]
        found = {f"prior{jax.tree_util.keystr(path)}": float(value) for path, value in leaves}
        return {**found, "noise_std": float(2.0 * self.process.noise_std * np.trace(slope))}

    def predict(self, x: Any, noise: bool = True) -> ProcessPrediction:
        """Predictive law at each row, original units.

        Args:
            x: rows ``(row, *in_shape)``, original units.
            noise: of the target, with its noise; else of the function alone.
        """
        new = self._modelled(x)
        found = self.process.predict(self._kernel(new, self._x), self._variances(new), noise)
        return ProcessPrediction(
            self.scaling.inverse_y(found.mean),
            self.scaling.inverse_y(found.std, std=True),
            self.scaling.inverse_y(found.scale, std=True),
            found.df,
        )

    def function(self, x: Any) -> Conditioned:
        """Noise-free function values at some rows, jointly, original units.

        Args:
            x: rows ``(row, *in_shape)``, original units.
        """
        new = self._modelled(x)
        found = self.process.function(self._kernel(new, self._x), self._kernel(new))
        covariance, squared = found.covariance, np.asarray(self.scaling.y_std) ** 2
        if squared.ndim and covariance.ndim == 2:
            covariance = covariance[..., None]
        return Conditioned(self.scaling.inverse_y(found.mean), covariance * squared, found.df)

    def _modelled(self, x: Any) -> np.ndarray:
        rows = np.asarray(x, float)
        if rows.ndim == 1 and self._shape == (1,):
            rows = rows[:, None]
        if rows.shape[1:] != self._shape:
            raise InputError(f"x of shape {rows.shape}, where (row, {self._shape}) is needed")
        if not np.isfinite(rows).all():
            raise InputError("x holds a value that is not finite")
        return self.scaling.transform_x(rows).reshape(len(rows), -1)

    def _kernel(self, x: np.ndarray, x2: np.ndarray | None = None) -> np.ndarray:
        if isinstance(self._skeleton, CNNPartner):
            return self._skeleton.kernel(x, x2)
        with jax.enable_x64(True):
            other = None if x2 is None else jnp.asarray(x2)
            return np.asarray(kernel_of(self._prior, self._skeleton, jnp.asarray(x), other))

    def _variances(self, x: np.ndarray) -> np.ndarray:
        """Diagonal of the kernel, without the rest of it."""
        if isinstance(self._skeleton, CNNPartner):
            return self._skeleton.variances(x)
        with jax.enable_x64(True):
            return np.asarray(variances_of(self._prior, self._skeleton, jnp.asarray(x)))


def _without_mixture(model: Model, data: Dataset) -> tuple[Model, tuple[float, float]]:
    """The model with the output variance of its prior at 1, and that variance's shape and rate."""
    prior = model.prior
    if not isinstance(prior, InverseGammaScale):
        raise InputError(
            "scale_mixture = 'prior': the model's prior has no random variance of its output "
            "layer; choose prior = 'inverse-gamma-scale' without rules, or give a shape and a rate"
        )
    bound = model.bind(data).bound
    assert bound is not None and model.network is not None and model.spec is not None
    last = chosen(bound.infos, prior.output, "writes_output", "output")
    if [i for i in last if not i.writes_output] or len(last) != 1:
        raise InputError(
            f"scale_mixture = 'prior': prior.output = {prior.output!r} names other kernels than "
            "the last one, so functions are no Student-t process in the limit"
        )
    owner = last[0].path.rpartition(".")[0]
    if not prior.scale_bias and any(i.path == f"{owner}.bias" for i in bound.infos):
        raise InputError(
            "scale_mixture = 'prior': with prior.scale_bias = false the output layer's bias stays "
            "Gaussian, and its sum with a Student-t process is none; set prior.scale_bias = true"
        )
    plain = Gaussian(prior.std, prior.bias_std, prior.absolute)
    made = Model(model.network, plain, model.likelihood, model.spec, model.augmentation)
    made.outputs = model.outputs
    return made, (float(prior.shape), float(prior.rate))


def _noise(model: Model, given: float | None) -> float:
    likelihood = model.likelihood
    if not isinstance(likelihood, gaussian_noise.Gaussian):
        raise InputError(
            f"likelihood {likelihood.label!r}: regression is exact under Gaussian noise alone; "
            "choices: gaussian (models.nngp_kernel gives the covariance for any)"
        )
    if likelihood.noise == "fixed":
        if given is not None:
            raise InputError("noise_std: the likelihood's noise is fixed already; leave it out")
        return float(likelihood.number)
    if given is None:
        raise InputError(
            f"likelihood.noise = {likelihood.noise!r}: give noise_std, or a model of "
            "likelihood_options = {'noise': 'fixed', 'noise_std': ...}"
        )
    return float(given)
