"""Messages in JSON, read field by field: the first thing that is wrong, or too many, ends it.

A general parser would make objects of all that was sent before anyone looks at it. This one knows
what it reads, so that it needs memory in proportion to what is right, and never recurses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from json.decoder import scanstring  # type: ignore[attr-defined]  # the standard library's, in C
from typing import Any, NoReturn, TypeVar, get_args, get_origin

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from mismatch.errors import InputError
from mismatch.serving.budget import current_client
from mismatch.serving.problems import first_error
from mismatch.serving.turns import Turns

__all__ = ["LARGE", "MORE", "BodyReader", "parse_message"]

LARGE = (
    2**12
)  # bytes of a body, from which it is parsed next to the event loop: 7 ms of small pairs
# names and pairs that are read at all, times `max_pairs`: a few too many are still counted
MORE = 4
SPACE = re.compile(r"[ \t\n\r]*")
WORDS = {"true": True, "false": False, "null": None}
SCALAR = re.compile(
    r"true|false|null|-?(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,3})?(?![\w.+-])",
    re.ASCII,
)
SURROGATE = re.compile("[\ud800-\udfff]")
SHOWN = 80  # characters of a name that a problem repeats
Kind = TypeVar("Kind", bound=BaseModel)
Parsed = TypeVar("Parsed")


class BodyReader:
    """Reads bodies. One large one is parsed at a time, by turns of clients: parsing takes up to
    0.1 s and Python's lock.
    """

    def __init__(self, limit: int) -> None:
        """Take `limit`: how many may wait."""
        self._turns = Turns(limit, "bodies")

    async def read(self, request: Request, parse: Callable[[bytes], Parsed]) -> Parsed:
        """Return what the whole body says; HTTPException or InputError where it can't be parsed,
        FullError where too many wait.
        """
        pieces = [piece async for piece in request.stream()]
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        del pieces  # nothing else keeps the body
        if len(body) < LARGE:
            return parse(body)
        return await self._turns.on_thread(current_client(), partial(parse, body))


def parse_message(body: bytes, kind: type[Kind], max_pairs: int) -> Kind:
    """Parse JSON in UTF-8 as a message of that kind.

    HTTPException (422) for the first thing that is wrong in it; InputError where it has more than
    `MORE * max_pairs` pairs, or names of one sort.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise HTTPException(422, "the body is not UTF-8; send JSON in that encoding") from None
    return _checked(kind, _Reader(text, max_pairs).message(kind), "")


class _Reader:
    """One text, and how far it is read."""

    def __init__(self, text: str, max_pairs: int) -> None:
        self._text = text
        self._position = 0
        self._max_pairs = max_pairs

    def message(self, kind: type[BaseModel]) -> dict[str, Any]:
        """Read the fields of the one object that the text is."""
        fields = self._object(kind, "")
        if self._next():
            self._broken()
        return fields

    def _object(self, kind: type[BaseModel], where: str) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name in self._keys(where, "an object"):
            place = _join(where, name)
            if name not in kind.model_fields:
                _wrong(place, "Extra inputs are not permitted")
            fields[name] = self._value(kind.model_fields[name].annotation, place)
        return fields

    def _value(self, annotation: Any, where: str) -> Any:
        """Read the value of a field: names with their texts, objects, or something simple."""
        if get_origin(annotation) is dict:
            return self._texts(where)
        if get_origin(annotation) is list:
            return self._objects(get_args(annotation)[0], where)
        if bool in (annotation, *get_args(annotation)):
            return self._simple(where, "a valid boolean")
        return self._simple(where, "a valid string")

    def _texts(self, where: str) -> dict[str, str]:
        texts: dict[str, str] = {}
        for name in self._keys(where, "an object"):
            place = _join(where, name)
            value = self._simple(place, "a valid string")
            if not isinstance(value, str):
                _wrong(place, "Input should be a valid string")
            texts[name] = value
            self._bound(len(texts), where)
        return texts

    def _objects(self, kind: type[BaseModel], where: str) -> list[BaseModel]:
        objects: list[BaseModel] = []
        if not self._takes("["):
            self._unfit(where, "a valid array")
        if self._takes("]"):
            return objects
        while True:
            place = _join(where, str(len(objects)))
            objects.append(_checked(kind, self._object(kind, place), place))
            self._bound(len(objects), where)
            if self._takes("]"):
                return objects
            self._expect(",")

    def _keys(self, where: str, what: str) -> Iterator[str]:
        """Yield each key of an object. Its value has to be read before the next key is taken."""
        if not self._takes("{"):
            self._unfit(where, what)
        if self._takes("}"):
            return
        seen: set[str] = set()
        while True:
            if self._next() != '"':
                self._broken()
            key = self._string()
            if key in seen:
                _wrong(_join(where, key), "it is there twice")
            seen.add(key)
            self._expect(":")
            yield key
            if self._takes("}"):
                return
            self._expect(",")

    def _simple(self, where: str, what: str) -> str | float | bool | None:
        """Read a string, a number, true, false or null."""
        sign = self._next()
        if sign == '"':
            return self._string()
        if sign in ("{", "["):
            self._unfit(where, what)
        scalar = SCALAR.match(self._text, self._position)
        if scalar is None:
            self._broken()
        self._position = scalar.end()
        word = scalar.group()
        return WORDS[word] if word in WORDS else float(word)

    def _string(self) -> str:
        try:
            value, self._position = scanstring(self._text, self._position + 1, True)
        except ValueError:
            self._broken()
        if not value.isascii() and SURROGATE.search(value):
            raise HTTPException(422, "the body holds half of a surrogate pair, which is no text")
        return str(value)

    def _next(self) -> str:
        """Return the next character that is no space, which stays; none at the end."""
        space = SPACE.match(self._text, self._position)
        if space is not None:
            self._position = space.end()
        return self._text[self._position : self._position + 1]

    def _takes(self, sign: str) -> bool:
        """Return whether that character is next, which is then behind."""
        if self._next() != sign:
            return False
        self._position += 1
        return True

    def _expect(self, sign: str) -> None:
        if not self._takes(sign):
            self._broken()

    def _bound(self, count: int, where: str) -> None:
        max_count = MORE * self._max_pairs
        if count > max_count:
            raise InputError(
                f"there are more than {max_count:,} {where}; {self._max_pairs:,} are the most pairs"
                " of one request"
            )

    def _unfit(self, where: str, what: str) -> NoReturn:
        """Refuse what is next, as it is not `what`: another kind of value, or nothing of JSON."""
        sign = self._next()
        if sign in ("{", "[", '"') or SCALAR.match(self._text, self._position):
            _wrong(where, f"Input should be {what}")
        self._broken()

    def _broken(self) -> NoReturn:
        problem = f"Invalid JSON at character {self._position:,}; send one object in UTF-8"
        raise HTTPException(422, f"the body: {problem}")


def _checked(kind: type[Kind], fields: dict[str, Any], where: str) -> Kind:
    """Return what was read as a message; no field can hold more than one error."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise HTTPException(422, first_error(error, where)) from None


def _join(where: str, name: str) -> str:
    return f"{where}.{name[:SHOWN]}" if where else name[:SHOWN]


def _wrong(where: str, what: str) -> NoReturn:
    raise HTTPException(422, f"{where or 'the body'}: {what}")
