"""What a caller gives a job: values of the kinds that its annotations name, and numbers within
their bounds.
"""

from __future__ import annotations

import inspect
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from mismatch.errors import InputError
from mismatch.runtime.hardware import MAX_THREADS
from mismatch.spec_base import brief

__all__ = [
    "MAX_SEED",
    "check_kinds",
    "check_level",
    "check_number",
    "check_numbers",
    "check_paths",
    "check_whole_number",
    "checked",
]

MAX_SEED = 2**63 - 1  # what NumPy takes
LEVELS = (0.5, 0.999)  # of intervals
NOUNS = {  # parts of an annotation that are looked at → what to give
    "int": "a whole number",
    "float": "a number",
    "Path": "a path",
    "str": "a text",
    "bool": "True or False",
    "Sequence[str]": "a list of texts",
    "Predictor": "a loaded model",
    "None": "None",
}
OUTPUTS = ("fix",)  # options of files that are written, which no other check looks at
P = ParamSpec("P")
T = TypeVar("T")


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Let a job refuse, by InputError, arguments of another kind than its annotations name. Those
    of further kinds, as rows and choices, are the job's own to check.
    """
    signature = inspect.signature(function)
    kinds = {name: str(one.annotation) for name, one in signature.parameters.items()}

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> T:
        with suppress(TypeError):  # too many, or of unknown names: calling says so
            values = signature.bind_partial(*args, **options).arguments
            check_kinds(kinds, values)
            if values.get("num_workers") is not None:
                check_whole_number("num_workers", values["num_workers"], 0, MAX_THREADS)
        return function(*args, **options)

    return call


def check_kinds(annotations: Mapping[str, str], values: Mapping[str, object]) -> None:
    """Raise InputError for the first value of another kind than its annotation, as
    `str | Path | None`, names.
    """
    for name, value in values.items():
        parts = [part.strip() for part in annotations.get(name, "").split("|")]
        if not set(parts) <= NOUNS.keys() or any(_fits(value, part) for part in parts):
            _check_path(name, value, parts)
            continue
        nouns = [noun for part, noun in NOUNS.items() if part in parts and part != "None"]
        if "Path" in parts:
            nouns.remove(NOUNS["str"])
        raise InputError(f"`{name}` is {brief(value)}; {' or '.join(nouns)} is needed", option=name)


def _fits(value: object, part: str) -> bool:
    if part == "Path":
        return isinstance(value, os.PathLike)
    if part == "Sequence[str]":
        is_one = isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__len__")
        return not is_one and isinstance(value, Iterable) and all(isinstance(x, str) for x in value)
    if part in ("int", "float"):
        method = "__index__" if part == "int" else "__float__"
        return hasattr(value, method) and not isinstance(value, bool)
    names = [one.__name__ for one in type(value).__mro__]
    return ("NoneType" if part == "None" else part) in names


def _check_path(name: str, value: object, parts: Sequence[str]) -> None:
    if "Path" in parts and isinstance(value, str) and "\0" in value:
        raise InputError(f"`{name}` is {brief(value)}; no path has a null byte", option=name)
    if name in OUTPUTS and isinstance(value, (str, os.PathLike)) and str(value) in ("", "."):
        raise InputError(
            f"`{name}` is a folder, the working directory, or nothing; give a file's name",
            option=name,
        )


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


def check_paths(name: str, value: object) -> list[Path]:
    """Return one path, or several, as a list; InputError for anything else."""
    values = [value] if isinstance(value, (str, os.PathLike)) else value
    if isinstance(values, (bytes, Mapping)) or not isinstance(values, Iterable):
        raise InputError(f"`{name}` is {brief(value)}; paths are needed", option=name)
    paths = list(values)
    for path in paths:
        check_kinds({name: "str | Path"}, {name: path})
    return [Path(path) for path in paths]


def check_level(level: object) -> None:
    """Raise InputError for what is no level of an interval."""
    check_number("level", level, *LEVELS)
