"""What an option of training may be: its type, its choices and its range, checked in words."""

from __future__ import annotations

import math
import numbers
import os
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin

from mismatch.errors import InputError

__all__ = ["NEEDED", "Kind", "Range", "checked", "kind_of", "option"]

NEEDED: Mapping[type, str] = types.MappingProxyType(
    {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
)


@dataclass(frozen=True)
class Range:
    """Finite numbers between two ends."""

    low: float
    high: float = math.inf
    without_low: bool = False  # whether `low` itself is too low
    without_high: bool = False  # whether `high` itself is too high

    def refusal(self, value: float) -> str | None:
        """Return what is needed in place of a number; None where it is in the range."""
        too_low = not (self.low < value if self.without_low else self.low <= value)
        too_high = not (value < self.high if self._open_above() else value <= self.high)
        if not too_low and not too_high:
            return None
        if isinstance(self.high, int):  # of whole numbers the end that is passed says enough
            return f"{self.high:,} or less" if too_high else f"{self.low:,} or more"
        return str(self)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"a number above {self.low:g}" if self.without_low else f"{self.low:,} or more"
        low = f"above {self.low:g} and" if self.without_low else f"from {self.low:g}"
        to = "up to" if self.without_low else "to"
        return f"a number {low} {'to below' if self.without_high else to} {self.high:g}"

    def _open_above(self) -> bool:
        return self.without_high or self.high == math.inf


@dataclass(frozen=True)
class Kind:
    """A type as a field's annotation says it."""

    type: type  # str, int, float or bool
    choices: tuple[str, ...] = ()  # of a Literal; else any value of the type
    is_optional: bool = False  # whether None is one of its values
    is_path: bool = False  # whether a pathlib.Path is as good as text


def option(text: str, default: Any, **metadata: Any) -> Any:
    """Return a field with its help.

    `range` is what numbers may be. `shown` replaces the default in help. `modes`: the values of
    `tune` that it goes with. What is `free` may be another when a run is resumed, as it doesn't
    alter the result (of rows, what they hold is compared instead).
    """
    return field(default=default, metadata={"help": text, **metadata})


def kind_of(hint: Any) -> Kind:
    """Return the kind of an annotation: `str | Path | None`, `Literal["a", "b"]`, `int`."""
    members = get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,)
    plain = [member for member in members if member is not type(None)]
    is_optional = len(plain) < len(members)
    if get_origin(plain[0]) is Literal:
        return Kind(str, get_args(plain[0]), is_optional)
    return Kind(plain[0], (), is_optional, is_path=len(plain) > 1)


def checked(name: str, value: Any, kind: Kind, within: Range | None = None) -> Any:
    """Return a value as its option has it: paths as text, NumPy's numbers as Python's.

    InputError for one of another type, of no such choice, or out of range.
    """
    if value is None and kind.is_optional:
        return None
    plain = _as_type(value, kind)
    if plain is None or (kind.choices and plain not in kind.choices):
        message = f"`{name}` is {_shown(value)}; {_needed(kind)} is needed"
        raise InputError(message, option=name)
    needed = None if within is None else within.refusal(plain)
    if needed is not None:
        raise InputError(f"`{name}` is {plain}; {needed} is needed", option=name)
    return plain


def _as_type(value: Any, kind: Kind) -> Any:
    """Return a value as the kind's type; None where it is of another one."""
    if kind.type is bool or isinstance(value, bool):
        return value if isinstance(value, bool) and kind.type is bool else None
    if kind.is_path and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if kind.type is str:
        return value if isinstance(value, str) else None
    if kind.type is int:
        return int(value) if isinstance(value, numbers.Integral) else None
    if not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number above 1.8e308
        return math.inf


def _needed(kind: Kind) -> str:
    if kind.choices:
        return f"one of {', '.join(kind.choices)}"
    return "text or a path" if kind.is_path else NEEDED[kind.type]


def _shown(value: Any) -> str:
    """Return a short value as Python writes it, else the name of its type."""
    if isinstance(value, (str, int, float)):
        text = repr(value)
        if len(text) <= 80:
            return text
    return f"a {type(value).__name__}" if value is not None else "None"
