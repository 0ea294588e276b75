"""A picture of a matched prior: functions of the process, of the network before and after."""

from __future__ import annotations

import os
from pathlib import Path

from bnnzoo.errors import InputError
from bnnzoo.inference import MatchedPrior

FORMATS = (".svg", ".png", ".pdf")


def check_picture(path: str | os.PathLike[str]) -> None:
    """Raise ``InputError`` for a kind of file that no picture is written as.

    Args:
        path: of the picture.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise InputError(f"{path}: a picture is written as one of {', '.join(FORMATS)}")


def plot_matched_prior(matched: MatchedPrior, path: str | os.PathLike[str]) -> None:
    """Draw function values of the process, the network before and after, and the distance's trace.

    Args:
        matched: what ``bnnzoo.match_prior`` gave.
        path: of the picture: ``.svg``, ``.png`` or ``.pdf``.

    Raises:
        InputError: another kind of file.
    """
    check_picture(path)
    import matplotlib

    matplotlib.use("agg", force=False)
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(12, 3), layout="constrained")
    parts = {
        "process": matched.target,
        f"widths of 1 (off by {matched.error_before:.2f})": matched.before,
        f"matched (off by {matched.error_after:.2f})": matched.after,
    }
    height = 1.1 * max(abs(matched.target).max(), abs(matched.after).max())
    for axis, (title, functions) in zip(axes, parts.items(), strict=False):
        axis.plot(matched.position, functions.T, linewidth=0.8, color="tab:blue", alpha=0.6)
        axis.set(title=title, ylim=(-height, height), xlabel="along the inputs, modelled units")
    axes[3].plot(abs(matched.objective), linewidth=0.8, color="tab:blue")
    axes[3].set(title="estimated distance", xlabel="step", yscale="log")
    figure.savefig(path)
    plt.close(figure)
