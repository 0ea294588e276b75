"""Data simulated from models: the model is right and its weights are known, so fits can be judged.

Files here without a leading underscore are data sets of the registry. They load JAX once they draw,
not to be listed.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from bnnzoo.models.simulated._draw import draw_dataset as draw_dataset

__all__ = ["draw_dataset"]


def __getattr__(name: str) -> _Any:
    if name != "draw_dataset":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bnnzoo.models.simulated._draw import draw_dataset

    globals()[name] = draw_dataset
    return draw_dataset
