"""Protobuf's text format, as far as Triton's config.pbtxt needs it: written from dictionaries and
read back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mismatch.errors import InputError

__all__ = ["Word", "each", "from_text", "to_text"]

TOKEN = re.compile(
    r'\s+|#[^\n]*|"(?P<text>(?:[^"\\\n]|\\.)*)"|(?P<word>[-+.\w]+)|(?P<sign>[{}\[\]:,;])'
)
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


class Word(str):
    """A name that stands without quotes: a value of an enum."""


def to_text(message: Mapping[str, Any], comment: str = "") -> str:
    """Write dictionaries as messages, their lists as repeated fields; `comment` goes before all, a
    # on each of its lines.
    """
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Mapping[str, Any]) -> Iterator[str]:
    for name, value in message.items():
        if isinstance(value, list) and not any(isinstance(one, Mapping) for one in value):
            yield f"{name}: [ {', '.join(map(_scalar, value))} ]"
            continue
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Mapping):
                yield f"{name} {{"
                yield from (f"  {line}" for line in _lines(one))
                yield "}"
            else:
                yield f"{name}: {_scalar(one)}"


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not isinstance(value, Word):
        return '"' + "".join(ESCAPES.get(char, char) for char in value) + '"'
    return str(value)


def from_text(text: str) -> dict[str, Any]:
    """Read the dictionaries again; a field that stands several times is a list. InputError where it
    is no such text.
    """
    tokens = list(_tokens(text))
    message, at = _message(tokens, 0)
    if at < len(tokens):
        raise InputError(f"a {tokens[at][1]} too many in the protobuf text")
    return message


def each(message: Mapping[str, Any], name: str) -> list[Any]:
    """Return a repeated field as a list: none, one or several."""
    value = message.get(name, [])
    return value if isinstance(value, list) else [value]


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) of each token; kind: text, word or sign."""
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise InputError(f"the protobuf text can't be read from {text[at : at + 20]!r} on")
        if found.lastgroup:
            yield found.lastgroup, found[found.lastgroup]
        at = found.end()


def _message(tokens: list[tuple[str, str]], at: int) -> tuple[dict[str, Any], int]:
    """Return the fields up to the closing brace or the end, and where that is."""
    found: dict[str, Any] = {}
    while at < len(tokens) and tokens[at] != ("sign", "}"):
        kind, name = tokens[at]
        if kind != "word":
            raise InputError(f"the protobuf text has {name!r} where a field's name is needed")
        at += 1
        if _sign(tokens, at) == ":":
            at += 1
        value, at = _value(tokens, at)
        found[name] = (
            value
            if name not in found
            else [*each(found, name), *(value if isinstance(value, list) else [value])]
        )
        if _sign(tokens, at) in (",", ";"):
            at += 1
    return found, at


def _value(tokens: list[tuple[str, str]], at: int) -> tuple[Any, int]:
    if at >= len(tokens):
        raise InputError("the protobuf text ends within a field")
    kind, said = tokens[at]
    if kind != "sign":
        return (
            re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), said)
            if kind == "text"
            else _plain(said)
        ), at + 1
    if said == "{":
        message, at = _message(tokens, at + 1)
        if _sign(tokens, at) != "}":
            raise InputError("the protobuf text ends within a message")
        return message, at + 1
    if said != "[":
        raise InputError(f"the protobuf text has {said!r} where a value is needed")
    values: list[Any] = []
    at += 1
    while _sign(tokens, at) != "]":
        value, at = _value(tokens, at)
        values.append(value)
        if _sign(tokens, at) == ",":
            at += 1
    return values, at + 1


def _sign(tokens: list[tuple[str, str]], at: int) -> str:
    return tokens[at][1] if at < len(tokens) and tokens[at][0] == "sign" else ""


def _plain(word: str) -> Any:
    if word in ("true", "false"):
        return word == "true"
    return (
        int(word)
        if re.fullmatch(r"[-+]?\d+", word)
        else float(word)
        if re.fullmatch(r"[-+]?\d*\.\d+", word)
        else Word(word)
    )
