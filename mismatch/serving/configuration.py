"""How the service behaves: models, limits, batches, tokens. Read from a JSON file, the environment,
or given.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import ArgsKwargs

from mismatch.errors import InputError
from mismatch.io.reading import parse_json, read_text
from mismatch.io.text import did_you_mean
from mismatch.runtime.predictor import Provider
from mismatch.serving.setting_rules import (
    DEFAULT,
    DESCRIBING,
    UNIT,
    Bytes,
    Count,
    FetchHost,
    HostName,
    ModelName,
    Network,
    Origin,
    Route,
    Seconds,
    Text,
    Token,
    allowed,
    plain,
    refusal,
    setting,
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
TOKENS_ENV = "MISMATCH_SERVE_TOKENS"  # bearer tokens, separated by commas
HOSTS_ENV = "MISMATCH_SERVE_HOSTS"  # names, separated by commas
MEGABYTE = 2**20
# pydantic's words for a value too many
MISPLACED = ("unexpected_positional_argument", "multiple_argument_values")
CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=CONFIG)
class Settings:
    """Everything but the models' own. InputError for what is none of the type, or out of bounds."""

    model: Text = Field(
        description="Folder of a bundle or a checkpoint, hub:OWNER/NAME, or FAMILY:MODEL."
    )
    models: dict[ModelName, Text] = setting("Further models, by the name that requests give.", {})
    provider: Provider = setting("Where the towers run.", "auto")
    threads: Annotated[int, Field(ge=1, le=1024)] | None = setting(
        "Threads of the towers; None: the engine's own choice.", None
    )
    max_body: Bytes = setting("Bytes of a request.", 32 * MEGABYTE)
    max_bodies: Bytes = setting(
        "Bytes of all requests that are being answered, and of the images fetched for them.",
        256 * MEGABYTE,
    )
    max_image: Bytes = setting("Bytes of one image.", 16 * MEGABYTE)
    max_pixels: int = setting("Pixels of one image.", 50_000_000, ge=1, le=2**31)
    decode_seconds: Seconds = setting("Processor time that one image may take to decode.", 10.0)
    max_text: int = setting("Characters of a text.", 8_000, ge=1, le=2**24)
    max_pairs: Count = setting("Pairs of one request.", 256)
    batch: int = setting("Pairs that are scored together at most.", 32, ge=1, le=2**16)
    wait: float = setting(
        "Time that a pair waits for others.", 0.005, ge=0, le=1, json_schema_extra=UNIT
    )
    queue: Count = setting("Pairs that may wait; beyond it requests are refused.", 512)
    max_wait: Seconds = setting(
        "Time that a pair may be expected to wait; beyond it requests are refused.", 5.0
    )
    explanations: int = setting("Explanations that may wait.", 8, ge=1, le=2**16)
    deadline: Seconds = setting("Time until a request is given up.", 30.0)
    header_deadline: Seconds = setting("Time that a client has for a request's head.", 10.0)
    connections: Count = setting("Connections at a time.", 1000)
    remember: int = setting(
        "Bytes of embeddings, a model, of images and texts that may come again.",
        64 * MEGABYTE,
        ge=0,
        le=2**40,
    )
    tokens: tuple[Token, ...] = setting(
        "Bearer tokens, one of which a request needs; without any, no token is needed.",
        (),
        repr=False,
    )
    open_routes: tuple[Route, ...] = setting(
        "Those of /metrics and /openapi.json that need no token.", ()
    )
    hosts: tuple[HostName, ...] = setting(
        "Names by which it may be asked, next to addresses and names without a dot:"
        " shop.example.com, *.example.com, or * for any.",
        (),
    )
    origins: tuple[Origin, ...] = setting(
        "Other sites whose pages may ask (CORS), or * for any.", ()
    )
    reload: bool = setting("Whether POST /v1/reload is allowed.", False)
    fetch: tuple[FetchHost, ...] = setting(
        "Hosts from which images may be fetched, *.example.com for all below one; without any, no"
        " address is ever fetched.",
        (),
    )
    fetch_networks: tuple[Network, ...] = setting(
        "Private networks in which these hosts may lie, as 10.1.0.0/16; others are refused.", ()
    )
    fetch_seconds: Seconds = setting("Time for one image, redirects included.", 10.0)
    drift_pairs: int = setting(
        "The last pairs, whose scores and texts are compared with the model's reference.",
        5_000,
        ge=1,
        le=2**24,
    )
    drift_warning: float = setting(
        "Population stability index from which /readyz warns.", 0.25, gt=0, le=1e6
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_json(cls, value: Any) -> Any:
        return plain(value)

    @model_validator(mode="wrap")
    @classmethod
    def _checked(
        cls, values: ArgsKwargs, check: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        """Check values in words of ours; those of a file, which the context names, each alone."""
        try:
            settings = check(values)
        except ValidationError as error:
            message = _message(error, values, info.context)
            raise InputError(message) from None  # the cause would show tokens
        if info.context is None:
            settings._check_sums()
        return settings

    def _check_sums(self) -> None:
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
        """Read the settings from a JSON file of these names; `more` wins over it."""
        try:
            values = parse_json(read_text(path), unique=True)
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path} can't be read as the service's settings: {error}") from error
        if not isinstance(values, dict):
            raise InputError(f"{path} holds no JSON object of settings")
        model = {"model": more["model"]} if "model" in more else {}
        _adapter().validator.validate_python(  # the file's values, also where `more` wins
            ArgsKwargs((), model | values), context=str(path), self_instance=cls.__new__(cls)
        )
        return cls(**values | more)

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings for `uvicorn mismatch.serving.app:app`: from the file that
        `SETTINGS_ENV` names, the model that `MODEL_ENV` names, or both.

        Tokens and hosts come from `TOKENS_ENV` and `HOSTS_ENV`, where these are set.
        """
        path = os.environ.get(SETTINGS_ENV)
        model = os.environ.get(MODEL_ENV)
        more: dict[str, Any] = ({"model": model} if model else {}) | settings_of_environment()
        return cls.read(path, **more) if path else cls(**more)


@cache
def _adapter() -> TypeAdapter[Settings]:
    return TypeAdapter(Settings)


@cache
def _schemas() -> Mapping[str, Any]:
    """Return the JSON Schema of each setting."""
    schemas: dict[str, Any] = _adapter().json_schema()["properties"]
    return schemas


def _message(error: ValidationError, values: ArgsKwargs, file: str | None) -> str:
    """Return what is wrong with values, those of a file or given ones."""
    names = list(_schemas())
    settings = dict(zip(names, values.args, strict=False)) | (values.kwargs or {})
    unknown = [name for name in settings if name not in names]
    if unknown:
        nearest = did_you_mean(unknown[0], names) or f"; {', '.join(names)} are there"
        return f"{file or 'the service'}: there is no setting {unknown[0]!r}{nearest}"
    first = error.errors(include_url=False)[0]
    if first["type"] == "missing":
        words = f"set {MODEL_ENV}, or model in the file that {SETTINGS_ENV} names"
        return f"{file or 'what is given'} names no model; {words}"
    if first["type"] in MISPLACED:
        return "the service's settings are given each once, and best by name"
    place = first["loc"][0]
    name = names[place] if isinstance(place, int) else place
    source = f"{file}: " if file else "the service's "
    return f"{source}{name}{refusal(first, settings[name], _schemas()[name])}"


def _explained(name: str) -> str:
    """Return what a setting is for, what it may be, and its default."""
    schema = _schemas()[name]
    default = f" Default: {schema['default']}." if "default" in schema else ""
    return f"`{name}`: {schema['description']} It is {allowed(schema)}.{default}"


def settings_of_environment() -> dict[str, tuple[str, ...]]:
    """Return the settings `tokens` and `hosts` of `TOKENS_ENV` and `HOSTS_ENV`, where these are
    set.

    InputError for a `TOKENS_ENV` without a token: anyone who sets it does not want an open service.
    """
    settings = {"tokens": _listed(TOKENS_ENV), "hosts": _listed(HOSTS_ENV)}
    if TOKENS_ENV in os.environ and not settings["tokens"]:
        raise InputError(
            f"{TOKENS_ENV} is set, and holds no token; set tokens of 16 characters or more, or"
            " unset it for a service that needs none"
        )
    return {name: values for name, values in settings.items() if values}


def _listed(variable: str) -> tuple[str, ...]:
    values = os.environ.get(variable, "").split(",")
    return tuple(value.strip() for value in values if value.strip())


Settings.__doc__ = "\n".join([f"{Settings.__doc__}\n", *map(_explained, _schemas())])
