"""What is kept between processes: programs are compiled once, and old ones make room."""

import os
import subprocess
import sys
from pathlib import Path

import bnnzoo as bz
from bnnzoo import cache

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys
import bnnzoo as bz
if "late" in sys.argv:
    import jax
folder = bz.keep_programs()
import jax
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((3, 3)))
print(folder)
print(sum(name == "/jax/compilation_cache/cache_hits" for name in hits))
"""


def run(place: Path, *arguments: str, **settings: str) -> tuple[Path, int]:
    """The folder in use, and how many programs came from it."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "BNNZOO_"))}
    settings = {"BNNZOO_CACHE": str(place), "JAX_PLATFORMS": "cpu"} | settings
    settings["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT, env=keep | settings, capture_output=True, text=True, check=True,
    )  # fmt: skip
    folder, hits = told.stdout.split()
    return Path(folder), int(hits)


def test_the_next_process_compiles_nothing_again(tmp_path):
    folder, hits = run(tmp_path)
    assert folder.parent == tmp_path / "programs" and hits == 0
    again, hits = run(tmp_path, "late")  # JAX is there before it is told
    assert again == folder and hits > 0


def test_a_cache_of_the_users_own_stays(tmp_path):
    own = tmp_path / "own"
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(own))[0] == own
    assert not (tmp_path / "programs").exists()


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("BNNZOO_CACHE", str(tmp_path / "file" / "cache"))
    assert cache.keep_programs() is None
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_the_programs_unused_for_longest_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MOST_BYTES", 25)
    for age, name in enumerate(("new", "middle", "old")):
        place = tmp_path / name
        place.write_bytes(b"0" * 10)
        os.utime(place, (1e9 - age, 1e9 - age))
    cache._forget_oldest(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["middle", "new"]
    cache._forget_oldest(tmp_path / "nowhere")


def test_it_is_part_of_the_public_interface():
    assert bz.keep_programs is cache.keep_programs
