"""Networks beside their cards: roles and fan-in, parameter counts, and what each refuses.

Nothing is random but values that go in.
"""

import math
import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bnnzoo import registry
from bnnzoo.datasets import make_dataset
from bnnzoo.errors import InputError, OptionError
from bnnzoo.inference.network_layers import find_layers
from bnnzoo.models import Posterior, make_model
from tests.models.test_networks import IMAGES, SEQUENCES, TABLE, WORDS, inputs, network, weights

# -- what a prior and a reader of programs see ---------------------------------------------------


def test_roles_and_fan_in_of_parameters_that_are_no_kernels_of_layers():
    def infos(name, shape, **options):
        return {i.path: i for i in network(name, **options).bind(shape, 1).infos}

    table = infos("transformer", TABLE)
    assert table["tokens.kernel"].fan_in == 1 and table["tokens.kernel"].role == "kernel"
    assert table["tokens.bias"].role == "bias"
    words = infos("transformer", (5,), vocabulary=7, pool="class-token")
    for path in ("tokens.position", "tokens.layer.embedding", "class_token"):
        assert words[path].role == "embedding" and words[path].unit == 1.0
    patches = infos("transformer", (8, 8, 3), parameterisation="ntk")
    assert patches["tokens.layer.kernel"].fan_in == 4 * 4 * 3
    assert patches["tokens.layer.kernel"].unit == 1.0
    lstm = infos("lstm", SEQUENCES, units=4)
    assert lstm["cells.0.inputs.kernel"].fan_in == 3
    assert lstm["cells.0.recurrent.kernel"].fan_in == 4
    unit = infos("resnet20", IMAGES, width=2, depth=8)
    roles = {p.rpartition(".")[2]: i.role for p, i in unit.items() if ".norm." in p}
    assert roles == {"scale": "scale", "bias": "bias", "threshold": "bias"}
    assert unit["blocks.1.shortcut.conv.kernel"].fan_in == 2
    assert unit["blocks.1.first.conv.kernel"].fan_in == 3 * 3 * 2


TYPICAL = [
    ("mlp", (13,), 1, {}),
    ("mlp", (784,), 10, {"widths": [50, 50]}),
    ("deep-linear", (13,), 1, {}),
    ("additive", (13,), 1, {}),
    ("cnn", (28, 28, 1), 10, {}),
    (
        "cnn",
        (28, 28, 1),
        10,
        {
            "channels": [6, 16],
            "kernel": 5,
            "padding": ["same", "valid"],
            "pool": "average",
            "dense": [120, 84],
            "activation": "tanh",
        },
    ),
    ("resnet20", (32, 32, 3), 10, {}),
    ("resnet20", (32, 32, 3), 10, {"shortcut": "padded"}),
    (
        "resnet20",
        (32, 32, 3),
        10,
        {"shortcut": "padded", "bias": False, "normalisation": "none"},
    ),
    ("lstm", (100, 5), 1, {}),
    ("lstm", (100,), 1, {"vocabulary": 20_000}),
    ("transformer", (13,), 1, {}),
    ("transformer", (28, 28, 1), 10, {}),
    ("transformer", (100,), 2, {"vocabulary": 20_000, "padding": 0}),
]


def test_cards_count_their_parameters():
    """Every figure of a thousand and more, or followed by "parameters", is one that is counted."""
    counted = {}
    for name, shape, outputs, options in TYPICAL:
        infos = network(name, **options).bind(shape, outputs).infos
        counted.setdefault(name, set()).add(sum(math.prod(i.shape) for i in infos))
    assert set(counted) == set(registry.list_names("networks"))
    for name, counts in counted.items():
        notes = registry.describe("networks", name).notes
        written = {int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\d", notes)}
        assert counts <= written, (name, counts - written)


@pytest.mark.parametrize(
    ("name", "options"),
    [("cnn", {"channels": [2]}), ("deep-linear", {"widths": [3]}), ("additive", {"widths": [3]})],
)
def test_layers_are_found_for_kronecker_factors(name, options):
    data = TABLES[name]
    model = make_model(name, network_options=options)
    post = Posterior(model, data)
    found = {layer.kernel for layer in find_layers(post)} - {None}
    assert found == {i.path for i in post.network.infos if i.role == "kernel"}


TARGETS = np.array([0.3, -1.0, 0.9, 0.2, -0.4, 0.0])
TABLES = {
    "cnn": make_dataset(inputs(IMAGES, rows=6), TARGETS, task="regression"),
    "deep-linear": make_dataset(inputs(TABLE, rows=6), TARGETS, task="regression"),
    "additive": make_dataset(inputs(TABLE, rows=6), TARGETS, task="regression"),
}


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "shape", "message"),
    [
        ("cnn", {}, (64,), r"inputs are images .* shape \(64,\): give network.shape = \[8, 8\]"),
        ("resnet20", {}, (10,), r"resnet20: .*give network.shape = \[height, width, channels\]"),
        ("transformer", {"tokens": "patches"}, (64,), r"give network.shape = \[8, 8\]"),
        (
            "cnn",
            {"shape": [8, 9]},
            (64,),
            r"network.shape = \[8, 9\] has 72 values, an input has 64",
        ),
        ("cnn", {}, (2, 3, 4, 5), r"cnn: its inputs are images .*\(2, 3, 4, 5\)"),
        ("cnn", {"channels": [2] * 3}, IMAGES, r"\(6, 4\) are used up by convolution 2"),
        ("transformer", {"patch": 4}, IMAGES, r"patch = 4 does not divide .*choices: 1, 2\)"),
        ("transformer", {"tokens": "columns"}, IMAGES, r"'columns' is for inputs \(column,\)"),
        ("lstm", {}, IMAGES, r"sequences \(step, feature\).*\(6, 4, 2\)"),
        ("lstm", {"vocabulary": 9}, SEQUENCES, r"network.vocabulary makes .*leave it out"),
        ("additive", {}, IMAGES, r"rows of features.*'mlp' flattens"),
    ],
)
def test_inputs_of_another_kind_are_refused(name, options, shape, message):
    with pytest.raises(InputError, match=message) as caught:
        network(name, **options).bind(shape, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"residual": True}, r"network.residual = True: should be 'none', '1'"),
        ("mlp", {"residual": "1/depth"}, r"network.residual = '1/depth'"),
        ("cnn", {"kernel": [3]}, r"network.kernel has 1 entries, network.channels has 2"),
        ("cnn", {"activation": "rleu"}, r"did you mean 'relu'"),
        ("cnn", {"shape": [8]}, r"network.shape"),
        ("resnet20", {"depth": 18}, r"network.depth = 18: should be 6 n \+ 2 \(nearest: 20\)"),
        ("transformer", {"heads": 5}, r"heads = 5 does not divide .*= 32 \(nearest: 4\)"),
        ("transformer", {"tokens": "words"}, r"words need a vocabulary"),
        ("transformer", {"tokens": "columns", "vocabulary": 5}, r"contradict"),
        ("transformer", {"padding": 0}, r"network.padding = 0 has no effect on transformer"),
        ("lstm", {"vocabulary": 3, "padding": 3}, r"no number below network.vocabulary = 3"),
    ],
)
def test_options_that_cannot_be_are_refused(name, options, message):
    with pytest.raises((OptionError, InputError), match=message) as caught:
        network(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "scale", "message"),
    [
        (WORDS, "auto", r"'arrays' standardises them: load it with scale = 'none'"),
        (WORDS + 0.5, "none", r"numbers of words, but data set 'arrays' holds 3.5"),
        (WORDS - 1, "none", r"holds -1"),
        (WORDS + 1, "none", r"the number 5, but network.vocabulary = 5 \(nearest: 6\)"),
    ],
)
@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_data_that_are_no_words_are_refused(name, x, scale, message):
    data = make_dataset(x, [0, 1, 0], task="classification", scale=scale)
    model = make_model(name, likelihood="categorical", network_options={"vocabulary": 5})
    with pytest.raises(InputError, match=message):
        Posterior(model, data)


def test_a_word_outside_the_vocabulary_is_no_other_word():
    bound = network("lstm", vocabulary=5, units=2).bind((3,), 1)
    w = {p: jnp.asarray(v) for p, v in weights(bound).items()}
    f = bound.apply(w, jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, 5.0], [1.0, 2.0, -1.0]]))
    assert np.isnan(f[:, 0]).tolist() == [False, True, True]


def test_batch_normalisation_in_a_residual_network_is_refused_with_the_reason():
    class Published(nnx.Module):
        def __init__(self, in_shape, out_shape, *, rngs):
            self.conv = nnx.Conv(in_shape[-1], 4, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.last = nnx.Linear(4, *out_shape, rngs=rngs)

        def __call__(self, x):
            return self.last(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))

    with pytest.raises(InputError, match=r"batch statistics .* row depend on its batch.*LayerNorm"):
        make_model(Published).bind(TABLES["cnn"])
    assert "BatchNorm" in registry.describe("networks", "resnet20").notes


def test_a_residual_of_1_may_be_a_number_as_toml_reads_it():
    spec = make_model(network_options={"residual": 1, "widths": [3, 3]}).spec
    assert spec.network.options["residual"] == "1"
    assert network("mlp", residual=1).label == network("mlp", residual="1").label
