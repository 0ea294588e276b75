"""Evidences and selections read back from their files."""

from __future__ import annotations

import os

from bnnzoo.inference import kept
from bnnzoo.inference.evidence import Evidence
from bnnzoo.inference.selection import Selection


def load_evidence(path: str | os.PathLike[str]) -> Evidence | Selection:
    """Read what ``Evidence.save`` or ``Selection.save`` wrote; no code in the file is run.

    Models of a selection are built again from the registry; a hand-written one is None.

    Args:
        path: of the file.

    Returns:
        An evidence or a selection, whichever the file holds.

    Raises:
        InputError: no such file, or one that holds neither.
        CorruptRunError: it was changed since it was written, or is of another format.
    """
    what, content = kept.read(path, ("evidence", "selection"))
    made: type[Evidence] | type[Selection] = Evidence if what == "evidence" else Selection
    try:
        return made.from_dict(content)
    except (KeyError, TypeError, ValueError) as error:
        raise kept.incomplete(path, error) from None
