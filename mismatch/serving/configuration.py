"""How the service behaves: models, limits, batches, tokens. Read from a JSON file, the environment,
or given.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self

from mismatch.errors import InputError
from mismatch.files import parse_json, read_text
from mismatch.runtime.predictor import Provider
from mismatch.serving.hosts import HOST_NAME

__all__ = [
    "DEFAULT",
    "DESCRIBING",
    "HOSTS_ENV",
    "MODEL_ENV",
    "SETTINGS_ENV",
    "TOKENS_ENV",
    "Settings",
    "settings_of_environment",
]

MODEL_ENV = "CLIP_FINE_TUNED_MODEL_PATH"
SETTINGS_ENV = "MISMATCH_SERVE_SETTINGS"  # path of a JSON file
DEFAULT = "default"  # name of the model that requests without a name get
TOKENS_ENV = "MISMATCH_SERVE_TOKENS"  # bearer tokens, separated by commas
HOSTS_ENV = "MISMATCH_SERVE_HOSTS"  # names, separated by commas
DESCRIBING = frozenset({"/metrics", "/openapi.json"})  # routes that `open_routes` may open
MEGABYTE = 2**20
NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
POSITIVE = (
    "max_body",
    "max_bodies",
    "max_image",
    "max_pixels",
    "max_text",
    "max_pairs",
    "batch",
    "queue",
    "explanations",
    "connections",
    "drift_pairs",
)
SHORTEST_TOKEN = 16  # characters


@dataclass(frozen=True)
class Settings:
    """Everything but the models' own."""

    model: str  # folder of a bundle or a checkpoint, or FAMILY:MODEL
    models: dict[str, str] = field(default_factory=dict)  # further ones by name
    provider: Provider = "auto"
    threads: int | None = None  # of the towers
    max_body: int = 32 * MEGABYTE  # bytes of a request
    # bytes of all requests that are being answered, and of the images fetched for them
    max_bodies: int = 256 * MEGABYTE
    max_image: int = 16 * MEGABYTE  # bytes of one image
    max_pixels: int = 50_000_000  # of one image
    decode_seconds: float = 10.0  # of processor time that one image may take to decode
    max_text: int = 8_000  # characters
    max_pairs: int = 256  # of one request
    batch: int = 32  # pairs that are scored together at most
    wait: float = 0.005  # seconds that a pair waits for others
    queue: int = 512  # pairs that may wait; beyond it requests are refused
    max_wait: float = 5.0  # seconds that a pair may be expected to wait; beyond it likewise
    explanations: int = 8  # that may wait
    deadline: float = 30.0  # seconds until a request is given up
    header_deadline: float = 10.0  # seconds that a client has for the head of a request
    connections: int = 1000  # at a time
    # bytes of embeddings, a model, of images and texts that may come again
    remember: int = 64 * MEGABYTE
    # bearer tokens, one of which a request needs; none: no token is needed
    tokens: tuple[str, ...] = ()
    open_routes: tuple[str, ...] = ()  # of /metrics and /openapi.json, those that need no token
    # names by which it may be asked, beside addresses and names without a dot; *.example.com, or *
    # for any
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()  # of other sites' pages that may ask (CORS)
    reload: bool = False  # whether POST /v1/reload is allowed
    # hosts from which images may be fetched, *.example.com for all below one; none: no address is
    # ever fetched
    fetch: tuple[str, ...] = ()
    # private networks in which these hosts may lie, as 10.1.0.0/16; others are refused
    fetch_networks: tuple[str, ...] = ()
    fetch_seconds: float = 10.0  # for one image, redirects included
    # the last ones, whose scores and texts are compared with the model's reference
    drift_pairs: int = 5_000
    drift_warning: float = 0.25  # population stability index from which /readyz warns

    def __post_init__(self) -> None:
        for name in (
            "max_body",
            "max_image",
            "max_pixels",
            "max_text",
            "max_pairs",
            "max_bodies",
            "batch",
            "queue",
            "explanations",
            "connections",
            "drift_pairs",
        ):
            if getattr(self, name) < 1:
                raise InputError(
                    f"the service's {name} is {getattr(self, name)}; at least 1 is needed"
                )
        for name in (
            "deadline",
            "max_wait",
            "header_deadline",
            "fetch_seconds",
            "decode_seconds",
            "drift_warning",
        ):
            if not getattr(self, name) > 0:
                raise InputError(
                    f"the service's {name} is {getattr(self, name)}; more than 0 is needed"
                )
        for name in ("wait", "remember"):
            if not getattr(self, name) >= 0:
                raise InputError(
                    f"the service's {name} is {getattr(self, name)}; 0 or more is needed"
                )
        if self.max_pairs > self.queue:
            raise InputError(
                f"a request may have {self.max_pairs} pairs, but only {self.queue} may wait; raise"
                " queue or lower max_pairs"
            )
        if any(len(token) < SHORTEST_TOKEN for token in self.tokens):
            raise InputError(
                f"a token of the service has fewer than {SHORTEST_TOKEN} characters; take a"
                " longer one"
            )
        if any(len(token.split()) != 1 or token != token.strip() for token in self.tokens):
            raise InputError(
                "a token of the service holds a blank, which no header could; take another one"
            )
        if self.max_bodies < self.max_body:
            raise InputError(
                f"a request may have {self.max_body:,} bytes, but all together only"
                f" {self.max_bodies:,}; raise max_bodies or lower max_body"
            )
        for host in self.hosts:
            if not HOST_NAME.fullmatch(host):
                raise InputError(
                    f"the service's hosts: {host!r} is no name; write it as match.example.com,"
                    " *.example.com or *, without a port"
                )
        for route in self.open_routes:
            if route not in DESCRIBING:
                raise InputError(
                    f"the service's open_routes: {route!r} can't be opened;"
                    f" {' and '.join(sorted(DESCRIBING))} can"
                )
        for name in self.models:
            if not NAME.fullmatch(name) or name == DEFAULT:
                raise InputError(
                    f"{name!r} can't be a model's name; take up to 64 letters, digits and . _ -,"
                    f" and not {DEFAULT}"
                )
        for network in self.fetch_networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise InputError(
                    f"the service's fetch_networks: {error}; write it as 10.1.0.0/16"
                ) from None

    @property
    def named(self) -> dict[str, str]:
        """All models by name, the default one first."""
        return {DEFAULT: self.model} | self.models

    @classmethod
    def read(cls, path: str | Path, **more: Any) -> Self:
        """From a JSON file of these names; what is given beside it wins."""
        try:
            found = parse_json(read_text(path))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path} can't be read as the service's settings: {error}") from error
        if not isinstance(found, dict):
            raise InputError(f"{path} holds no JSON object of settings")
        return cls._of(found | more, str(path))

    @classmethod
    def from_environment(cls) -> Self:
        """For `uvicorn mismatch.serving.app:app`: the settings file that `SETTINGS_ENV` names, the
        model that `MODEL_ENV` names, or both.

        Tokens and hosts come from `TOKENS_ENV` and `HOSTS_ENV`, where these are set.
        """
        path = os.environ.get(SETTINGS_ENV)
        model = os.environ.get(MODEL_ENV)
        more: dict[str, Any] = ({"model": model} if model else {}) | settings_of_environment()
        if path:
            return cls.read(path, **more)
        return cls._of(more, "the environment")

    @classmethod
    def _of(cls, values: dict[str, Any], source: str) -> Self:
        known = {item.name: item for item in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise InputError(
                f"{source}: there is no setting {unknown[0]!r}; {', '.join(sorted(known))} are"
                " there"
            )
        if "model" not in values:
            raise InputError(
                f"{source} names no model; set {MODEL_ENV}, or model in the file that"
                f" {SETTINGS_ENV} names"
            )
        return cls(
            **{
                name: _of_type(value, str(known[name].type), f"{source}: {name}")
                for name, value in values.items()
            }
        )


def settings_of_environment() -> dict[str, tuple[str, ...]]:
    """The settings `tokens` and `hosts` of `TOKENS_ENV` and `HOSTS_ENV`, where these are set."""
    found = {"tokens": _listed(TOKENS_ENV), "hosts": _listed(HOSTS_ENV)}
    return {name: values for name, values in found.items() if values}


def _listed(variable: str) -> tuple[str, ...]:
    values = os.environ.get(variable, "").split(",")
    return tuple(value.strip() for value in values if value.strip())


def _of_type(value: Any, kind: str, what: str) -> Any:
    """A value of JSON as the field of that annotation has it."""
    if (
        kind == "tuple[str, ...]"
        and isinstance(value, (list, tuple))
        and all(isinstance(item, str) for item in value)
    ):
        return tuple(value)
    if (
        kind == "dict[str, str]"
        and isinstance(value, dict)
        and all(isinstance(item, str) for item in value.values())
    ):
        return value
    if kind == "Provider" and value in ("auto", "cpu", "cuda", "tensorrt"):
        return value
    simple: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "int": (int,),
        "float": (int, float),
        "bool": (bool,),
        "int | None": (int, type(None)),
    }
    if isinstance(value, simple.get(kind, ())) and isinstance(value, bool) == (kind == "bool"):
        return value
    raise InputError(f"{what} is {value!r}, which is no {kind.removesuffix(' | None')}")
