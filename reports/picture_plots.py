"""Curves with bands, surfaces of classes and small images, for the page."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from bnnzoo.reports.panels import BOTTOM, RIGHT, TOP, frame
from bnnzoo.reports.svg import Plot, linear, marker, path, ticks

WIDTH, HEIGHT, LEFT = 340, 230, 40

STEPS = 5
"""Shades of certainty: from that of a guess to certain."""


def line_plot(row: Mapping[str, Any]) -> Markup:
    """The predictive mean with bands of 50 % and 90 % over the training rows."""
    p = row["picture"]
    plot = Plot(WIDTH, HEIGHT, f"Run {row['number']}: predictive mean, 50 % and 90 % bands.")
    low, _, _, high = p["quantiles"]
    bottom, top = min(*low, *p["rows"]["y"]), max(*high, *p["rows"]["y"])
    pad = 0.04 * ((top - bottom) or 1.0)
    x = linear(p["x"][0], p["x"][-1], LEFT, WIDTH - RIGHT)
    y = linear(bottom - pad, top + pad, HEIGHT - BOTTOM, TOP)
    for lower, upper, cls in ((0, 3, "band"), (1, 2, "band deep")):
        edge = list(zip(p["x"], p["quantiles"][upper], strict=True))
        edge += list(zip(p["x"][::-1], p["quantiles"][lower][::-1], strict=True))
        plot.path(path([(x(a), y(b)) for a, b in edge]) + "Z", cls)
    across = ticks(p["x"][0], p["x"][-1], 4)
    frame(plot, x, y, across, ticks(bottom, top, 4), "input", "target", LEFT)
    plot.path(path([(x(a), y(b)) for a, b in zip(p["x"], p["mean"], strict=True)]), "curve")
    for a, b in zip(p["rows"]["x"], p["rows"]["y"], strict=True):
        plot.dot(x(a), y(b), 1.8, "datum")
    return plot.markup()


def surface_plot(row: Mapping[str, Any]) -> Markup:
    """The most probable class by colour, its probability by depth, over the training rows."""
    p = row["picture"]
    plot = Plot(WIDTH, HEIGHT, f"Run {row['number']}: most probable class over two inputs.")
    x = linear(p["x0"][0], p["x0"][-1], LEFT, WIDTH - RIGHT)
    y = linear(p["x1"][0], p["x1"][-1], HEIGHT - BOTTOM, TOP)
    across, up = ticks(p["x0"][0], p["x0"][-1], 4), ticks(p["x1"][0], p["x1"][-1], 4)
    frame(plot, x, y, across, up, "first input", "second input", LEFT)
    wide, tall = (x(p["x0"][1]) - x(p["x0"][0])), (y(p["x1"][0]) - y(p["x1"][1]))
    for j, level in enumerate(p["x1"]):
        for start, stop, hue, step in _stretches(p["winner"][j], p["certainty"][j], p["classes"]):
            left = max(x(p["x0"][start]) - wide / 2, LEFT)
            right = min(x(p["x0"][stop]) + wide / 2, WIDTH - RIGHT)
            upper, lower = max(y(level) - tall / 2, TOP), min(y(level) + tall / 2, HEIGHT - BOTTOM)
            plot.rect(left, upper, right - left, lower - upper, f"cell h{hue} c{step}")
    for (a, b), label in zip(p["rows"]["x"], p["rows"]["y"], strict=True):
        plot.at(x(a), y(b), Markup('<g class="small">{}</g>').format(marker(label, 0)))
    return plot.markup()


def _stretches(
    winner: Sequence[int], certainty: Sequence[float], classes: int
) -> list[tuple[int, int, int, int]]:
    """Neighbouring cells of one class and shade: first, last, class, shade."""
    least = 1.0 / classes
    made: list[tuple[int, int, int, int]] = []
    for k, (hue, sure) in enumerate(zip(winner, certainty, strict=True)):
        step = min(int(STEPS * (sure - least) / (1 - least)), STEPS - 1) if classes > 1 else 0
        if made and made[-1][2:] == (hue, max(step, 0)):
            made[-1] = (made[-1][0], k, *made[-1][2:])
        else:
            made.append((k, k, hue, max(step, 0)))
    return made


def image_address(pixels: Sequence[Any]) -> str:
    """A PNG that its address holds.

    Args:
        pixels: ``(height, width, channel)``, 0 to 255, one or three channels.

    Source:
        Portable Network Graphics (second edition), W3C 2003, sections 5 and 11.
    """
    array = np.asarray(pixels, dtype=np.uint8)
    height, width, channels = array.shape
    lines = array.reshape(height, width * channels)
    raw = b"".join(b"\0" + line.tobytes() for line in lines)  # no filter
    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    parts = [_chunk(b"IHDR", head), _chunk(b"IDAT", zlib.compress(raw, 9)), _chunk(b"IEND", b"")]
    whole = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    return "data:image/png;base64," + base64.b64encode(whole).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check
