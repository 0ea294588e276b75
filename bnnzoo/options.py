"""Typed options: one frozen pydantic model an entry, with errors a user can act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bnnzoo.errors import OptionError, brief, hint

__all__ = ["Count", "Finite", "Fraction", "NoOptions", "Options", "Positive", "parse_options"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number above zero."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A finite number."""

Count = Annotated[int, Field(gt=0)]
"""A whole number above zero."""

Fraction = Annotated[float, Field(gt=0, lt=1)]
"""A number strictly between 0 and 1."""


class Options(BaseModel):
    """Base of every entry's options: unknown names are errors, values are checked once, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoOptions(Options):
    """For an entry that has nothing to set."""


def parse_options[O: BaseModel](
    cls: type[O], given: Mapping[str, Any], where: str, owner: str = ""
) -> O:
    """Validate ``given`` against ``cls``.

    Args:
        cls: the pydantic model that declares the options.
        given: names and values as the user wrote them.
        where: section the options belong to, for the message (``"prior"``).
        owner: what they configure, for the message (``"prior 'student-t'"``).

    Returns:
        The validated, frozen options.

    Raises:
        OptionError: one line that names the option, the value and what is allowed.
    """
    for name in given:
        if name not in cls.model_fields:
            of = f" of {owner}" if owner else ""
            raise OptionError(f"unknown option {where}.{name}{of}{hint(name, cls.model_fields)}")
    try:
        return cls.model_validate(dict(given))
    except ValidationError as error:
        raise OptionError(_one_line(error, where, given)) from None


_NEEDED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "should be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "should be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "should be true or false"),
    **dict.fromkeys(("tuple_type", "list_type"), "should be a list"),
    "dict_type": "should be a table of options",
    "string_type": "should be text",
}
"""What pydantic says of a wrong type, in a user's words."""


def _written(place: tuple[int | str, ...], given: Any) -> list[str]:
    """The parts of a place that the user wrote; pydantic adds which type of several it tried."""
    found = []
    for k, part in enumerate(place):
        here = isinstance(given, Mapping) and part in given
        if here or (isinstance(given, (list, tuple)) and isinstance(part, int)):
            given = given[part]
        elif k > 0 and not isinstance(given, Mapping):
            continue
        found.append(str(part))
    return found


def _one_line(error: ValidationError, where: str, given: Mapping[str, Any]) -> str:
    first = error.errors(include_url=False)[0]
    path = ".".join(
        [where, *_written(first["loc"], given)] if where else _written(first["loc"], given)
    )
    message = first["msg"].removeprefix("Value error, ")
    message = (message[0].lower() + message[1:]).replace("input should", "should")
    message = _NEEDED.get(first["type"], message)
    if message == "should be a list" and isinstance(first["input"], (int, float, str)):
        message += f", as [{first['input']}]"
    if first["type"] == "missing":
        return f"{path} is required"
    if first["type"] == "extra_forbidden":
        return f"unknown option {path}"
    return f"{path} = {brief(first['input'])}: {message}"
