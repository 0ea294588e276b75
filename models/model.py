"""A zoo model: a network, a prior and a likelihood that together are a NumPyro model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpyro
import numpyro.distributions as dist
from jax import Array
from jaxtyping import Float

from bnnzoo import registry
from bnnzoo.errors import InputError, OptionError, brief, hint, setting
from bnnzoo.models.arguments import check_data
from bnnzoo.models.augmentation import Augmentation
from bnnzoo.models.handwritten import source_hash
from bnnzoo.models.likelihood import Likelihood
from bnnzoo.models.network import BoundNetwork, Factory, Network
from bnnzoo.models.prior import Prior, make_prior
from bnnzoo.specs import MODEL_PARTS, Component, RunSpec

if TYPE_CHECKING:
    from bnnzoo.datasets import Dataset


@jax.tree_util.register_pytree_node_class
class Model:
    """A network, a prior, a likelihood, maybe an augmentation: a NumPyro model ``(x, y=None)``.

    Sites: one a parameter, named by its path (``layers.0.kernel``); ``noise_std`` where the noise
    is learned; the target ``y``. ``x`` and ``y`` are in modelled units: :class:`Posterior` scales
    data, stock NumPyro does not.

    Args:
        network: a factory of modules with the gain of its activation.
        prior: of its parameters.
        likelihood: of the target given its outputs.
        spec: names and options of the three, for the record.

    Attributes:
        network: as given, as are ``prior`` and ``likelihood``.
        augmentation: transformed copies of the inputs, or None.
        spec: their names and options, for the record.
        bound: the network with its shapes fixed, after :meth:`bind`.
        outputs: number of targets or classes, once known.
    """

    handwritten = False

    def __init__(
        self,
        network: Network,
        prior: Prior,
        likelihood: Likelihood,
        spec: RunSpec,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.network: Network | None = network
        self.prior = prior
        self.likelihood = likelihood
        self.augmentation = augmentation
        self.spec: RunSpec | None = spec
        self.bound: BoundNetwork | None = None
        self.outputs = likelihood.outputs
        self.external = ""
        """Hash of a network factory that the registry does not have, for the record of a run."""

    @property
    def label(self) -> str:
        """A few words: network, prior, likelihood, augmentation."""
        assert self.network is not None and self.spec is not None
        prior = self.spec.prior.name or "rules"
        extra = "" if self.augmentation is None else f", {self.augmentation.label}"
        return f"{self.network.label}, {prior}, {self.likelihood.label}{extra}"

    @property
    def scales_target(self) -> bool:
        """Whether it can model standardised targets."""
        return self.likelihood.scales_target

    @property
    def parameter_count(self) -> int:
        """Number of network parameters of a bound model."""
        return sum(math.prod(i.shape) for i in self._shapes().infos)

    @property
    def row_size(self) -> int:
        """Numbers that a bound model makes of one row on the way to its likelihood; 0: unknown."""
        bound = self._shapes()
        if self.augmentation is None:
            return bound.row_size
        row = jax.ShapeDtypeStruct((1, *bound.in_shape), "float32")
        return jax.eval_shape(self.augmentation.modelled_copies, row).shape[0] * bound.row_size

    def bind(self, data: Dataset) -> Model:
        """This model with outputs, classes and input shape fixed by the data.

        Args:
            data: the data set.

        Raises:
            InputError: no data set, a likelihood for another task or number of outputs, or a prior
                rule that matches no parameter.
        """
        check_data(data)
        if data.task != self.likelihood.task:
            allowed = registry.list_names("likelihoods", task=data.task)
            counts = data.task == "classification" and all(c.isdigit() for c in data.class_names)
            numbers = setting("data", "task", "regression")
            remedy = f"; {numbers} takes whole numbers as numbers" if counts else ""
            raise InputError(
                f"likelihood {self.likelihood.label!r} is for {self.likelihood.task}, but data set "
                f"{data.name!r} is for {data.task}{remedy}{hint('', allowed)}"
            )
        likelihood = self.likelihood.bind(data)
        if data.task == "classification":
            outputs = len(data.class_names)
        else:
            outputs = 1 if data.y.ndim == 1 else data.y.shape[1]
        if self.likelihood.outputs not in (None, outputs):
            raise InputError(
                f"likelihood.outputs = {self.likelihood.outputs}, but data set {data.name!r} "
                f"has {outputs}"
            )
        if self.network is not None and self.network.check is not None:
            self.network.check(data)
        bound = self._bind(tuple(data.x.shape[1:]), outputs, data)
        bound.likelihood = likelihood
        if self.augmentation is not None:
            bound.augmentation = self.augmentation.bind(data)
        return bound

    def __call__(self, x: Array, y: Array | None = None) -> None:
        """The NumPyro model: samples every parameter, the noise and ``y``.

        Args:
            x: inputs ``(row, *in_shape)``.
            y: targets ``(row,)``, or ``(row, output)`` for several; None to predict.
        """
        model = self if self.bound is not None else self._bind_to_arrays(x, y)
        parameters = model.prior.sample(model._shapes().infos)
        assert model.outputs is not None
        noise = model.likelihood.sample_noise(model.outputs)
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("y", model._target(parameters, noise, x, y is None), obs=y)

    def function(self, parameters: Mapping[str, Array], x: Array) -> Float[Array, "row output"]:
        """Noise-free function values, modelled units.

        Args:
            parameters: value of every parameter by path.
            x: inputs ``(row, *in_shape)``, modelled units.
        """
        slot = self.augmentation
        if slot is not None and slot.predicts_with_copies:
            return slot.function(self.likelihood, self._heads_of_copies(parameters, x))
        return self.likelihood.function(self._shapes().apply(parameters, x))

    def _target(
        self, parameters: Mapping[str, Array], noise: Any, x: Array, predicting: bool
    ) -> dist.Distribution:
        slot = self.augmentation
        if slot is not None and (slot.predicts_with_copies or not predicting):
            return slot.distribution(
                self.likelihood, self._heads_of_copies(parameters, x), noise, predicting
            )
        head = self._shapes().apply(parameters, x)
        if predicting:
            return self.likelihood.predictive(head, noise)
        return self.likelihood.distribution(head, noise)

    def _heads_of_copies(self, parameters: Mapping[str, Array], x: Array) -> Array:
        assert self.augmentation is not None
        copies = self.augmentation.modelled_copies(x)
        heads = self._shapes().apply(parameters, copies.reshape(-1, *x.shape[1:]))
        return heads.reshape(*copies.shape[:2], -1)

    def _shapes(self) -> BoundNetwork:
        if self.bound is None:
            raise InputError("this model has no shapes yet: call model.bind(data) first")
        return self.bound

    def _bind_to_arrays(self, x: Array, y: Array | None) -> Model:
        outputs = self.outputs
        if outputs is None and self.likelihood.task == "classification":
            raise InputError(
                f"a {self.likelihood.label} model does not know its classes: call model.bind(data)"
                ", or set likelihood_options={'outputs': k}"
            )
        if outputs is None:
            outputs = 1 if y is None or y.ndim == 1 else y.shape[1]
        return self._bind(tuple(x.shape[1:]), outputs)

    def _bind(self, in_shape: tuple[int, ...], outputs: int, data: Dataset | None = None) -> Model:
        assert self.network is not None and self.spec is not None
        made = Model(self.network, self.prior, self.likelihood, self.spec, self.augmentation)
        made.outputs, made.external = outputs, self.external
        made.bound = self.network.bind(in_shape, self.likelihood.head(outputs))
        made.prior.check(made.bound.infos)
        made.prior.check_use(made.bound.infos)
        made.prior = made.prior.bind(made.bound.infos, data)
        return made

    def __getstate__(self) -> dict[str, Any]:
        # A bound network holds functions of JAX, which cannot be pickled: its shapes stand for it.
        bound = self.bound
        shapes = None if bound is None else (bound.in_shape, bound.outputs)
        return {**self.__dict__, "bound": shapes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        shapes = state["bound"]
        self.__dict__.update(state, bound=None)
        if shapes is not None:
            assert self.network is not None
            self.bound = self.network.bind(*shapes)

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Numbers as leaves; structure compared by value, so that equal shapes share programs."""
        return (self.prior, self.likelihood, self.augmentation), (self._shapes(), self.outputs)

    @classmethod
    def tree_unflatten(cls, aux: tuple[Any, ...], children: tuple[Any, ...]) -> Model:
        """The model inside a traced function: without its spec."""
        made = object.__new__(cls)
        made.prior, made.likelihood, made.augmentation = children
        made.bound, made.outputs = aux
        made.network = made.spec = None
        return made


def make_model(
    network: str | Factory = "mlp",
    prior: str | None = "gaussian",
    likelihood: str = "gaussian",
    *,
    augmentation: str | None = None,
    network_options: Mapping[str, Any] | None = None,
    prior_options: Mapping[str, Any] | None = None,
    likelihood_options: Mapping[str, Any] | None = None,
    augmentation_options: Mapping[str, Any] | None = None,
) -> Model:
    """A model from the names of its parts.

    Args:
        network: a registered network, or a factory ``(in_shape, out_shape, *, rngs)`` of a module.
        prior: a registered prior; None where ``prior_options["rules"]`` name one for every
            parameter.
        likelihood: a registered likelihood.
        augmentation: a registered augmentation, or None.
        network_options: options of the network; a factory takes ``gain`` alone.
        prior_options: options of the prior, with ``rules`` by parameter path.
        likelihood_options: options of the likelihood.
        augmentation_options: options of the augmentation; ``combine`` says what likelihood the
            copies imply.

    Raises:
        UnknownNameError: no such part, with the nearest one.
        OptionError: an option that does not exist or a value that is not allowed.
    """
    factory = network if callable(network) else None
    named = network if factory is None else getattr(network, "__name__", type(network).__name__)
    spec = RunSpec(
        network=_component("network", named, network_options),
        prior=_component("prior", prior, prior_options),
        likelihood=_component("likelihood", likelihood, likelihood_options),
        augmentation=_component("augmentation", augmentation, augmentation_options),
    )
    return build_model(spec, factory)


def _component(part: str, name: Any, options: Any) -> Component:
    """A part as :func:`make_model` takes it; raises ``OptionError`` for another type."""
    if not isinstance(name, str | None):
        names = registry.list_names(f"{part}s")
        raise OptionError(f"{part} = {brief(name)}: a name is needed{hint('', names)}")
    if not isinstance(options, Mapping | None):
        raise OptionError(
            f"{part}_options = {brief(options)}: options by name are needed, as "
            f"{part}_options={{'OPTION': VALUE}}; bnnzoo.describe('{part}s', NAME) lists them"
        )
    return Component(name=name, options=dict(options or {}))


def build_model(spec: RunSpec, factory: Factory | None = None) -> Model:
    """The model of a spec's network, prior and likelihood sections, or of its named entry.

    Args:
        spec: what a TOML file holds; sections left out take their defaults.
        factory: the network itself where it is not registered.
    """
    if spec.model.name is not None:
        if named := [s for s in MODEL_PARTS if getattr(spec, s) != Component()]:
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
    slot = None
    if spec.augmentation != Component():
        slot, recorded = _augmentation(spec.augmentation, likelihood)
        resolved = resolved.model_copy(update={"augmentation": recorded})
    model = Model(network, make_prior(prior), likelihood, resolved, slot)
    model.external = source_hash(factory) if factory is not None else ""
    return model


def _names_every_rule(prior: Component) -> bool:
    """Whether rules alone say what the prior is, so that none stands behind them."""
    rules = prior.options.get("rules")
    if not isinstance(rules, Mapping) or not rules:
        return False
    return all(isinstance(rule, Mapping) and "name" in rule for rule in rules.values())


def _augmentation(given: Component, likelihood: Likelihood) -> tuple[Augmentation, Component]:
    """The augmentation, and its record with defaults spelled out."""
    if given.name is None:
        names = registry.list_names("augmentations")
        raise InputError(f"[augmentation] has options and no name{hint('', names)}")
    options = _resolved("augmentations", given.name, given.options)
    slot = registry.get("augmentations", given.name).build(given.options)
    if slot.combine == "averaged-probabilities" and not likelihood.is_distribution:
        raise InputError(
            f"likelihood {likelihood.label!r} is no distribution of the label, so its "
            "probabilities cannot be averaged (nearest: augmentation.combine = 'averaged-logits')"
        )
    return slot, Component(name=given.name, options=options)


def _resolved(kind: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options with their defaults, as plain data: a record outlives a change of default."""
    parsed = registry.get(kind, name).parse(given).model_dump(mode="json", exclude_none=True)
    return {option: value for option, value in parsed.items() if value != {}}


def load_model(name: str, **options: Any) -> Model:
    """A named model of the zoo, as a study published it.

    Args:
        name: its name; ``bnnzoo.list("models")`` gives them all.
        **options: its options; ``bnnzoo.describe("models", name)`` gives them.

    Raises:
        UnknownNameError: no such model, with the nearest one.
        OptionError: an option that does not exist or a value that is not allowed.
    """
    return registry.get("models", name).build(options, "model")
