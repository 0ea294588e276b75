"""The loop: nothing compiled twice, stopped anywhere without loss, failures seen."""

from __future__ import annotations

import dataclasses
import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import register_dataclass

import bnnzoo as bz
from bnnzoo import registry
from bnnzoo.inference import checkpoint, loop
from bnnzoo.inference.backend import Backend, Flag, Stage, Step
from bnnzoo.models.handwritten import source_hash

SMALL = {"chains": 2, "draws": 250, "warmup": 150, "progress": False}


@pytest.fixture(scope="module")
def data():
    return bz.load_dataset("gap", n=20, seed=0)


def small_model(prior="gaussian", **prior_options):
    return bz.make_model(prior=prior, network_options={"widths": [3]}, prior_options=prior_options)


def draws_of(run):
    posterior = run.tree["posterior"]
    return {name: posterior[name].to_numpy() for name in posterior.data_vars}


def assert_same(a, b):
    a, b = draws_of(a), draws_of(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture
def compilations():
    """Names of the programs XLA was asked to compile while a test ran."""
    seen: list[str] = []
    listening = True

    def listen(event: str, duration: float, **kwargs: object) -> None:
        if listening and event.endswith("backend_compile_duration"):
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    listening = False


@pytest.mark.parametrize(
    "backend",
    [
        "hmc",
        pytest.param("mean-field-vi", marks=pytest.mark.validate),
        pytest.param("nuts", marks=pytest.mark.validate),
        pytest.param("mclmc", marks=pytest.mark.validate),
    ],
)
def test_a_second_fit_of_the_same_shapes_compiles_nothing(backend, data, compilations):
    shapes = {"widths": [9]}  # that no other test has: whatever ran before compiled nothing of it
    first = bz.make_model(network_options=shapes, prior_options={"std": 1.0})
    bz.fit(first, data, backend, seed=0, **SMALL)
    assert compilations  # the listener hears compilations
    compilations.clear()
    other = bz.load_dataset("gap", n=20, seed=1)
    second = bz.make_model(network_options=shapes, prior_options={"std": 0.5})
    bz.fit(
        second, other, backend, seed=1, posterior_temperature=0.7,
        likelihood_temperature=0.9, **SMALL,
    )  # fmt: skip
    assert compilations == []


@pytest.mark.validate
def test_a_fit_traces_each_program_once_and_in_the_main_thread(data, monkeypatch):
    """NumPyro's handler stack is global, so a trace in a worker thread could corrupt another's."""
    traced = []
    density = bz.Posterior.log_density

    def spy(self, u, batch=None):
        traced.append(threading.current_thread() is threading.main_thread())
        return density(self, u, batch)

    monkeypatch.setattr(bz.Posterior, "log_density", spy)
    model = bz.make_model(network_options={"widths": [4]})  # shapes no other test has
    bz.fit(model, data, "hmc", **SMALL)
    assert traced and all(traced)
    before = len(traced)
    bz.fit(model, data, "hmc", **SMALL)
    assert len(traced) == before


def test_same_seed_same_draws_other_seed_others(data):
    first, second = (bz.fit(small_model(), data, "hmc", seed=3, **SMALL) for _ in range(2))
    assert_same(first, second)
    third = bz.fit(small_model(), data, "hmc", seed=4, **SMALL)
    assert not np.array_equal(draws_of(first)["noise_std"], draws_of(third)["noise_std"])


def test_chains_do_not_depend_on_how_many_there_are(data):
    two = bz.fit(small_model(), data, "hmc", seed=3, **SMALL)
    three = bz.fit(small_model(), data, "hmc", seed=3, **{**SMALL, "chains": 3})
    np.testing.assert_array_equal(draws_of(two)["noise_std"], draws_of(three)["noise_std"][:2])


@pytest.mark.validate
@pytest.mark.parametrize("backend", ["hmc", "mean-field-vi"])
def test_vmapped_chains_are_the_same_chains(backend, data, tmp_path, monkeypatch):
    """What runs on an accelerator: one program for all chains, stopped and resumed.

    Rounding differs between the two programs and HMC's rejections amplify it, so its draws are
    compared over the first steps alone.
    """
    sizes = {**SMALL, "warmup": 10, "draws": 60}
    threads = bz.fit(small_model(), data, backend, dtype="float64", seed=2, **sizes)
    monkeypatch.setattr(loop, "chains_on_threads", lambda: False)
    monkeypatch.setattr(loop, "SEGMENT_STEPS", 25)
    monkeypatch.setattr(loop, "FIRST_STEPS", 25)
    folder = tmp_path / "run"
    stopped = bz.fit(
        small_model(), data, backend, dtype="float64", seed=2, out=folder, max_time=0.0,
        **{**sizes, "warmup": 0},
    )  # fmt: skip
    assert stopped.manifest["state"] == "stopped"
    assert stopped.tree["posterior"].sizes["draw"] == 25
    assert bz.resume(folder, progress=False).tree["posterior"].sizes["draw"] == 60
    vmapped = bz.fit(small_model(), data, backend, dtype="float64", seed=2, **sizes)
    for name, ours in draws_of(vmapped).items():
        steps = 5 if backend == "hmc" else 60
        np.testing.assert_allclose(
            ours[:, :steps], draws_of(threads)[name][:, :steps], rtol=1e-6, atol=1e-8, err_msg=name
        )


class Interrupting:
    """A monitor that stops the run after some segments, as Ctrl-C would."""

    def __init__(self, after):
        self.left = after

    def start(self, done):
        pass

    def advance(self, chain, steps, sampling, gradients, divergences):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize("after", [1, 3, 6])
@pytest.mark.parametrize(
    "backend", ["hmc", pytest.param("mean-field-vi", marks=pytest.mark.validate)]
)
def test_an_interrupted_run_resumes_to_the_same_draws(backend, after, data, tmp_path, monkeypatch):
    whole = bz.fit(small_model(), data, backend, seed=5, **SMALL)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("bnnzoo.inference.fitting.ProgressBar", lambda *_: Interrupting(after))
    with pytest.raises(KeyboardInterrupt):
        bz.fit(small_model(), data, backend, seed=5, out=tmp_path / "run", **SMALL)
    monkeypatch.undo()
    with pytest.raises(bz.errors.RunError, match="not finished"):
        bz.load_run(tmp_path / "run")
    resumed = bz.resume(tmp_path / "run", progress=False)
    assert_same(whole, resumed)
    assert resumed.manifest["state"] == "complete"
    assert not (tmp_path / "run" / "checkpoint").exists()
    assert_same(whole, bz.load_run(tmp_path / "run"))


def test_max_time_keeps_what_there_is_and_resume_goes_on(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "FIRST_STEPS", 100)
    folder = tmp_path / "run"
    sizes = SMALL
    whole = bz.fit(small_model(), data, "hmc", seed=6, **sizes)
    with pytest.raises(bz.errors.RunError, match="before the first draw"):
        bz.fit(small_model(), data, "hmc", seed=6, out=folder, max_time=0.0, **sizes)
    seen = []
    for _ in range(100):
        try:
            run = bz.resume(folder, progress=False, max_time=1e-4)  # one segment a chain
        except bz.errors.RunError as error:
            assert "before the first draw" in str(error)
            continue
        seen.append((run.manifest["state"], run.tree["posterior"].sizes["draw"]))
        assert bz.load_run(folder).tree["posterior"].sizes["draw"] == seen[-1][1]
        if run.manifest["state"] == "complete":
            break
    assert seen[-1] == ("complete", 250)
    assert any(state == "stopped" and 0 < draws < 250 for state, draws in seen)
    assert_same(whole, run)


def test_a_finished_run_is_given_back_and_another_refused(data, tmp_path):
    folder = tmp_path / "run"
    first = bz.fit(small_model(), data, "hmc", out=folder, **SMALL)
    written = (folder / "manifest.json").stat().st_mtime_ns
    again = bz.fit(small_model(), data, "hmc", out=folder, **SMALL)
    assert (folder / "manifest.json").stat().st_mtime_ns == written
    assert_same(first, again)
    with pytest.raises(bz.errors.RunExistsError, match=r"inference\.seed"):
        bz.fit(small_model(), data, "hmc", out=folder, seed=9, **SMALL)


@functools.partial(register_dataclass, data_fields=(), meta_fields=("kind",))
@dataclasses.dataclass(frozen=True)
class Broken(Backend):
    """A random walk that turns NaN in the chains that start above zero, or is flagged as stuck."""

    kind: str
    stats = ("lp",)

    def schedule(self, warmup):
        return np.full(warmup, Stage.FAST, np.int32)

    def init(self, posterior, u):
        return u, u[0] > 0

    def step(self, posterior, state, stage, key):
        u, doomed = state
        u = u + 0.1 * jax.random.normal(key, u.shape)
        if self.kind == "nan":
            u = jnp.where(doomed & (stage == Stage.SAMPLE), jnp.nan, u)
        return (u, doomed), Step(u, {"lp": posterior.log_density(u)})

    def gradients(self, stats):
        return 0

    def flags(self, stats, warmup):
        return [Flag("stuck", "planted")] if self.kind == "stuck" else []


@pytest.fixture
def broken():
    for kind in ("nan", "stuck"):
        register = registry.register("backends", f"broken-{kind}", summary="For a test.")
        register(functools.partial(lambda kind, options: Broken(kind), kind))
    yield
    for kind in ("nan", "stuck"):
        registry.unregister("backends", f"broken-{kind}")


def test_a_chain_that_turns_nan_is_flagged_and_the_others_go_on(broken, data):
    run = bz.fit(small_model(), data, "broken-nan", seed=1, **{**SMALL, "chains": 6})
    flagged = {flag["chain"] for flag in run.manifest["flags"] if flag["kind"] == "nan"}
    assert flagged and len(flagged) < 6
    finite = np.isfinite(run.tree["posterior"]["layers.0.kernel"].to_numpy()).all((1, 2, 3))
    assert {c for c in range(6) if not finite[c]} == flagged
    assert np.isnan(run.metrics()["nll"])  # never averaged over in silence


def test_a_backends_own_flags_reach_the_manifest(broken, data):
    run = bz.fit(small_model(), data, "broken-stuck", **SMALL)
    kinds = [flag["kind"] for flag in run.manifest["flags"]]
    assert kinds.count("stuck") == 2 and set(kinds) <= {"stuck", "virial"}


@pytest.mark.validate
def test_what_is_odd_about_the_data_is_said():
    x = np.stack([np.linspace(-1, 1, 20), np.ones(20)], 1)
    constant = bz.make_dataset(x, x[:, 0], task="regression")
    with pytest.warns(bz.errors.DataWarning, match="constant"):
        bz.fit(small_model(), constant, "hmc", **{**SMALL, "draws": 10, "warmup": 10})


@pytest.mark.validate
def test_float64_is_of_the_run_alone(data):
    run = bz.fit(small_model(), data, "hmc", dtype="float64", **SMALL)
    assert run.tree["posterior"]["layers.0.kernel"].dtype == np.float64
    assert jnp.zeros(1).dtype == jnp.float32
    single = bz.fit(small_model(), data, "hmc", **SMALL)
    assert single.tree["posterior"]["layers.0.kernel"].dtype == np.float32


@pytest.mark.validate
def test_a_float64_constant_of_a_model_does_not_outlive_its_precision(data):
    """JAX keeps the type of a NumPy constant in a loop from float64 to float32 and fails."""
    import numpyro
    import numpyro.distributions as dist

    widths = np.geomspace(0.5, 1.0, 7)

    def closes_over(x, y=None):
        w = numpyro.sample("w", dist.Normal(0.0, widths).to_event(1))
        numpyro.sample("y", dist.Normal(x[:, 0] * w.sum(), 1.0), obs=y)

    sizes = {**SMALL, "draws": 10, "warmup": 10}
    for dtype in ("float64", "float32", "float64"):
        run = bz.fit(closes_over, data, "hmc", dtype=dtype, **sizes)
        assert run.tree["posterior"]["w"].dtype == dtype


def test_predictions_survive_loading(data, tmp_path):
    run = bz.fit(small_model(), data, "hmc", out=tmp_path / "run", **SMALL)
    loaded = bz.load_run(tmp_path / "run")
    x = data.x_test[:7]
    np.testing.assert_array_equal(run.predict(x).mean, loaded.predict(x).mean)
    f = loaded.predict(x, raw=True)
    assert f.shape == (2, 250, 7, 1)
    prediction = loaded.predict(x)
    np.testing.assert_allclose(prediction.mean, f.mean((0, 1))[:, 0], rtol=1e-4, atol=1e-5)
    assert (prediction.std > f.std((0, 1))[:, 0]).all()  # noise is part of it


def test_checkpoint_writes_each_draw_once(data, tmp_path, monkeypatch):
    """Disk use grows with the draws, not with their square."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    sizes: list[int] = []
    save = checkpoint.store.save_checkpoint

    def spy(path, name, arrays, meta):
        sizes.append(sum(a.nbytes for a in arrays.values()))
        save(path, name, arrays, meta)

    monkeypatch.setattr(checkpoint.store, "save_checkpoint", spy)
    run = bz.fit(small_model(), data, "hmc", out=tmp_path / "run", **{**SMALL, "draws": 1000})
    draws = sum(array.nbytes for array in draws_of(run).values())
    assert draws < sum(sizes) < 3 * draws


def wide(in_shape, out_shape, *, rngs):
    """A network the registry does not have."""
    return nnx.Linear(in_shape[0], out_shape[0], rngs=rngs)


def narrow(in_shape, out_shape, *, rngs):
    return nnx.Linear(in_shape[0], out_shape[0], use_bias=False, rngs=rngs)


@pytest.mark.validate
def test_a_model_from_outside_the_registry_has_to_be_given_again(data, tmp_path):
    folder = tmp_path / "run"
    run = bz.fit(bz.make_model(wide), data, "hmc", out=folder, **SMALL)
    x = data.x_test[:3]
    without = bz.load_run(folder)
    assert_same(run, without)
    with pytest.raises(bz.errors.RunError, match="not in the registry"):
        without.predict(x)
    again = bz.load_run(folder, model=bz.make_model(wide))
    np.testing.assert_array_equal(again.predict(x).mean, run.predict(x).mean)
    with pytest.raises(bz.errors.InputError, match="its source differs"):
        bz.load_run(folder, model=bz.make_model(narrow))
    with pytest.raises(bz.errors.InputError, match="its prior is"):
        bz.load_run(folder, model=bz.make_model(wide, prior="laplace"))


def test_a_hand_written_model_is_known_by_what_it_closes_over():
    def make(std):
        def model(x, y=None):
            return std

        return model

    assert source_hash(make(1.0)) == source_hash(make(1.0))
    assert source_hash(make(1.0)) != source_hash(make(2.0))
    assert source_hash(functools.partial(make, 1)) != source_hash(functools.partial(make, 2))


def test_chains_take_turns(monkeypatch):
    """With more chains than threads, each has a segment before any has its next."""
    monkeypatch.setattr(loop, "FIRST_STEPS", 100)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    order = []

    class Ticks:
        def start(self, done):
            assert done == 0

        def advance(self, chain, steps, sampling, gradients, divergences):
            order.append(chain)

    data = bz.make_dataset(np.arange(8.0)[:, None], np.arange(8.0), task="regression")
    posterior = bz.Posterior(bz.make_model(network_options={"widths": [2]}), data)
    backend = registry.get("backends", "hmc").build({})
    settings = dict(chains=5, draws=300, warmup=100, seed=0, dtype="float32")
    loop.run_chains(backend.planned(100), posterior, monitor=Ticks(), **settings)
    assert order == list(range(5)) * 4, "four segments each, in turn"


def test_time_that_is_up_leaves_no_folder_to_resume():
    data = bz.make_dataset(np.arange(8.0)[:, None], np.arange(8.0), task="regression")
    with pytest.raises(bz.errors.RunError, match="give it more time, or a folder") as caught:
        bz.fit(small_model(), data, "hmc", warmup=500, max_time=1e-6, progress=False)
    assert "resume" not in str(caught.value)
