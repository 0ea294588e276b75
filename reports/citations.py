"""Whose work a report stands on: the references of everything that was used, from the cards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bnnzoo import registry
from bnnzoo.errors import BnnzooError

SECTIONS = {
    "data": "datasets",
    "model": "models",
    "network": "networks",
    "prior": "priors",
    "likelihood": "likelihoods",
    "augmentation": "augmentations",
}
"""Where a spec names an entry, and of which kind."""


def citations(blocks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """References of all entries that the runs and evidences of a report used.

    Args:
        blocks: the report's parts, one a data set.

    Returns:
        ``reference`` and ``of``, the entries whose card gives it (``backend nuts``), in the order
        in which they were met. Names that the registry does not have are left out.
    """
    found: dict[str, list[str]] = {}
    for kind, name in dict.fromkeys(_used(blocks)):
        try:
            card = registry.get(kind, name).card
        except BnnzooError:  # a file of the user's, or a part of another version
            continue
        for reference in card.references:
            found.setdefault(reference, []).append(f"{registry.singular(kind)} {name}")
    return [{"reference": text, "of": of} for text, of in found.items()]


def _used(blocks: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Kind and name of every entry."""
    for block in blocks:
        for run in block["settings"]["runs"]:
            yield from _of_spec(run["settings"])
            yield ("backends", run["settings"]["inference"]["backend"])
        for group in block["evidence"]["groups"] if block["evidence"] else ():
            for entry in group["entries"]:
                yield from _of_spec(entry["spec"])
                yield ("estimators", entry["method"])


def _of_spec(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for section, kind in SECTIONS.items():
        name = spec.get(section, {}).get("name")
        if isinstance(name, str):
            yield (kind, name)
