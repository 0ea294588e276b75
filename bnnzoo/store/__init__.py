"""The run folder: ``run.toml``, ``draws.zarr``, ``manifest.json``; while it runs, ``checkpoint/``.

Everything is written beside its place and then renamed, so that a kill or a full disk leaves
either the old or the new file; everything is checked against its hash when it is read, and
reading runs no code and unpickles nothing.
"""

from bnnzoo.store._checkpoint import load_checkpoint, remove_checkpoints, save_checkpoint
from bnnzoo.store._manifest import FORMAT, file_hashes, read_manifest, verify, write_manifest
from bnnzoo.store._prepare import discard_unstarted, prepare
from bnnzoo.store._tree import read_tree, write_tree

__all__ = [
    "FORMAT",
    "discard_unstarted",
    "file_hashes",
    "load_checkpoint",
    "prepare",
    "read_manifest",
    "read_tree",
    "remove_checkpoints",
    "save_checkpoint",
    "verify",
    "write_manifest",
    "write_tree",
]
