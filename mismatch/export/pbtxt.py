"""Protobuf's text format, written from dictionaries, as far as Triton's config.pbtxt needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["Config", "Message", "Word"]

Message = dict[str, Any]
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


class Word(str):
    """A name that stands without quotes: a value of an enum."""


class Config(NamedTuple):
    """A message, and the lines of the comment before it."""

    message: Message
    notes: list[str]

    def text(self) -> str:
        """Write dictionaries as messages, and their lists as repeated fields."""
        lines = [*(f"# {note}" for note in self.notes), *_lines(self.message)]
        return "".join(f"{line}\n" for line in lines)


def _lines(message: Mapping[str, Any]) -> Iterator[str]:
    for name, value in message.items():
        if isinstance(value, list) and not any(isinstance(item, Mapping) for item in value):
            yield f"{name}: [ {', '.join(map(_scalar, value))} ]"
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                yield f"{name} {{"
                yield from (f"  {line}" for line in _lines(item))
                yield "}"
            else:
                yield f"{name}: {_scalar(item)}"


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not isinstance(value, Word):
        return '"' + "".join(ESCAPES.get(char, char) for char in value) + '"'
    return str(value)
