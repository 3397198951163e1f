"""How the service behaves: models, limits, batches, tokens. Read from a JSON file, the environment,
or given.
"""

from __future__ import annotations

import os
import re
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from mismatch.errors import InputError
from mismatch.io.reading import parse_json, read_text
from mismatch.runtime.predictor import Provider
from mismatch.serving.setting_rules import (
    Choice,
    Flag,
    Number,
    Rule,
    Text,
    TextByName,
    Texts,
    Whole,
    fetch_problem,
    host_problem,
    network_problem,
    one_of,
    origin_problem,
    token_problem,
)

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
MOST_BYTES = 2**40
DAY = 86_400  # seconds
NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
PROVIDERS = ("auto", "cpu", "cuda", "tensorrt")


def _model_name_problem(name: str) -> str | None:
    if NAME.fullmatch(name) and name != DEFAULT:
        return None
    words = f"take up to 64 letters, digits and . _ -, and not {DEFAULT}"
    return f"{name!r} can't be a model's name; {words}"


def _setting(rule: Rule, default: Any = MISSING) -> Any:
    """Return a field whose values follow a rule."""
    return field(default=default, metadata={"rule": rule})


BYTES = Whole(1, MOST_BYTES)
SECONDS = Number(0, DAY, "of seconds")


@dataclass(frozen=True)
class Settings:
    """Everything but the models' own. InputError for what is none of the type, or out of bounds."""

    model: str = _setting(Text())  # folder of a bundle or a checkpoint, or FAMILY:MODEL
    # further ones by name
    models: dict[str, str] = field(
        default_factory=dict, metadata={"rule": TextByName(_model_name_problem)}
    )
    provider: Provider = field(default="auto", metadata={"rule": Choice(PROVIDERS)})
    threads: int | None = _setting(Whole(1, 1024, may_be_none=True), None)  # of the towers
    max_body: int = _setting(BYTES, 32 * MEGABYTE)  # bytes of a request
    # bytes of all requests that are being answered, and of the images fetched for them
    max_bodies: int = _setting(BYTES, 256 * MEGABYTE)
    max_image: int = _setting(BYTES, 16 * MEGABYTE)  # bytes of one image
    max_pixels: int = _setting(Whole(1, 2**31), 50_000_000)  # of one image
    # seconds of processor time that one image may take to decode
    decode_seconds: float = _setting(SECONDS, 10.0)
    max_text: int = _setting(Whole(1, 2**24), 8_000)  # characters
    max_pairs: int = _setting(Whole(1, 2**20), 256)  # of one request
    batch: int = _setting(Whole(1, 2**16), 32)  # pairs that are scored together at most
    # seconds that a pair waits for others
    wait: float = _setting(Number(0, 1, "of seconds", is_low_allowed=True), 0.005)
    # pairs that may wait; beyond it requests are refused
    queue: int = _setting(Whole(1, 2**20), 512)
    # seconds that a pair may be expected to wait; beyond it likewise
    max_wait: float = _setting(SECONDS, 5.0)
    explanations: int = _setting(Whole(1, 2**16), 8)  # that may wait
    deadline: float = _setting(SECONDS, 30.0)  # until a request is given up
    header_deadline: float = _setting(SECONDS, 10.0)  # that a client has for a request's head
    connections: int = _setting(Whole(1, 2**20), 1000)  # at a time
    # bytes of embeddings, a model, of images and texts that may come again
    remember: int = _setting(Whole(0, MOST_BYTES), 64 * MEGABYTE)
    # bearer tokens, one of which a request needs; none: no token is needed
    tokens: tuple[str, ...] = _setting(Texts(token_problem, is_secret=True), ())
    # of /metrics and /openapi.json, those that need no token
    open_routes: tuple[str, ...] = _setting(Texts(one_of(DESCRIBING)), ())
    # names by which it may be asked, beside addresses and names without a dot; *.example.com, or *
    # for any
    hosts: tuple[str, ...] = _setting(Texts(host_problem), ())
    # of other sites' pages that may ask (CORS), or * for any
    origins: tuple[str, ...] = _setting(Texts(origin_problem), ())
    reload: bool = _setting(Flag(), False)  # whether POST /v1/reload is allowed
    # hosts from which images may be fetched, *.example.com for all below one; none: no address is
    # ever fetched
    fetch: tuple[str, ...] = _setting(Texts(fetch_problem), ())
    # private networks in which these hosts may lie, as 10.1.0.0/16; others are refused
    fetch_networks: tuple[str, ...] = _setting(Texts(network_problem), ())
    fetch_seconds: float = _setting(SECONDS, 10.0)  # for one image, redirects included
    # the last ones, whose scores and texts are compared with the model's reference
    drift_pairs: int = _setting(Whole(1, 2**24), 5_000)
    # population stability index from which /readyz warns
    drift_warning: float = _setting(Number(0, 1e6), 0.25)

    def __post_init__(self) -> None:
        for name, rule in _rules(type(self)).items():
            value = rule.checked(f"the service's {name}", getattr(self, name))
            object.__setattr__(self, name, value)  # frozen for all others
        if self.max_pairs > self.queue:
            raise InputError(
                f"a request may have {self.max_pairs} pairs, but only {self.queue} may wait; raise"
                " queue or lower max_pairs"
            )
        if self.max_bodies < self.max_body:
            raise InputError(
                f"a request may have {self.max_body:,} bytes, but all together only"
                f" {self.max_bodies:,}; raise max_bodies or lower max_body"
            )

    @property
    def named(self) -> dict[str, str]:
        """Return all models by name, the default one first."""
        return {DEFAULT: self.model} | self.models

    @classmethod
    def read(cls, path: str | Path, **more: Any) -> Self:
        """Read the settings from a JSON file of these names; what is given besides it wins."""
        try:
            found = parse_json(read_text(path))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path} can't be read as the service's settings: {error}") from error
        if not isinstance(found, dict):
            raise InputError(f"{path} holds no JSON object of settings")
        for name, rule in _rules(cls).items():
            if name in found:  # also where `more` wins
                rule.checked(f"{path}: {name}", found[name])
        return cls._of(found | more, str(path))

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings for `uvicorn mismatch.serving.app:app`: from the file that
        `SETTINGS_ENV` names, the model that `MODEL_ENV` names, or both.

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
        return cls(**values)


def _rules(kind: type[Settings]) -> dict[str, Rule]:
    return {item.name: item.metadata["rule"] for item in fields(kind)}


def settings_of_environment() -> dict[str, tuple[str, ...]]:
    """Return the settings `tokens` and `hosts` of `TOKENS_ENV` and `HOSTS_ENV`, where these are
    set.

    InputError for a `TOKENS_ENV` without a token: whoever sets it does not want an open service.
    """
    found = {"tokens": _listed(TOKENS_ENV), "hosts": _listed(HOSTS_ENV)}
    if TOKENS_ENV in os.environ and not found["tokens"]:
        raise InputError(
            f"{TOKENS_ENV} is set, and holds no token; set tokens of 16 characters or more, or"
            " unset it for a service that needs none"
        )
    return {name: values for name, values in found.items() if values}


def _listed(variable: str) -> tuple[str, ...]:
    values = os.environ.get(variable, "").split(",")
    return tuple(value.strip() for value in values if value.strip())
