"""The posterior a model and data define: the only thing an inference backend sees."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from bnnzoo.errors import InputError, TemperatureError
from bnnzoo.models import row_blocks, row_terms, score, tempering
from bnnzoo.models.arguments import check_data
from bnnzoo.models.handwritten import HandwrittenModel, as_model
from bnnzoo.models.layout import find_sites, site_shapes
from bnnzoo.models.network import BoundNetwork
from bnnzoo.models.parameters import ParameterInfo
from bnnzoo.models.score import Scored, Site
from bnnzoo.models.target import as_classes, target_of

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset


class Predictive(NamedTuple):
    """What one draw says of some rows, modelled units.

    Attributes:
        f: noise-free function values ``(row, output)``.
        distribution: of the target, batch shape ``(row,)``.
    """

    f: Array
    distribution: dist.Distribution


@jax.tree_util.register_pytree_node_class
class Posterior:
    """Tempered log density log p(y|w) / (T L) + log p(w) / T of a model given data.

    The powers are taken on constrained values: a log-Jacobian is never divided by a temperature,
    and a conditional prior p(w|h) with h sampled is renormalised after tempering.
    A pytree: two posteriors of the same structure and shapes share compiled programs, whatever
    their data, temperatures and prior scales.

    Args:
        model: a zoo model or a hand-written NumPyro model ``(x, y=None)``.
        data: the data set; a zoo model sees it standardised, unless its ``scale`` says otherwise.
        posterior_temperature: T.
        likelihood_temperature: L.

    Attributes:
        sites: latent sites and their places in the flat unconstrained vector ``u``.
        dimension: length of ``u``.
        rows: number of training rows.
        padding: copies of the last row behind them, which count for nothing.
        in_blocks: whether the rows of a large table may be taken block by block.
        x: training inputs in modelled units, on the device.
        y: training targets in modelled units, on the device.

    Raises:
        TemperatureError: a temperature that is not a positive number, a tempered prior that is
            improper, or a conditional prior with no known normaliser at T != 1.
        InputError: data that are no data set, or a model that does not fit them.
    """

    padding: int = 0
    in_blocks: bool = True

    def __init__(
        self,
        model: Any,
        data: Dataset,
        posterior_temperature: float = 1.0,
        likelihood_temperature: float = 1.0,
    ) -> None:
        check_data(data, model)
        tempering.check_temperature("posterior_temperature", posterior_temperature)
        tempering.check_temperature("likelihood_temperature", likelihood_temperature)
        self.model = as_model(model).bind(data)
        self.data: Dataset | None = data
        self.scaling = data.scaling_for(self.model.handwritten)
        if not self.model.scales_target:
            self.scaling = self.scaling.of_inputs()
        real = jnp.result_type(float)
        self.x = jnp.asarray(self.scaling.transform_x(data.x), real)
        classes = data.task == "classification"
        y = data.y if classes else self.scaling.transform_y(data.y)
        self.y = jnp.asarray(y, jnp.int32 if classes else real)
        self.posterior_temperature = float(posterior_temperature)
        self.likelihood_temperature = float(likelihood_temperature)
        self.sites: tuple[Site, ...] = find_sites(self.model, self.x, self.y)
        if self.block_rows and row_blocks.mixes_rows(self.network, self.x):
            self.in_blocks = False
        self._check_factors()
        self._check_priors()

    @property
    def dimension(self) -> int:
        """Number of unconstrained parameters."""
        return self.sites[-1].offset + self.sites[-1].size

    @property
    def network(self) -> BoundNetwork | None:
        """The network of a zoo model; None of a hand-written one, which cannot be seen."""
        return None if isinstance(self.model, HandwrittenModel) else self.model.bound

    @property
    def derived(self) -> tuple[ParameterInfo, ...]:
        """Network parameters that are no latent sites but functions of some (non-centred)."""
        if self.network is None:
            return ()
        latent = {site.name for site in self.sites}
        return tuple(info for info in self.network.infos if info.path not in latent)

    @property
    def rows(self) -> int:
        """Number of training rows."""
        return int(self.x.shape[0]) - self.padding

    @property
    def row_bytes(self) -> int:
        """What a zoo model makes of one row on the way to its likelihood; 0 where not known."""
        if isinstance(self.model, HandwrittenModel):
            return 0
        return self.x.dtype.itemsize * self.model.row_size

    @property
    def block_rows(self) -> int:
        """How many rows the likelihood takes at a time; 0 where it takes them all."""
        if self.padding or not self.in_blocks:
            return 0
        read = self.x.dtype.itemsize * math.prod(self.x.shape[1:])
        return row_blocks.rows_of_block(len(self.x), self.row_bytes, read)

    # -- densities ---------------------------------------------------------------------------

    def log_prior(self, u: Float[Array, " dim"]) -> Float[Array, ""]:
        """Untempered log p(w) on constrained values, without Jacobian.

        Args:
            u: unconstrained vector ``(dim,)``.
        """
        return _log_prior(self._score(u))

    def log_prior_density(self, u: Float[Array, " dim"]) -> Float[Array, ""]:
        """Untempered log density of :meth:`initial`: log p(w) with the Jacobian, normalised.

        Args:
            u: unconstrained vector ``(dim,)``.
        """
        seen = self._score(u)
        return _log_prior(seen) + seen.log_jacobian

    def log_likelihood(
        self, u: Float[Array, " dim"], batch: Int[Array, " batch"] | None = None
    ) -> Float[Array, ""]:
        """Untempered log p(y|w); for a batch of row numbers, its unbiased N/n-scaled estimate.

        Args:
            u: unconstrained vector ``(dim,)``.
            batch: row numbers; all rows if not given.

        Raises:
            InputError: a batch, and an observed site that has no leading axis of rows.
        """
        if batch is None and self.block_rows:
            return row_blocks.log_likelihood(u, self)
        return self._log_likelihood(self._score(u, batch), batch)

    def log_density(
        self, u: Float[Array, " dim"], batch: Int[Array, " batch"] | None = None
    ) -> Float[Array, ""]:
        """The target of every sampler: tempered log posterior, Jacobian added once.

        Args:
            u: unconstrained vector ``(dim,)``.
            batch: row numbers, for an estimate from them; all rows if not given.
        """
        return self.log_densities(u, batch)[0]

    def log_densities(
        self, u: Float[Array, " dim"], batch: Int[Array, " batch"] | None = None
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """:meth:`log_density` and :meth:`log_likelihood` by one pass through the model.

        Args:
            u: unconstrained vector ``(dim,)``.
            batch: row numbers, for an estimate from them; all rows if not given.
        """
        T, L = self.posterior_temperature, self.likelihood_temperature
        if batch is None and self.block_rows:
            seen = self._score(u, jnp.zeros(1, int))  # its one row's terms are not read
            likelihood = row_blocks.log_likelihood(u, self)
        else:
            seen = self._score(u, batch)
            likelihood = self._log_likelihood(seen, batch)
        density = likelihood / (T * L) + self._tempered_log_prior(seen) + seen.log_jacobian
        return density, likelihood

    def pointwise_log_likelihood(
        self, u: Float[Array, " dim"], batch: Int[Array, " batch"] | None = None
    ) -> Float[Array, " row"]:
        """Untempered log p(y_i|w) of each row, modelled units.

        Args:
            u: unconstrained vector ``(dim,)``.
            batch: row numbers; all rows if not given.

        Raises:
            InputError: an observed site has no leading axis of rows.
        """
        if batch is None and self.block_rows:
            return row_blocks.pointwise_log_likelihood(u, self)
        seen = self._score(u, batch)
        total = row_terms.of_rows(seen, self.x.shape[0] if batch is None else batch.shape[0])
        return total if batch is not None else total[: self.rows]

    # -- coordinates -------------------------------------------------------------------------

    def constrain(self, u: Float[Array, " dim"]) -> dict[str, Array]:
        """Constrained value of every latent site, and of network parameters made from them.

        Args:
            u: unconstrained vector ``(dim,)``.
        """
        seen = self._score(u)
        return seen.values | self._derived_values(seen)

    def unconstrain(self, values: Mapping[str, ArrayLike]) -> Float[Array, " dim"]:
        """The flat unconstrained vector ``(dim,)`` of constrained values.

        Args:
            values: constrained value of every latent site.
        """
        seen = score.run(
            self.model, self.x, self.y, lambda name, fn: (jnp.asarray(values[name]), jnp.zeros(()))
        )
        return self._flatten(score.unconstrained(seen))

    def initial(self, key: Array) -> Float[Array, " dim"]:
        """A draw from the prior, unconstrained; where a prior cannot be drawn from, U(-2, 2).

        Args:
            key: a typed random key.
        """
        try:
            seen = score.run(self.model, self.x, self.y, score.from_prior(key))
        except score.UndrawableError:
            return jax.random.uniform(key, (self.dimension,), minval=-2.0, maxval=2.0)
        return self._flatten(score.unconstrained(seen))

    # -- predictions -------------------------------------------------------------------------

    def predictive(self, values: Mapping[str, Array], x: Float[Array, "row *input"]) -> Predictive:
        """Function and target distribution on new rows, modelled units, never tempered.

        Args:
            values: constrained value of every latent site; what is made from them is made anew.
            x: inputs, modelled units.
        """
        values = {site.name: values[site.name] for site in self.sites}
        seen = score.run_predictive(self.model, x, values)
        fn = target_of(seen)
        classes = jnp.issubdtype(self.y.dtype, jnp.integer)
        if classes:
            fn = as_classes(fn)
        if isinstance(self.model, HandwrittenModel):
            f = seen.deterministic.get("f")
            if classes:
                one_a_class = f is not None and jnp.ndim(f) == 2
                f = f if one_a_class else getattr(fn, "logits", f)
            f = fn.mean if f is None else f
        else:
            f = self.model.function(seen.values | self._derived_values(seen), x)
        f = jnp.broadcast_to(f, (x.shape[0],)) if jnp.ndim(f) == 0 else f
        return Predictive(f.reshape(f.shape[0], -1), fn)

    def predict(self, u: Float[Array, " dim"], x: ArrayLike) -> Float[Array, "row output"]:
        """Noise-free f at new rows, in and out in original units.

        Args:
            u: unconstrained vector ``(dim,)``.
            x: inputs ``(row, *in_shape)``, original units.
        """
        scaled = (jnp.asarray(x) - self.scaling.x_mean) / self.scaling.x_std
        f = self.predictive(self.constrain(u), scaled).f
        return f * self.scaling.y_std + self.scaling.y_mean

    def for_new_rows(self) -> Posterior:
        """The same without all training rows but one, where predictions need none of them.

        Programs that predict then have one shape, whatever the number of training rows. A
        hand-written model may say of its sites by running on its rows, and keeps them.
        """
        if self.model.handwritten:
            return self
        made = copy.copy(self)
        made.x, made.y, made.padding = self.x[:1], self.y[:1], 0
        return made

    # -- checks ------------------------------------------------------------------------------

    def check_rows_are_free(self) -> None:
        """Raise ``InputError`` where latent sites have one element a training row.

        Such a model has no minibatch estimate and says nothing of new rows.
        """
        if self.rows < 2:
            return
        ours = {site.name: site.shape for site in self.sites}
        try:
            fewer = site_shapes(self.model, self.x[:-1], self.y[:-1])
        except Exception:
            # The model fixes its number of rows: whatever it raises, fewer rows do not run.
            fewer = {}
        for name, shape in ours.items():
            if name not in fewer or fewer[name][0] != shape:
                raise InputError(
                    f"latent site {name!r} belongs to the training rows: minibatches and "
                    "predictions for new rows are not defined for this model"
                )

    def _check_factors(self) -> None:
        if self.posterior_temperature == self.likelihood_temperature == 1.0:
            return
        seen_factors: list[str] = []

        def trace(u: Array) -> Array:
            seen = self._score(u)
            seen_factors.extend(seen.factors)
            return seen.log_jacobian

        jax.eval_shape(trace, jax.ShapeDtypeStruct((self.dimension,), self.x.dtype))
        if seen_factors:
            raise TemperatureError(
                f"site {seen_factors[0]!r} is a numpyro.factor: whether it is prior or likelihood "
                "is not known, so only temperatures of 1 are defined for this model"
            )

    def _check_priors(self) -> None:
        unknown: list[str] = []

        def trace(u: Array) -> Array:
            seen = self._score(u)
            T = jnp.asarray(self.posterior_temperature)
            unknown.extend(
                s.name
                for s in self.sites
                if s.conditional and tempering.tempered(seen.fns[s.name], T) is None
            )
            return seen.log_jacobian

        jax.eval_shape(trace, jax.ShapeDtypeStruct((self.dimension,), self.x.dtype))
        T = self.posterior_temperature
        if unknown and T != 1.0:
            raise TemperatureError(
                f"posterior_temperature = {T:g}: the conditional prior of site {unknown[0]!r} has "
                "no known normaliser once tempered; only T = 1 is defined for this model"
            )
        tempering.check_proper(self)

    # -- pieces ------------------------------------------------------------------------------

    def _score(self, u: Array, batch: Array | None = None) -> Scored:
        x, y = (self.x, self.y) if batch is None else (self.x[batch], self.y[batch])
        return score.run(self.model, x, y, score.from_vector(u, self.sites))

    def _derived_values(self, seen: Scored) -> dict[str, Array]:
        return {info.path: seen.deterministic[info.path] for info in self.derived}

    def _log_likelihood(self, seen: Scored, batch: Array | None) -> Array:
        total = jnp.zeros(())
        for name, (fn, value, weight) in seen.observed.items():
            terms = fn.log_prob(value) * weight
            if batch is not None:
                row_terms.check(name, terms, batch.shape[0])
            if batch is None and self.padding:
                total = total + row_terms.summed(name, terms, jnp.arange(len(self.x)) < self.rows)
            else:
                total = total + jnp.sum(terms)
        return total if batch is None else total * (self.rows / batch.shape[0])

    def _tempered_log_prior(self, seen: Scored) -> Array:
        T = jnp.asarray(self.posterior_temperature)
        total = jnp.zeros(())
        for site in self.sites:
            fn, value = seen.fns[site.name], seen.values[site.name]
            renormalised = tempering.tempered(fn, T) if site.conditional else None
            if renormalised is None:
                total = total + jnp.sum(fn.log_prob(value)) / T
            else:
                total = total + jnp.sum(renormalised.log_prob(value))
        return total

    def _flatten(self, free: Mapping[str, Array]) -> Array:
        return jnp.concatenate([jnp.ravel(free[site.name]) for site in self.sites])

    def __copy__(self) -> Posterior:
        made = object.__new__(type(self))  # __reduce__ builds anew, which no traced function can
        made.__dict__ |= self.__dict__
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        given = (self.model, self.data, self.posterior_temperature, self.likelihood_temperature)
        return _rebuilt, (*given, self.x.dtype == jnp.float64)

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Model numbers, data and temperatures as leaves; the layout as structure."""
        leaves = (
            self.model,
            self.x,
            self.y,
            self.posterior_temperature,
            self.likelihood_temperature,
        )
        return leaves, (self.sites, self.padding, self.in_blocks)

    @classmethod
    def tree_unflatten(cls, aux: tuple[Any, ...], leaves: tuple[Any, ...]) -> Posterior:
        """The posterior inside a traced function: without its data set and scaling."""
        made = object.__new__(cls)
        made.model, made.x, made.y, made.posterior_temperature, made.likelihood_temperature = leaves
        made.sites, made.padding, made.in_blocks = aux
        made.data = None
        return made


def _rebuilt(model: Any, data: Dataset, T: float, L: float, doubled: bool) -> Posterior:
    """The posterior that was pickled, in its precision."""
    with jax.enable_x64(doubled):
        return Posterior(model, data, T, L)


def _log_prior(seen: Scored) -> Array:
    total = jnp.zeros(())
    for name, fn in seen.fns.items():
        total = total + jnp.sum(fn.log_prob(seen.values[name]))
    return total
