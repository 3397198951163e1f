"""What all specs share: they travel as JSON, and a wrong field is refused in words."""

from __future__ import annotations

import sys
import types
from collections.abc import Hashable, Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from mismatch.errors import InputError

__all__ = ["KINDS", "LARGEST_INTEGER", "SHOWN", "Spec", "brief", "check_choice"]

LARGEST_INTEGER = 2**63 - 1  # of the arrays that ids become
KINDS = {
    "int": "a whole number",
    "float": "a finite number",
    "str": "text",
    "RGB": "a list of three numbers",
    "tuple[int, int, int]": "a list of three levels",
}
SHOWN = 80  # characters of a wrong value in an error


class Spec:
    """A dataclass that travels as JSON; an unknown or missing key is refused, never ignored."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types only; tuples become lists."""
        values = asdict(self)  # type: ignore[call-overload]
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], **more: Any) -> Self:
        """Rebuild from `to_dict`; `more` supplies fields that travel elsewhere. InputError for a
        value of another type than the field's.
        """
        cls._check_object(data)
        values = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        } | more
        field_names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - field_names):
            raise InputError(
                f"{cls.__name__} has unknown fields {', '.join(unknown)}; it was written by a newer"
                " mismatch: upgrade"
            )
        hints = _hints(cls)  # type: ignore[arg-type]
        for name, value in values.items():
            if not _fits(value, hints[name]):
                raise InputError(
                    f"{cls.__name__}.{name} is {brief(value)}; {_wanted(cls, name)} is needed"
                )
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"{cls.__name__} is incomplete: {error}") from None

    @classmethod
    def _check_object(cls, data: object) -> None:
        if not isinstance(data, Mapping):
            raise InputError(f"{cls.__name__} is {brief(data)}; an object is needed")


@cache
def _hints(cls: Hashable) -> dict[str, Any]:
    """Return the types of a class's fields."""
    return get_type_hints(cls)  # of a class, which is hashable


def _wanted(cls: type, name: str) -> str:
    """Return what a field takes, for people."""
    annotation = next(str(item.type) for item in fields(cls) if item.name == name)
    return KINDS.get(annotation, annotation)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value of JSON is of an annotation's type. Numbers are finite, and True is
    none; choices are left to `check_choice`.
    """
    origin = get_origin(hint)
    parts = get_args(hint)
    if origin is types.UnionType:
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return True
    if origin is tuple:
        return isinstance(value, tuple) and _all_fit(value, parts)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(key, parts[0]) and _fits(item, parts[1]) for key, item in value.items()
        )
    if hint is float:
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) <= sys.float_info.max
        )
    if hint is int:
        return (
            isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_INTEGER
        )
    return isinstance(value, hint)


def _all_fit(values: tuple[Any, ...], kinds: tuple[Any, ...]) -> bool:
    if kinds[-1] is Ellipsis:
        return all(_fits(value, kinds[0]) for value in values)
    return len(values) == len(kinds) and all(
        _fits(value, kind) for value, kind in zip(values, kinds, strict=True)
    )


def brief(value: Any) -> str:
    """Return a value as Python writes it, or its beginning."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def check_choice(owner: object, name: str, choices: Any) -> None:
    """Refuse a field that is none of its choices, a Literal: InputError."""
    if getattr(owner, name) not in get_args(choices):
        raise InputError(
            f"{type(owner).__name__}.{name} is {brief(getattr(owner, name))}; one of"
            f" {', '.join(get_args(choices))} is needed"
        )
