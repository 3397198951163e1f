"""Numbers that a caller gives a job: whole ones, levels and seeds, each within its bounds."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from contextlib import suppress

from mismatch.errors import InputError

__all__ = ["MAX_SEED", "check_level", "check_number", "check_numbers", "check_whole_number"]

MAX_SEED = 2**63 - 1  # what NumPy takes
LEVELS = (0.5, 0.999)  # of intervals


def check_whole_number(name: str, value: object, low: int, high: int = MAX_SEED) -> None:
    """Raise InputError for anything but a whole number from `low` to `high`."""
    number = None
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        with suppress(TypeError):  # an array of several numbers
            number = operator.index(value)
    if number is None or not low <= number <= high:
        raise InputError(
            f"`{name}` is {value!r}; a whole number from {low} to {high:,} is needed", option=name
        )


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise InputError for anything but a number from `low` to `high`."""
    number = math.nan
    if not isinstance(value, (str, bytes, bool)) and hasattr(value, "__float__"):
        with suppress(TypeError, ValueError):  # an array of several numbers
            number = float(value)
    if not low <= number <= high:  # also refuses nan
        raise InputError(
            f"`{name}` is {value!r}; a number from {low:g} to {high:g} is needed", option=name
        )


def check_numbers(name: str, values: object, low: float, high: float) -> None:
    """Raise InputError for anything but numbers from `low` to `high`."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InputError(f"`{name}` is {values!r}; numbers are needed", option=name)
    for value in values:
        check_number(name, value, low, high)


def check_level(level: object) -> None:
    """Raise InputError for what is no level of an interval."""
    check_number("level", level, *LEVELS)
