"""``draws.zarr``: the tree of a run, written whole, read only after its files were verified."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnzoo.errors import CorruptRunError
from bnnzoo.store._files import TREE_FOLDER, remove, storing, sync, sync_folder, temporary_for
from bnnzoo.store._manifest import verify
from bnnzoo.store._stream import Stream, fill

if TYPE_CHECKING:
    import xarray as xr

CHUNK_BYTES = 8 * 2**20
"""A larger array is stored in several files, so that a few draws can be read without all."""

_CODECS = {"bytes", "vlen-utf8"}  # what write_tree writes; others could name code to run


def write_tree(path: str | Path, tree: xr.DataTree, stream: Stream | None = None) -> None:
    """Replace ``draws.zarr`` of the run at ``path`` by ``tree``.

    Args:
        path: the run folder.
        tree: groups of variables, in ArviZ's schema.
        stream: variables of those groups that are not in ``tree``, a few draws at a time.

    Raises:
        StorageError: it could not be written; nothing half-written is left.
    """
    import zarr

    target = Path(path) / TREE_FOLDER
    temporary = temporary_for(target)
    encoding = {node.path: _encoding(node) for node in tree.subtree}
    with storing(target.parent):
        try:
            temporary.mkdir()
            files = _Folder(temporary)
            # Chunks of fill value are written too: then a missing file is always an error.
            with zarr.config.set({"array.write_empty_chunks": True}):
                tree.to_zarr(
                    zarr.storage.MemoryStore(files),
                    mode="w-",
                    zarr_format=3,
                    consolidated=False,
                    encoding=encoding,
                )
                if stream is not None:
                    fill(stream, _create(files, stream))
            files.finish()
            remove(target)
            os.replace(temporary, target)
        except BaseException:
            remove(temporary)
            raise
        sync_folder(target.parent)


def read_tree(path: str | Path) -> xr.DataTree:
    """The tree of the run at ``path``, after every file was checked.

    Args:
        path: the run folder.

    Returns:
        A tree whose variables are read from the disk when they are first used; a file that has
        gone by then is an error, not NaN.

    Raises:
        RunError: there is no such folder.
        CorruptRunError: a file is missing, truncated, changed, or of a kind this version
            does not write.
    """
    path = Path(path)
    manifest = verify(path)
    folder = path / TREE_FOLDER
    names = [n for n in manifest.get("files", {}) if n.startswith(f"{TREE_FOLDER}/")]
    if not names:
        raise CorruptRunError(f"{folder} is missing: the run is not finished")
    for name in names:
        _refuse_unknown_codecs(path / name)
    return open_tree(path)


def open_tree(path: str | Path, keep: object = None) -> xr.DataTree:
    """The tree of the run at ``path``, which this process wrote or has verified.

    Args:
        path: the run folder.
        keep: kept as long as anything of the tree that was not read yet, such as the handle of a
            temporary folder.

    Returns:
        As :func:`read_tree`.

    Raises:
        CorruptRunError: the tree cannot be read.
    """
    import xarray as xr
    import zarr

    folder = Path(path) / TREE_FOLDER
    files: Any = zarr.storage.LocalStore(folder, read_only=True)
    files.kept_for_reading = keep
    with zarr.config.set({"array.read_missing_chunks": False}):
        try:
            tree = xr.open_datatree(
                files,
                engine="zarr",
                chunks=None,
                zarr_format=3,
                consolidated=False,
            )
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            raise CorruptRunError(f"{folder} cannot be read: {error}") from error
    for node in tree.subtree:  # no file stays open, and a tree that was read needs none
        node.set_close(None)
    return tree


def _create(files: _Folder, stream: Stream) -> dict[str, Any]:
    """An empty array for every variable of a stream."""
    import zarr

    root = zarr.open_group(zarr.storage.MemoryStore(files), mode="r+", zarr_format=3)
    made = {}
    for path, axes in stream.variables.items():
        name = path.rpartition("/")[2]
        shape = (*stream.shape, *axes)
        made[path] = root.create_array(
            path,
            shape=shape,
            dtype=stream.dtype,
            dimension_names=["chain", "draw", *(f"{name}_dim_{i}" for i in range(len(axes)))],
            **_layout(shape, np.dtype(stream.dtype).itemsize),
        )
    return made


class _Folder(MutableMapping[str, Any]):
    """The dictionary of a zarr ``MemoryStore``, on disk: one plain file a key.

    zarr's own ``LocalStore`` sends every file through a thread and a second rename, and writes the
    metadata of a variable three times. Here chunks go straight to their files (a tree is not held
    twice in memory) and metadata, which is read back on the way, is written once at the end:
    a third of the time for 10 groups of 5 variables, synced to the disk included.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._metadata: dict[str, Any] = {}

    def __setitem__(self, key: str, value: Any) -> None:
        if key.endswith("zarr.json"):
            self._metadata[key] = value
        else:
            self._write(key, value)

    def finish(self) -> None:
        """Write the metadata."""
        for key, value in self._metadata.items():
            self._write(key, value)

    def _write(self, key: str, value: Any) -> None:
        file = self._folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "wb") as opened:
            opened.write(value.as_buffer_like())
            sync(opened)

    def __getitem__(self, key: str) -> Any:
        return self._metadata[key]

    def __delitem__(self, key: str) -> None:
        del self._metadata[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._metadata)

    def __len__(self) -> int:
        return len(self._metadata)


def _encoding(node: xr.DataTree) -> dict[str, dict[str, Any]]:
    """Few files, no compression: draws are noise, which does not compress."""
    variables = node.to_dataset(inherit=False).variables
    return {str(n): _layout(v.shape, v.dtype.itemsize) for n, v in variables.items()}


def _layout(shape: tuple[int, ...], itemsize: int) -> dict[str, Any]:
    return {
        "compressors": (),
        "chunks": _chunks(shape, itemsize),
        "chunk_key_encoding": {"name": "default", "separator": "."},  # no folder an axis
    }


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Whole array up to :data:`CHUNK_BYTES`, else cut along the first axes."""
    chunks = [max(1, size) for size in shape]
    for axis in range(len(chunks)):
        rest = itemsize
        for size in chunks[axis + 1 :]:
            rest *= size
        if chunks[axis] * rest <= CHUNK_BYTES:
            break
        chunks[axis] = max(1, CHUNK_BYTES // rest)
    return tuple(chunks)


def _refuse_unknown_codecs(file: Path) -> None:
    if file.name in (".zarray", ".zgroup", ".zattrs", ".zmetadata"):
        raise CorruptRunError(f"{file} is of an older zarr format, which bnnzoo does not write")
    if file.name != "zarr.json":
        return
    try:
        metadata = json.loads(file.read_bytes())
        if "consolidated_metadata" in metadata:
            raise ValueError("consolidated metadata")
        used = {codec["name"] for codec in metadata.get("codecs", ())}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CorruptRunError(f"{file} is not the metadata that bnnzoo writes") from None
    if not used <= _CODECS:
        raise CorruptRunError(
            f"{file} uses the codec {min(used - _CODECS)!r}, which is not allowed"
        )
