"""Numbers as text: a true minus sign, digits that the standard error supports, no false zeros."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

NOTHING = "–"

Number = float | int


def number(value: Number | None, digits: int = 3, signed: bool = False) -> str:
    """Fixed digits with a true minus sign; a dash for what is missing or not a number."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def significant(value: Number | None, figures: int = 3) -> str:
    """A number to so many significant figures without an exponent where it can be helped."""
    if value is None or math.isnan(value) or math.isinf(value) or value == 0:
        return number(value, 0)
    size = math.floor(math.log10(abs(value)))
    if size < -4 or size > 6:
        mantissa, exponent = f"{value:.{figures - 1}e}".split("e")
        return f"{mantissa.replace('-', '−')}×10{_superscript(int(exponent))}"
    return number(value, max(figures - 1 - size, 0))


def interval(
    value: Number | None, error: Number | None, digits: int = 3, signed: bool = False
) -> str:
    """``value ± standard error``; the value alone where there is no error."""
    text = number(value, digits, signed)
    if error is None or math.isnan(error) or text == NOTHING:
        return text
    return f"{text} ± {number(error, digits)}"


def digits_for(errors: Iterable[Number | None], least: int = 1, most: int = 5) -> int:
    """Digits after the point that show the smaller errors to one or two significant figures."""
    known = sorted(e for e in errors if e is not None and 0 < e < math.inf)
    if not known:
        return min(max(3, least), most)
    typical = known[len(known) // 4]
    return int(min(max(math.ceil(0.7 - math.log10(typical)), least), most))


def seconds(value: Number | None) -> str:
    """A duration: ``0.82 s``, ``12.3 s``, ``4 min 05 s``, ``2 h 10 min``."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value < 60:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(text: str) -> str:
    """A time in ISO form as a reader would write it: ``2026-01-01 00:00 UTC``."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def listed(items: Sequence[object]) -> str:
    """``1``, ``1 and 2``, ``1, 2 and 3``."""
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def numbered(runs: Sequence[int], noun: str = "run") -> str:
    """Run numbers with ranges drawn together: ``run 3``, ``runs 1, 4–6``; or of another noun."""
    ordered = sorted(set(runs))
    spans: list[list[int]] = []
    for n in ordered:
        if spans and n == spans[-1][-1] + 1:
            spans[-1].append(n)
        else:
            spans.append([n])
    texts = []
    for span in spans:
        many = len(span) > 2
        texts += [f"{span[0]}–{span[-1]}"] if many else [str(n) for n in span]
    return f"{noun}{'s' if len(ordered) > 1 else ''} {', '.join(texts)}"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """``1 run``, ``2 runs``, ``1,204 rows``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _superscript(value: int) -> str:
    return str(value).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
