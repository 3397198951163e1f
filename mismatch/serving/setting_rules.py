"""What a setting of the service may be: each rule checks a value, and says what is needed."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from numbers import Integral, Real
from typing import Any, Protocol

from mismatch.errors import InputError
from mismatch.serving.hosts import HOST_NAME

__all__ = [
    "Choice",
    "Flag",
    "Number",
    "Rule",
    "Text",
    "TextByName",
    "Texts",
    "Whole",
    "fetch_problem",
    "host_problem",
    "network_problem",
    "one_of",
    "origin_problem",
    "token_problem",
]

SHORTEST_TOKEN = 16  # characters
LONGEST_SHOWN = 100  # characters of a value in a message
NAME = r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*"
PORT = r"(?::[1-9]\d{0,4})?"
FETCH_HOST = re.compile(rf"(?:\*\.)?{NAME}{PORT}", re.ASCII | re.IGNORECASE)
ORIGIN = re.compile(rf"[a-z][a-z0-9+.-]*://(?:{NAME}|\[[0-9a-f:.]+\]){PORT}", re.ASCII)
USUAL_PORT = re.compile(r"http://.*:80|https://.*:443", re.ASCII)


class Rule(Protocol):
    """What one setting may be."""

    def checked(self, subject: str, value: Any) -> Any:
        """Return the value as the service keeps it; InputError, which begins with `subject`."""


def refused(subject: str, value: object, needed: str) -> InputError:
    """Return the error for a value, and what is needed in its place."""
    shown = repr(value)
    if len(shown) > LONGEST_SHOWN:
        shown = shown[: LONGEST_SHOWN - 1] + "…"
    return InputError(f"{subject} is {shown}; {needed} is needed")


@dataclass(frozen=True)
class Text:
    """A string that is not empty; a path is one, too."""

    def checked(self, subject: str, value: Any) -> str:
        text = os.fspath(value) if isinstance(value, os.PathLike) else value
        if not isinstance(text, str) or not text:
            raise refused(subject, value, "a string")
        return text


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def checked(self, subject: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise refused(subject, value, "true or false")
        return value


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def checked(self, subject: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise refused(subject, value, f"one of {', '.join(self.words)}")
        return value


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds."""

    low: int
    high: int
    may_be_none: bool = False

    def checked(self, subject: str, value: Any) -> int | None:
        if value is None and self.may_be_none:
            return None
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not is_whole or not self.low <= value <= self.high:
            needed = f"a whole number from {self.low:,} to {self.high:,}"
            raise refused(subject, value, needed)
        return int(value)


@dataclass(frozen=True)
class Number:
    """A number above `low`, or from `low` where that `is_allowed`, and up to `high`."""

    low: float
    high: float
    unit: str = ""
    is_low_allowed: bool = False

    def checked(self, subject: str, value: Any) -> float:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not self._covers(float(value)):
            begin = f"from {self.low:g}" if self.is_low_allowed else f"more than {self.low:g}"
            unit = f" {self.unit}" if self.unit else ""
            raise refused(subject, value, f"a number{unit}, {begin}, {self.high:,g} at most,")
        return float(value)

    def _covers(self, value: float) -> bool:
        is_above = value >= self.low if self.is_low_allowed else value > self.low
        return math.isfinite(value) and is_above and value <= self.high


@dataclass(frozen=True)
class Texts:
    """A list of strings, in which `problem` finds nothing wrong."""

    problem: Callable[[str], str | None]
    is_secret: bool = False  # whether no message may show it

    def checked(self, subject: str, value: Any) -> tuple[str, ...]:
        is_list = isinstance(value, list | tuple)
        if not is_list or not all(isinstance(text, str) for text in value):
            if self.is_secret:
                raise InputError(f"{subject} is no list of strings, which is needed")
            raise refused(subject, value, "a list of strings")
        for text in value:
            problem = self.problem(text)
            if problem is not None:
                raise InputError(f"{subject}: {problem}")
        return tuple(value)


@dataclass(frozen=True)
class TextByName:
    """An object of strings; `problem` finds nothing wrong with their names."""

    problem: Callable[[str], str | None]

    def checked(self, subject: str, value: Any) -> dict[str, str]:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise refused(subject, value, "an object of names and strings")
        found = {}
        for name, text in value.items():
            problem = self.problem(name)
            if problem is not None:
                raise InputError(f"{subject}: {problem}")
            found[name] = Text().checked(f"{subject}: {name}", text)
        return found


def token_problem(token: str) -> str | None:
    """Say what keeps a bearer token from being one; None where nothing does. The words don't hold
    it.
    """
    if token.split() != [token]:
        return "a token holds a blank, which no header could; take another one"
    if not token.isprintable():
        return "a token holds a letter that can't be encoded, or is none; take another one"
    if len(token) < SHORTEST_TOKEN:
        return f"a token has fewer than {SHORTEST_TOKEN} characters; take a longer one"
    return None


def host_problem(host: str) -> str | None:
    """Say what is wrong with a name that the service answers to; None where nothing is."""
    if HOST_NAME.fullmatch(host):
        return None
    return f"{host!r} is no name; write it as match.example.com, *.example.com or *, without a port"


def fetch_problem(host: str) -> str | None:
    """Say what is wrong with a host from which images may be fetched; None where nothing is."""
    if FETCH_HOST.fullmatch(host) or _is_address(host):
        return None
    example = "images.example.com, images.example.com:8080 or *.example.com"
    return f"{host!r} is no host; write it as {example}, without http://"


def origin_problem(origin: str) -> str | None:
    """Say what is wrong with a site whose pages may ask; None where nothing is."""
    if origin == "*" or (ORIGIN.fullmatch(origin) and not USUAL_PORT.fullmatch(origin)):
        return None
    words = "write it as browsers do: https://shop.example.com, in lower case, without a path"
    return f"{origin!r} is no origin; {words} or its usual port"


def network_problem(network: str) -> str | None:
    """Say what is wrong with a network in which hosts may lie; None where nothing is."""
    try:
        ip_network(network)
    except ValueError as error:
        return f"{error}; write it as 10.1.0.0/16"
    return None


def one_of(words: Collection[str]) -> Callable[[str], str | None]:
    """Find wrong what is not among some words."""

    def problem(word: str) -> str | None:
        if word in words:
            return None
        return f"{word!r} can't be opened; {' and '.join(sorted(words))} can"

    return problem


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
