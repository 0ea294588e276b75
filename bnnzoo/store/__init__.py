"""The run folder: ``run.toml``, ``draws.zarr``, ``ends.npz``, ``manifest.json``.

While a run goes on there is ``checkpoint/``; ``ends.npz`` lets a finished one go on.
Everything is written beside its place and then renamed, so that a kill or a full disk leaves
either the old or the new file; everything is checked against its hash when it is read, and
reading runs no code and unpickles nothing.
"""

from bnnzoo.store._alone import alone
from bnnzoo.store._checkpoint import (
    load_checkpoint,
    load_ends,
    remove_checkpoints,
    save_checkpoint,
    save_ends,
)
from bnnzoo.store._files import temporary_folder, write_bytes
from bnnzoo.store._manifest import FORMAT, file_hashes, read_manifest, verify, write_manifest
from bnnzoo.store._prepare import discard_unstarted, look, prepare, replace_spec, sweep
from bnnzoo.store._stream import Stream
from bnnzoo.store._tree import open_tree, read_tree, write_tree

__all__ = [
    "FORMAT",
    "Stream",
    "alone",
    "discard_unstarted",
    "file_hashes",
    "load_checkpoint",
    "load_ends",
    "look",
    "open_tree",
    "prepare",
    "read_manifest",
    "read_tree",
    "remove_checkpoints",
    "replace_spec",
    "save_checkpoint",
    "save_ends",
    "sweep",
    "temporary_folder",
    "verify",
    "write_bytes",
    "write_manifest",
    "write_tree",
]
