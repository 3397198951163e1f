"""What a setting of the service may be: types with their bounds, and words for other values."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from numbers import Integral, Real
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field
from pydantic_core import ErrorDetails, PydanticKnownError

from mismatch.serving.hosts import HOST_NAME

__all__ = [
    "DEFAULT",
    "DESCRIBING",
    "SHORTEST_TOKEN",
    "UNIT",
    "Bytes",
    "Count",
    "FetchHost",
    "HostName",
    "ModelName",
    "Network",
    "Origin",
    "Route",
    "Seconds",
    "Text",
    "Token",
    "allowed",
    "plain",
    "refusal",
    "setting",
]

Value = TypeVar("Value")

DEFAULT = "default"  # name of the model that requests without a name get
DESCRIBING = frozenset({"/metrics", "/openapi.json"})  # routes that `open_routes` may open
SHORTEST_TOKEN = 16  # characters
LONGEST_SHOWN = 100  # characters of a value in a message
DAY = 86_400  # seconds
LABELS = r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*"
PORT = r"(?::[1-9]\d{0,4})?"
FETCH_HOST = re.compile(rf"(?:\*\.)?{LABELS}{PORT}", re.ASCII | re.IGNORECASE)
USUAL_PORT = r"http://.*:80|https://.*:443"
ORIGIN = re.compile(
    rf"\*|(?!(?:{USUAL_PORT})\Z)[a-z][a-z0-9+.-]*://(?:{LABELS}|\[[0-9a-f:.]+\]){PORT}", re.ASCII
)
MODEL_NAME = re.compile(rf"(?!{DEFAULT}\Z)[\w.-]{{1,64}}", re.ASCII)


def _written(pattern: re.Pattern[str], problem: str) -> AfterValidator:
    """Return a check that refuses what doesn't match, and says what the problem is."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{text!r} {problem}")
        return text

    return AfterValidator(check)


def _text(value: str) -> str:
    if not value:  # `min_length` would refuse folders whose names are not UTF-8
        raise PydanticKnownError("string_too_short", {"min_length": 1})
    return value


def _token(token: str) -> str:
    """Refuse what can't be a bearer token, in words that don't hold it."""
    if token.split() != [token]:
        raise ValueError("a token holds a blank, which no header could; take another one")
    if not token.isprintable():
        raise ValueError(
            "a token holds a letter that can't be encoded, or is none; take another one"
        )
    if len(token) < SHORTEST_TOKEN:
        raise ValueError(f"a token has fewer than {SHORTEST_TOKEN} characters; take a longer one")
    return token


def _fetch_host(host: str) -> str:
    if not FETCH_HOST.fullmatch(host) and not _is_address(host):
        example = "images.example.com, images.example.com:8080 or *.example.com"
        raise ValueError(f"{host!r} is no host; write it as {example}, without http://")
    return host


def _network(network: str) -> str:
    try:
        ip_network(network)
    except ValueError as error:
        raise ValueError(f"{error}; write it as 10.1.0.0/16") from error
    return network


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


WORDS = {
    "array": "a list of strings",
    "boolean": "true or false",
    "object": "an object of names and strings",
    "string": "a string",
}
UNIT: dict[str, Any] = {"unit": "seconds"}
Bytes = Annotated[int, Field(ge=1, le=2**40)]
Count = Annotated[int, Field(ge=1, le=2**20)]
Seconds = Annotated[float, Field(gt=0, le=DAY, json_schema_extra=UNIT)]
Text = Annotated[str, AfterValidator(_text)]
ModelName = Annotated[
    str,
    _written(
        MODEL_NAME,
        f"can't be a model's name; take up to 64 letters, digits and . _ -, and not {DEFAULT}",
    ),
]
Token = Annotated[str, AfterValidator(_token), Field(json_schema_extra={"format": "password"})]
HostName = Annotated[
    str,
    _written(
        HOST_NAME,
        "is no name; write it as match.example.com, *.example.com or *, without a port",
    ),
]
FetchHost = Annotated[str, AfterValidator(_fetch_host)]
Origin = Annotated[
    str,
    _written(
        ORIGIN,
        "is no origin; write it as browsers do: https://shop.example.com, in lower case, without a"
        " path or its usual port",
    ),
]
Network = Annotated[str, AfterValidator(_network)]
Route = Annotated[
    str,
    _written(
        re.compile("|".join(map(re.escape, DESCRIBING))),
        f"can't be opened; {' and '.join(sorted(DESCRIBING))} can",
    ),
]


def setting(description: str, default: Value, **more: Any) -> Value:
    """Return a field with a default and its help; `more` is of pydantic's Field."""
    field: Value = Field(default=default, description=description, **more)
    return field


def plain(value: Any) -> Any:
    """Return a value as JSON has it: paths as strings, NumPy's numbers as Python's."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return value


def refusal(error: ErrorDetails, value: Any, schema: Mapping[str, Any]) -> str:
    """Return what pydantic refused of a setting's value, and what is needed, to follow its name.

    `schema`: the setting's JSON Schema. No word of a secret is in it.
    """
    if error["type"] == "value_error":
        return f": {error['ctx']['error']}"
    inside = error["loc"][1:]
    if len(inside) == 1 and schema.get("type") == "object":
        return f": {inside[0]} is {_shown(error['input'])}; a string is needed"
    if schema.get("items", {}).get("format") == "password":
        return " is no list of strings, which is needed"
    return f" is {_shown(value)}; {allowed(schema)} is needed"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def allowed(schema: Mapping[str, Any]) -> str:
    """Return what a setting may be, in words, from its JSON Schema."""
    if "anyOf" in schema:  # the other one is null
        schema = schema["anyOf"][0]
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    if schema["type"] == "integer":
        return f"a whole number from {schema['minimum']:,} to {schema['maximum']:,}"
    if schema["type"] == "number":
        unit = f" of {schema['unit']}" if "unit" in schema else ""
        low = "minimum" if "minimum" in schema else "exclusiveMinimum"
        begin = f"{'from' if low == 'minimum' else 'more than'} {schema[low]:g}"
        return f"a number{unit}, {begin}, {schema['maximum']:,g} at most"
    return WORDS[schema["type"]]
