"""The run folder and its manifest: whole or not at all, and verified when read."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnnzoo import store
from bnnzoo.errors import CorruptRunError, InputError, RunError, RunExistsError, StorageError

ROOT = Path(__file__).parents[2]
SPEC = '[prior]\nname = "gaussian"\nstd = 1.0\n\n[inference]\nseed = 0\n'
MARKS = {"data": "d1", "model": "m1"}


def names(path):
    return sorted(p.name for p in path.iterdir())


def chunk(path):
    return path / "draws.zarr" / "posterior" / "noise" / "c.0.0"


# Preparing a folder


def test_a_new_folder_holds_the_spec_and_a_running_manifest(tmp_path):
    path = tmp_path / "deep" / "er"
    assert store.prepare(path, SPEC, MARKS) == "new"
    assert (path / "run.toml").read_text() == SPEC
    manifest = store.read_manifest(path)
    assert (manifest["state"], manifest["fingerprint"]) == ("running", MARKS)
    assert names(path) == ["manifest.json", "run.toml"]


def test_the_same_run_is_resumable_then_complete(tmp_path):
    path = tmp_path / "a"
    assert store.prepare(path, SPEC, MARKS) == "new"
    assert store.prepare(str(path), SPEC, MARKS) == "resumable"
    store.write_manifest(path, {"state": "stopped"})
    assert store.prepare(path, SPEC, MARKS) == "resumable"
    store.write_manifest(path, {"state": "complete"})
    assert store.prepare(path, SPEC, MARKS) == "complete"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("std = 1.0", "std = 2.0", "prior.std is 1.0 there and 2.0 here"),
        ("std = 1.0", "", "prior.std is 1.0 there and not set here"),
        ("std = 1.0", "std = 1.0\ndf = 3", "prior.df is not set there and 3 here"),
        ('"gaussian"', '"laplace"', "prior.name is 'gaussian' there and 'laplace' here"),
        ("seed = 0", "seed = [0]", "inference.seed is 0 there and [0] here"),
    ],
)
def test_a_different_run_is_refused_by_its_first_difference(run, old, new, words):
    before = {f: f.read_bytes() for f in run.rglob("*") if f.is_file()}
    with pytest.raises(RunExistsError) as caught:
        store.prepare(run, SPEC.replace(old, new), MARKS)
    assert words in str(caught.value)
    assert str(run) in str(caught.value)
    assert before == {f: f.read_bytes() for f in run.rglob("*") if f.is_file()}


@pytest.mark.parametrize("marks", [{"data": "d2", "model": "m1"}, {"data": "d1"}])
def test_other_data_or_another_model_is_a_different_run(run, marks):
    different = "data" if marks["data"] != "d1" else "model"
    with pytest.raises(RunExistsError, match=f"its {different} differs"):
        store.prepare(run, SPEC, marks)


def test_files_that_are_not_a_run_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunExistsError, match=r"files that are not a run \('notes\.txt'\)"):
        store.prepare(tmp_path, SPEC, MARKS)
    assert names(tmp_path) == ["notes.txt"]


def test_what_a_killed_start_leaves_is_taken_over(tmp_path):
    (tmp_path / ".tmp-123-run.toml").write_text("[pri")
    (tmp_path / ".tmp-123-draws.zarr").mkdir()
    (tmp_path / "run.toml").write_text(SPEC)
    assert store.prepare(tmp_path, SPEC, MARKS) == "new"
    assert names(tmp_path) == ["manifest.json", "run.toml"]


def test_half_a_run_is_named(run):
    (run / "run.toml").write_text("[prior\n")
    with pytest.raises(CorruptRunError, match=r"run\.toml cannot be read"):
        store.prepare(run, SPEC, MARKS)
    (run / "run.toml").unlink()
    with pytest.raises(CorruptRunError, match=r"run\.toml is missing"):
        store.prepare(run, SPEC, MARKS)
    (run / "run.toml").write_text(SPEC)
    (run / "manifest.json").unlink()
    with pytest.raises(CorruptRunError, match=r"manifest\.json is missing"):
        store.prepare(run, SPEC, MARKS)


@pytest.mark.parametrize("below", ["", "a", "a/b"])
def test_a_file_in_the_way_is_a_storage_error(tmp_path, below):
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" / below
    with pytest.raises(StorageError, match=r"cannot write .*file.*: (a part of the path|a file)"):
        store.prepare(path, SPEC, MARKS)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_full_disk_leaves_no_folder(tmp_path, full_disk, after):
    full_disk(after)
    with pytest.raises(StorageError) as caught:
        store.prepare(tmp_path / "runs" / "a", SPEC, MARKS)
    assert str(caught.value) == f"cannot write {tmp_path}/runs/a: no space left on the device"
    assert isinstance(caught.value, OSError)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EIO, "input/output error"),
    ],
)
def test_the_reason_is_in_words(tmp_path, monkeypatch, code, words):
    def refuse(self, *args, **kwargs):
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError) as caught:
        store.prepare(tmp_path / "a", SPEC, MARKS)
    assert str(caught.value) == f"cannot write {tmp_path}/a: {words}"


def test_a_run_that_failed_before_its_first_draw_is_discarded(tmp_path):
    path = tmp_path / "a"
    store.prepare(path, SPEC, MARKS)
    store.save_checkpoint(path, "data", {"x": np.ones(2)}, {})
    store.save_checkpoint(path, "chain-0", {"x": np.ones(2)}, {})
    store.discard_unstarted(path)
    assert names(path) == ["checkpoint", "manifest.json", "run.toml"]
    (path / "checkpoint" / "chain-0.npz").unlink()
    (path / "notes.txt").write_text("mine")
    store.discard_unstarted(path)
    assert names(path) == ["notes.txt"]
    (path / "notes.txt").unlink()
    store.discard_unstarted(path)
    assert names(tmp_path) == []


def test_a_run_with_draws_is_never_discarded(run):
    store.discard_unstarted(run)
    store.read_tree(run)


# Manifest


def test_a_manifest_comes_back_with_numpy_values_plain(tmp_path):
    manifest = {"metrics": {"rmse": np.float32(0.5), "rows": np.arange(3)}, "label": "μ, T=0.1"}
    store.write_manifest(tmp_path, manifest)
    assert store.read_manifest(tmp_path) == {
        "format": store.FORMAT,
        "metrics": {"rmse": 0.5, "rows": [0, 1, 2]},
        "label": "μ, T=0.1",
    }


def test_the_fingerprint_outlives_a_new_manifest(run):
    assert store.read_manifest(run)["fingerprint"] == MARKS
    store.write_manifest(run, {"state": "complete", "fingerprint": {"data": "d9"}})
    assert store.read_manifest(run)["fingerprint"] == {"data": "d9"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ('{"format": 1', "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "holds no JSON object"),
        ("{}", "has format None; this version reads format 1"),
        ('{"format": 2}', "has format 2; this version reads format 1"),
    ],
)
def test_a_corrupted_manifest_is_named(run, text, words):
    (run / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    for read in (store.read_manifest, store.verify, store.read_tree):
        with pytest.raises(CorruptRunError) as caught:
            read(run)
        assert f"{run}/manifest.json" in str(caught.value)
        assert words in str(caught.value)


def test_no_run_there(run):
    with pytest.raises(RunError, match=r"no run at .*/b; choices: a") as caught:
        store.read_manifest(run.parent / "b")
    assert not isinstance(caught.value, CorruptRunError)
    with pytest.raises(RunError, match="it is not a folder"):
        store.read_manifest(run / "run.toml")
    (run / "manifest.json").unlink()
    with pytest.raises(CorruptRunError, match=r"manifest\.json is missing"):
        store.read_manifest(run)


def test_a_failed_write_leaves_the_old_manifest_and_nothing_else(run, full_disk):
    old = store.read_manifest(run)
    before = names(run)
    full_disk()
    with pytest.raises(StorageError, match="no space left"):
        store.write_manifest(run, {"state": "other"})
    assert store.read_manifest(run) == old
    assert names(run) == before


def test_a_kill_between_writing_and_renaming_leaves_the_old_manifest(run):
    old = store.read_manifest(run)
    code = (
        "import os, sys; from bnnzoo import store; os.replace = lambda *_: os._exit(9);"
        "store.write_manifest(sys.argv[1], {'state': 'other'})"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(run)], cwd=ROOT, check=False)
    assert killed.returncode == 9
    assert [n for n in names(run) if n.startswith(".tmp-")]  # it was killed after the writing
    assert store.read_manifest(run) == old
    store.read_tree(run)  # what was left behind is in nobody's way
    assert store.prepare(run, SPEC, MARKS) == "complete"
    assert not [n for n in names(run) if n.startswith(".tmp-")]


# Verifying


def test_hashes_cover_every_file_but_the_manifest_and_checkpoints(run):
    store.save_checkpoint(run, "chain-0", {"x": np.ones(2)}, {})
    files = store.file_hashes(run)
    assert "run.toml" in files
    assert "draws.zarr/posterior/noise/zarr.json" in files
    assert not [name for name in files if name.startswith(("manifest", "checkpoint"))]
    assert files == store.verify(run)["files"]
    assert files["run.toml"]["bytes"] == len(SPEC)


def damage_missing(file):
    file.unlink()


def damage_truncated(file):
    file.write_bytes(file.read_bytes()[:-1])


def damage_changed(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def damage_grown(file):
    file.write_bytes(file.read_bytes() + b"\0")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_missing, "is missing"),
        (damage_truncated, "is truncated: 47 of 48 bytes"),
        (damage_changed, "has changed"),
        (damage_grown, "has changed"),
    ],
)
def test_a_damaged_chunk_is_named_and_refused(run, damage, words):
    store.read_tree(run)
    damage(chunk(run))
    for read in (store.verify, store.read_tree):
        with pytest.raises(CorruptRunError) as caught:
            read(run)
        assert f"{chunk(run)} {words}" in str(caught.value)


def test_every_file_is_watched(run):
    for name in store.file_hashes(run):
        content = (run / name).read_bytes()
        (run / name).unlink()
        with pytest.raises(CorruptRunError, match="is missing"):
            store.verify(run)
        (run / name).write_bytes(content)
    store.verify(run)


def test_an_extra_file_among_the_draws_is_refused(run):
    (run / "notes.txt").write_text("the user's own")  # beside them it is nobody's business
    store.verify(run)
    (chunk(run).parent / "c.0.1").write_bytes(b"\0" * 48)
    with pytest.raises(CorruptRunError, match=r"noise/c\.0\.1 is not in the manifest"):
        store.verify(run)


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "draws.zarr/../../../x"])
def test_a_manifest_that_names_files_elsewhere_is_refused(run, name):
    files = store.file_hashes(run) | {name: {"bytes": 0, "sha256": ""}}
    store.write_manifest(run, {"state": "complete", "files": files})
    with pytest.raises(CorruptRunError, match="outside the run"):
        store.verify(run)


@pytest.mark.parametrize(
    "files", [[], {"run.toml": "abc"}, {"run.toml": {"bytes": "x", "sha256": 1}}]
)
def test_a_manifest_with_odd_entries_is_refused(run, files):
    store.write_manifest(run, {"state": "complete", "files": files})
    with pytest.raises(CorruptRunError, match=r"manifest\.json"):
        store.verify(run)


# -- one at a time -------------------------------------------------------------------------------


def test_who_comes_second_is_refused_until_the_first_is_done(tmp_path):
    folder = tmp_path / "deep" / "run"
    with store.alone(folder):
        with pytest.raises(InputError, match="another process is at work in"), store.alone(folder):
            pass
        assert folder.is_dir(), "the first one's"
    with store.alone(folder):
        pass


def test_what_was_made_goes_at_an_error_unless_it_holds_something(tmp_path):
    with pytest.raises(ZeroDivisionError), store.alone(tmp_path / "deep" / "run"):
        raise ZeroDivisionError
    assert not (tmp_path / "deep").exists()
    with pytest.raises(ZeroDivisionError), store.alone(tmp_path / "deep" / "run"):
        (tmp_path / "deep" / "run" / "kept").write_text("!")
        raise ZeroDivisionError
    assert (tmp_path / "deep" / "run" / "kept").exists()
