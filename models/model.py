"""A zoo model: a network, a prior and a likelihood that together are a NumPyro model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpyro
from jax import Array
from jaxtyping import Float

from bnnzoo import registry
from bnnzoo.errors import InputError, hint
from bnnzoo.models.handwritten import source_hash
from bnnzoo.models.likelihood import Likelihood
from bnnzoo.models.network import BoundNetwork, Factory, Network
from bnnzoo.models.prior import Prior, make_prior
from bnnzoo.specs import Component, RunSpec

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset


@jax.tree_util.register_pytree_node_class
class Model:
    """A network, a prior and a likelihood: a NumPyro model ``model(x, y=None)``.

    Sites: one a parameter, named by its path (``layers.0.kernel``); ``noise_std`` where the noise
    is learned; the target ``y``. ``x`` and ``y`` are in modelled units: :class:`Posterior` scales
    data, stock NumPyro does not.

    Attributes:
        network, prior, likelihood: the parts.
        spec: their names and options, for the record.
        bound: the network with its shapes fixed, after :meth:`bind`.
        outputs: number of targets or classes, once known.
    """

    handwritten = False

    def __init__(
        self, network: Network, prior: Prior, likelihood: Likelihood, spec: RunSpec
    ) -> None:
        self.network: Network | None = network
        self.prior = prior
        self.likelihood = likelihood
        self.spec: RunSpec | None = spec
        self.bound: BoundNetwork | None = None
        self.outputs = likelihood.outputs
        self.external = ""
        """Hash of a network factory that the registry does not have, for the record of a run."""

    @property
    def label(self) -> str:
        """A few words: network, prior, likelihood."""
        assert self.network is not None and self.spec is not None
        prior = self.spec.prior.name or "rules"
        return f"{self.network.label}, {prior}, {self.likelihood.label}"

    @property
    def parameter_count(self) -> int:
        """Number of network parameters of a bound model."""
        return sum(math.prod(i.shape) for i in self._shapes().infos)

    def bind(self, data: Dataset) -> Model:
        """This model with outputs, classes and input shape fixed by the data.

        Raises:
            InputError: the likelihood is for another task or number of outputs, or a prior rule
                matches no parameter.
        """
        if data.task != self.likelihood.task:
            allowed = registry.list_names("likelihoods", task=data.task)
            raise InputError(
                f"likelihood {self.likelihood.label!r} is for {self.likelihood.task}, but data set "
                f"{data.name!r} is for {data.task}{hint('', allowed)}"
            )
        if data.task == "classification":
            outputs = len(data.class_names)
        else:
            outputs = 1 if data.y.ndim == 1 else data.y.shape[1]
        if self.likelihood.outputs not in (None, outputs):
            raise InputError(
                f"likelihood.outputs = {self.likelihood.outputs}, but data set {data.name!r} "
                f"has {outputs}"
            )
        return self._bind(tuple(data.x.shape[1:]), outputs)

    def __call__(self, x: Array, y: Array | None = None) -> None:
        """The NumPyro model: samples every parameter, the noise and ``y``.

        Args:
            x: inputs ``(row, *in_shape)``.
            y: targets ``(row,)``, or ``(row, output)`` for several; None to predict.
        """
        model = self if self.bound is not None else self._bind_to_arrays(x, y)
        head, noise = model._forward(x)
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("y", model.likelihood.distribution(head, noise), obs=y)

    def function(self, parameters: Mapping[str, Array], x: Array) -> Float[Array, "row output"]:
        """Noise-free function values for parameters given by path, modelled units."""
        return self.likelihood.function(self._shapes().apply(parameters, x))

    def _forward(self, x: Array) -> tuple[Array, Any]:
        bound = self._shapes()
        parameters = self.prior.sample(bound.infos)
        assert self.outputs is not None
        return bound.apply(parameters, x), self.likelihood.sample_noise(self.outputs)

    def _shapes(self) -> BoundNetwork:
        if self.bound is None:
            raise InputError("this model has no shapes yet: call model.bind(data) first")
        return self.bound

    def _bind_to_arrays(self, x: Array, y: Array | None) -> Model:
        outputs = self.outputs
        if outputs is None and self.likelihood.task == "classification":
            raise InputError(
                "a categorical model does not know its classes: call model.bind(data), or set "
                "likelihood_options={'outputs': k}"
            )
        if outputs is None:
            outputs = 1 if y is None or y.ndim == 1 else y.shape[1]
        return self._bind(tuple(x.shape[1:]), outputs)

    def _bind(self, in_shape: tuple[int, ...], outputs: int) -> Model:
        assert self.network is not None and self.spec is not None
        made = Model(self.network, self.prior, self.likelihood, self.spec)
        made.outputs, made.external = outputs, self.external
        made.bound = self.network.bind(in_shape, self.likelihood.head(outputs))
        made.prior.check(made.bound.infos)
        return made

    def tree_flatten(self) -> tuple[tuple[Prior, Likelihood], tuple[Any, ...]]:
        """Numbers as leaves; structure compared by value, so that equal shapes share programs."""
        return (self.prior, self.likelihood), (self._shapes(), self.outputs)

    @classmethod
    def tree_unflatten(cls, aux: tuple[Any, ...], children: tuple[Any, ...]) -> Model:
        """The model inside a traced function: without its spec."""
        made = object.__new__(cls)
        made.prior, made.likelihood = children
        made.bound, made.outputs = aux
        made.network = made.spec = None
        return made


def make_model(
    network: str | Factory = "mlp",
    prior: str | None = "gaussian",
    likelihood: str = "gaussian",
    *,
    network_options: Mapping[str, Any] | None = None,
    prior_options: Mapping[str, Any] | None = None,
    likelihood_options: Mapping[str, Any] | None = None,
) -> Model:
    """A model from the names of its parts.

    Args:
        network: a registered network, or a factory ``(in_shape, out_shape, *, rngs)`` of a module.
        prior: a registered prior; None where ``prior_options["rules"]`` name one for every
            parameter.
        likelihood: a registered likelihood.
        network_options: options of the network; a factory takes ``gain`` alone.
        prior_options: options of the prior, with ``rules`` by parameter path.
        likelihood_options: options of the likelihood.

    Raises:
        UnknownNameError: no such part, with the nearest one.
        OptionError: an option that does not exist or a value that is not allowed.
    """
    factory = None if isinstance(network, str) else network
    spec = RunSpec(
        network=Component(
            name=network
            if isinstance(network, str)
            else getattr(network, "__name__", type(network).__name__),
            options=dict(network_options or {}),
        ),
        prior=Component(name=prior, options=dict(prior_options or {})),
        likelihood=Component(name=likelihood, options=dict(likelihood_options or {})),
    )
    return build_model(spec, factory)


def build_model(spec: RunSpec, factory: Factory | None = None) -> Model:
    """The model of a spec's network, prior and likelihood sections, or of its named entry.

    Args:
        spec: what a TOML file holds; sections left out take their defaults.
        factory: the network itself where it is not registered.
    """
    if spec.model.name is not None:
        if named := [
            s for s in ("network", "prior", "likelihood") if getattr(spec, s) != Component()
        ]:
            raise InputError(
                f"[model] name = {spec.model.name!r} already fixes the {named[0]}: "
                f"leave [{named[0]}] out"
            )
        return load_model(spec.model.name, **spec.model.options)
    network_name = spec.network.name or "mlp"
    network_options = dict(spec.network.options)
    if factory is None:
        network_options = _resolved("networks", network_name, network_options)
        network = registry.get("networks", network_name).build(network_options)
    else:
        options = dict(network_options)
        network = Network(factory, float(options.pop("gain", 1.0)), network_name)
        if options:
            raise InputError(
                f"unknown option network.{next(iter(options))} of a factory; choices: gain"
            )
    prior = spec.prior
    if prior.name is None and not _names_every_rule(prior):
        prior = Component(name="gaussian", options=prior.options)
    if prior.name is not None:
        prior = Component(name=prior.name, options=_resolved("priors", prior.name, prior.options))
    likelihood_name = spec.likelihood.name or "gaussian"
    likelihood_options = _resolved("likelihoods", likelihood_name, spec.likelihood.options)
    resolved = spec.model_copy(
        update={
            "network": Component(name=network_name, options=network_options),
            "prior": prior,
            "likelihood": Component(name=likelihood_name, options=likelihood_options),
        }
    )
    likelihood = registry.get("likelihoods", likelihood_name).build(spec.likelihood.options)
    model = Model(network, make_prior(prior), likelihood, resolved)
    model.external = source_hash(factory) if factory is not None else ""
    return model


def _names_every_rule(prior: Component) -> bool:
    """Whether rules alone say what the prior is, so that none stands behind them."""
    rules = prior.options.get("rules")
    if not isinstance(rules, Mapping) or not rules:
        return False
    return all(isinstance(rule, Mapping) and "name" in rule for rule in rules.values())


def _resolved(kind: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options with their defaults, as plain data: a record outlives a change of default."""
    parsed = registry.get(kind, name).parse(given).model_dump(mode="json", exclude_none=True)
    return {option: value for option, value in parsed.items() if value != {}}


def load_model(name: str, **options: Any) -> Model:
    """A named entry of the zoo, from a study; raises ``UnknownNameError``."""
    return registry.get("models", name).build(options, "model")
