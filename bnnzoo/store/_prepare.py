"""Opening a folder for a run: new, to be resumed, finished, or not ours."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from bnnzoo.errors import CorruptRunError, RunExistsError
from bnnzoo.store._files import (
    CHAIN_PREFIX,
    CHECKPOINT_FOLDER,
    MANIFEST_FILE,
    RUN_FILE,
    TEMPORARY,
    TREE_FOLDER,
    remove,
    storing,
    write_file,
)
from bnnzoo.store._manifest import read_manifest, write_manifest

State = Literal["new", "resumable", "complete"]

_OURS = {RUN_FILE, MANIFEST_FILE, TREE_FOLDER, CHECKPOINT_FOLDER}


def prepare(path: str | Path, spec_toml: str, fingerprint: Mapping[str, str]) -> State:
    """Make ``path`` the folder of this run, or say that it already is.

    Args:
        path: the run folder; made, with its parents, where it does not exist.
        spec_toml: the run's spec, for ``run.toml``.
        fingerprint: what the spec cannot hold, by name: such as the hash of the ``data`` and of
            the source of a hand-written ``model``.

    Returns:
        ``"new"``: the folder now holds ``run.toml`` and a manifest in state ``running``;
        ``"resumable"``: it holds this run, unfinished; ``"complete"``: it holds this run.

    Raises:
        RunExistsError: it holds another run (the first option that differs is named), or files
            that are not a run.
        CorruptRunError: it holds a run that cannot be read.
        StorageError: it cannot be written; nothing is left behind.
    """
    path = Path(path)
    with storing(path):
        made = [p for p in (path, *path.parents) if not p.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
            return _claim(path, spec_toml, dict(fingerprint))
        except BaseException:
            for folder in made:  # innermost first; one that holds something else stays
                with suppress(OSError):
                    folder.rmdir()
            raise


def look(path: str | Path, spec_toml: str, fingerprint: Mapping[str, str]) -> State:
    """What :func:`prepare` would answer, with nothing written.

    Args:
        path: the run folder, which need not exist.
        spec_toml: the run's spec.
        fingerprint: what the spec cannot hold, by name.

    Raises:
        RunExistsError: it holds another run, or files that are not a run.
        CorruptRunError: it holds a run that cannot be read.
        StorageError: it is no folder.
    """
    path = Path(path)
    with storing(path):
        try:
            return _found(path, spec_toml, dict(fingerprint))
        except FileNotFoundError:
            return "new"


def sweep(path: str | Path) -> None:
    """Remove what a killed process was writing in the run folder ``path``."""
    for item in Path(path).iterdir():
        if item.name.startswith(TEMPORARY):
            remove(item)


def replace_spec(path: str | Path, spec_toml: str) -> None:
    """Replace ``run.toml`` of the run at ``path``, atomically.

    Raises:
        StorageError: it could not be written; the old one is still there.
    """
    write_file(Path(path) / RUN_FILE, lambda file: file.write(spec_toml.encode()))


def discard_unstarted(path: str | Path) -> None:
    """Remove what :func:`prepare` made for a run that failed before it kept anything of a chain.

    Args:
        path: the run folder. One that holds draws or the checkpoint of a chain is left as it is,
            and so is any file that is not the run's.
    """
    path = Path(path)
    checkpoints = path / CHECKPOINT_FOLDER
    if (path / TREE_FOLDER).exists() or any(checkpoints.glob(f"{CHAIN_PREFIX}*")):
        return
    for name in (CHECKPOINT_FOLDER, MANIFEST_FILE, RUN_FILE):
        remove(path / name)
    with suppress(OSError):  # it holds something else
        path.rmdir()


def _claim(path: Path, spec_toml: str, fingerprint: dict[str, str]) -> State:
    sweep(path)
    state = _found(path, spec_toml, fingerprint)
    if state != "new":
        return state
    try:
        replace_spec(path, spec_toml)
        write_manifest(path, {"state": "running", "fingerprint": fingerprint})
    except BaseException:
        remove(path / RUN_FILE)
        remove(path / MANIFEST_FILE)
        raise
    return "new"


def _found(path: Path, spec_toml: str, fingerprint: dict[str, str]) -> State:
    names = {item.name for item in path.iterdir() if not item.name.startswith(TEMPORARY)}
    if not names & _OURS and names:
        raise RunExistsError(
            f"{path} holds files that are not a run ({sorted(names)[0]!r}); choose another folder"
        )
    if RUN_FILE in names:
        _refuse_other_spec(path, spec_toml)
    if MANIFEST_FILE in names and RUN_FILE not in names:
        raise CorruptRunError(f"{path / RUN_FILE} is missing")
    if MANIFEST_FILE in names:
        manifest = read_manifest(path)
        _refuse_other_fingerprint(path, manifest.get("fingerprint"), fingerprint)
        return "complete" if manifest.get("state") == "complete" else "resumable"
    if names - {RUN_FILE}:  # draws are only ever written under a manifest
        raise CorruptRunError(f"{path / MANIFEST_FILE} is missing")
    return "new"


def _refuse_other_spec(path: Path, spec_toml: str) -> None:
    try:
        there = dict(_flat(tomllib.loads((path / RUN_FILE).read_text(encoding="utf-8"))))
    except ValueError as error:  # TOML that does not parse, or bytes that are not UTF-8
        raise CorruptRunError(f"{path / RUN_FILE} cannot be read: {error}") from None
    here = dict(_flat(tomllib.loads(spec_toml)))
    for option in [*here, *there]:
        if here.get(option) != there.get(option):
            raise RunExistsError(
                f"{path} holds a different run: {option} is {_said(there, option)} there and"
                f" {_said(here, option)} here; choose another folder"
            )


def _refuse_other_fingerprint(path: Path, there: Any, here: dict[str, str]) -> None:
    there = there if isinstance(there, dict) else {}
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            raise RunExistsError(
                f"{path} holds a different run: its {name} differs; choose another folder"
            )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _said(options: Mapping[str, Any], option: str) -> str:
    return repr(options[option]) if option in options else "not set"
