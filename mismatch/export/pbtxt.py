"""Protobuf's text format, written from dictionaries, as far as Triton's config.pbtxt needs it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["Config", "Message", "Word", "is_as_written"]

Message = dict[str, Any]
MARK = b"# sha256 of the lines below, by which their writer knows its own: "
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


class Word(str):
    """A name that stands without quotes: a value of an enum."""


class Config(NamedTuple):
    """A message, and the lines of the comment before it."""

    message: Message
    notes: list[str]

    def text(self) -> str:
        """Write dictionaries as messages, and their lists as repeated fields, below a checksum."""
        lines = [*(f"# {note}" for note in self.notes), *_lines(self.message)]
        text = "".join(f"{line}\n" for line in lines)
        return f"{MARK.decode()}{_digest(text.encode())}\n{text}"


def is_as_written(data: bytes) -> bool:
    """Return whether a file still is what `Config.text` gave, and nobody's work is in it."""
    first, _, rest = data.partition(b"\n")
    return first == MARK + _digest(rest).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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
