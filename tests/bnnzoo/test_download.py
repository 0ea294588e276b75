"""Files from the network, against a real server on this machine."""

import hashlib
import io
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bnnzoo.cache import cache_folder
from bnnzoo.datasets import _download
from bnnzoo.datasets._remote import RemoteFile, fetch
from bnnzoo.errors import InputError, StorageError
from tests.bnnzoo._server import serving

CONTENT = np.random.default_rng(0).bytes(300_000)


@pytest.fixture
def server():
    with serving(CONTENT) as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, no data folder, no proxy between us and this machine."""
    for name in ("BNNZOO_DATA", "BNNZOO_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("BNNZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(cache):
    """Files in the cache, without the locks."""
    files = (p for p in cache.rglob("*") if p.is_file())
    return sorted(p.name for p in files if not p.name.endswith(".lock"))


def refused(file, *words):
    with pytest.raises(InputError) as caught:
        fetch(file)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text
    return text


def test_a_file_is_downloaded_once_and_then_found(server, cache):
    file = server.file()
    assert fetch(file) == cache / "a" / "file.txt"
    assert fetch(file).read_bytes() == CONTENT
    assert server.asked == [None]
    assert kept(cache) == ["file.txt"]


def test_the_users_own_folder_comes_first(server, cache, tmp_path, monkeypatch):
    own = tmp_path / "own"
    (own / "a").mkdir(parents=True)
    (own / "a" / "file.txt").write_bytes(CONTENT)
    monkeypatch.setenv("BNNZOO_DATA", str(own))
    assert fetch(server.file()) == own / "a" / "file.txt"
    assert fetch(server.file(path="a/other.txt")) == cache / "a" / "other.txt"
    assert server.asked == [None]


def test_another_file_in_the_users_own_folder_is_refused_and_left_alone(
    server, cache, tmp_path, monkeypatch
):
    own = tmp_path / "a" / "file.txt"
    own.parent.mkdir()
    own.write_bytes(CONTENT[::-1])
    monkeypatch.setenv("BNNZOO_DATA", str(tmp_path))
    refused(server.file(), str(own), "is not the published file", server.url)
    assert own.read_bytes() == CONTENT[::-1]
    assert server.asked == []


def test_a_folder_that_does_not_exist_is_not_passed_over(server, tmp_path, monkeypatch):
    monkeypatch.setenv("BNNZOO_DATA", str(tmp_path / "typo"))
    refused(server.file(), "BNNZOO_DATA names", "typo", "no folder")
    assert server.asked == []


def test_a_wrong_hash_leaves_nothing(server, cache):
    file = replace(server.file(), sha256=hashlib.sha256(b"else").hexdigest())
    refused(file, server.url, "SHA-256", file.sha256[:12], "nothing was kept")
    assert kept(cache) == []
    assert server.asked == [None]


def test_a_wrong_hash_leaves_what_was_there_before(server, cache):
    file = server.file()
    fetch(file)
    refused(replace(file, sha256=hashlib.sha256(b"else").hexdigest()), "SHA-256")
    assert (cache / "a" / "file.txt").read_bytes() == CONTENT
    assert kept(cache) == ["file.txt"]


def test_a_damaged_file_in_the_cache_is_downloaded_again(server, cache):
    file = server.file()
    place = fetch(file)
    for damaged in (CONTENT[:-1], bytes(len(CONTENT))):  # shorter; as long with other bytes
        place.write_bytes(damaged)
        assert fetch(file).read_bytes() == CONTENT
    assert server.asked == [None, None, None]


def test_a_cut_connection_is_resumed(server, cache):
    server.cuts = [100_000, 50_000]
    assert fetch(server.file()).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]
    assert server.sent == [100_000, 50_000, 150_000]
    assert kept(cache) == ["file.txt"]


def test_a_later_call_goes_on_where_the_last_one_gave_up(server, cache):
    server.cuts = [100_000, 0, 0, 0]
    text = refused(server.file(), "ended early", "100000 of 300000 bytes are kept")
    assert str(cache / "a" / "file.txt") in text
    assert kept(cache) == ["file.txt.part"]
    assert fetch(server.file()).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=100000-"
    assert server.sent[-1] == 200_000
    assert kept(cache) == ["file.txt"]


def test_a_server_without_ranges_starts_over(server, cache):
    server.ranges = False
    server.cuts = [100_000]
    assert fetch(server.file()).read_bytes() == CONTENT
    assert server.asked == [None, None]  # its part was not worth keeping
    (cache / "a" / "file.txt").rename(cache / "a" / "file.txt.part")
    with open(cache / "a" / "file.txt.part", "r+b") as part:
        part.truncate(1000)
    assert fetch(server.file()).read_bytes() == CONTENT  # asked for a range, got everything
    assert server.asked[-1] == "bytes=1000-"
    assert server.sent[-1] == 300_000


def test_a_server_without_ranges_that_always_breaks_leaves_nothing(server, cache):
    server.ranges = False
    server.cuts = [1000] * 3
    text = refused(server.file(), "ended early")
    assert "kept" not in text
    assert kept(cache) == []


def test_a_file_that_changed_between_its_parts_starts_over_once(server, cache):
    file = server.file()
    old = cache / "a" / "file.txt.part"
    old.parent.mkdir(parents=True)
    old.write_bytes(bytes(1000))  # of another file
    assert fetch(file).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", None]
    (cache / "a" / "file.txt").unlink()
    old.write_bytes(bytes(1000))
    server.content = CONTENT[::-1]  # and it is still another one now
    server.asked.clear()
    refused(file, "SHA-256")
    assert server.asked == ["bytes=1000-", None]
    assert kept(cache) == []


def test_a_file_that_keeps_changing_is_given_up(server, cache):
    file = server.file()
    server.content = CONTENT[::-1]
    server.cuts = [1000, len(CONTENT)] * 5  # every other connection breaks off
    refused(file, "SHA-256")
    assert server.asked == [None, "bytes=1000-"] * 2
    assert kept(cache) == []


@pytest.mark.parametrize("excess", [0, 10])
def test_a_part_as_long_as_the_file_or_longer(server, cache, excess):
    part = cache / "a" / "file.txt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + bytes(excess))
    assert fetch(server.file()).read_bytes() == CONTENT
    assert server.asked == ([None] if excess else [])  # a whole part needs no request


def test_a_server_whose_file_is_shorter_than_our_part(server, cache):
    part = cache / "a" / "file.txt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:2000])
    file = server.file()
    server.content = CONTENT[:1000]  # the answer to a range beyond its end is 416
    refused(file, "has 1000 bytes", "300000 are expected")
    assert server.asked == ["bytes=2000-", None]
    assert kept(cache) == []


def test_too_much_is_refused_before_it_arrives(server, cache):
    file = server.file(CONTENT[:-1])
    refused(file, "has 300000 bytes", "299999 are expected")
    assert kept(cache) == []


def test_too_much_is_refused_without_a_length_too(server, cache):
    server.lengths = False
    file = server.file(CONTENT[:1000])
    refused(file, "more than the expected 1000 bytes")
    assert kept(cache) == []
    assert fetch(server.file()).read_bytes() == CONTENT  # the right amount is fine


def test_what_the_server_refuses_is_named(server, cache):
    server.status = 404
    text = refused(server.file(), "404", server.url, str(cache / "a" / "file.txt"), "BNNZOO_DATA")
    assert text.startswith("a/file.txt is not on this machine")
    assert kept(cache) == []


def test_without_a_server(cache):
    with serving(b"x") as server:
        file = server.file()
    refused(file, "no connection", "refused", file.url, str(cache / "a" / "file.txt"))


def test_offline(server, cache, monkeypatch):
    file = server.file()
    monkeypatch.setenv("BNNZOO_OFFLINE", "1")
    refused(file, "BNNZOO_OFFLINE", server.url, str(cache / "a" / "file.txt"), "BNNZOO_DATA")
    assert server.asked == []
    monkeypatch.setenv("BNNZOO_OFFLINE", "0")
    fetch(file)
    monkeypatch.setenv("BNNZOO_OFFLINE", "1")
    assert fetch(file).read_bytes() == CONTENT  # what is there needs no network


def test_parts_that_were_not_asked_for(server, cache, monkeypatch):
    part = cache / "a" / "file.txt.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:2000])
    monkeypatch.setattr(server, "shift", 5)
    assert fetch(server.file()).read_bytes() == CONTENT
    assert server.asked == ["bytes=2000-", None]


@pytest.mark.parametrize("to", ["http://127.0.0.1:1/x", "http://example.org/x", "ftp://a/x"])
def test_redirects_to_anything_but_https_are_refused(server, cache, to):
    server.redirect = to
    refused(server.file(), "redirects to", to, "not HTTPS")
    assert kept(cache) == []


def test_redirects_to_https_are_followed(server, cache):
    server.redirect = "https://127.0.0.1:1/x"  # where nobody answers
    refused(server.file(), "no connection")


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "ftp://example.org/x", "file:///etc/passwd", "http://10.0.0.1/"]
)
def test_addresses_that_are_not_https_are_refused(url, cache):
    refused(RemoteFile("a/x", url, "0" * 64, 1), url, "not an HTTPS address")


def test_many_threads_and_one_download(server, cache):
    server.gate.clear()
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(fetch, server.file()) for _ in range(6)]
        threading.Timer(0.3, server.gate.set).start()
        places = {future.result(30) for future in waiting}
    assert len(places) == 1
    assert places.pop().read_bytes() == CONTENT
    assert server.asked == [None]


def test_two_processes_and_one_download(server, cache):
    server.gate.clear()
    code = (
        "from bnnzoo.datasets._remote import RemoteFile, fetch;"
        f"print(fetch({server.file()!r}).stat().st_size)"
    )
    root = Path(__file__).resolve().parents[2]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, env=dict(os.environ)
        )
        for _ in range(2)
    ]
    while not server.asked:
        assert started[0].poll() is None
    threading.Timer(0.5, server.gate.set).start()
    assert [p.communicate(timeout=60)[0].strip() for p in started] == [b"300000"] * 2
    assert server.asked == [None]


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BNNZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="a part of the path is a file"):
        fetch(server.file())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_no_broken_connection(server, cache):
    (cache / "a").mkdir(parents=True)
    (cache / "a" / "file.txt.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="no space left"):
        fetch(server.file())


def test_a_bar_on_a_terminal_and_silence_elsewhere(server, cache, monkeypatch, capsys):
    fetch(server.file())
    assert capsys.readouterr() == ("", "")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    fetch(server.file(path="b.txt"))
    assert "b.txt" in terminal.getvalue()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "/home/u/.cache/bnnzoo"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/bnnzoo"),
        ("darwin", {}, "/home/u/Library/Caches/bnnzoo"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/bnnzoo/Cache"),
        ("linux", {"BNNZOO_CACHE": "~/c"}, "/home/u/c"),
    ],
)
def test_the_cache_is_where_the_platform_has_it(monkeypatch, platform, environment, expected):
    for name in ("BNNZOO_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_broken_connections_are_tried_a_few_times(server, cache):
    server.cuts = [0] * 10
    refused(server.file(), "ended early")
    assert len(server.asked) == _download.TRIES
