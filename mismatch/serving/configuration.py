"""How the service behaves: limits, batches, tokens. Read from a JSON file, the environment, or given."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from mismatch.errors import InputError
from mismatch.runtime.predictor import Provider

__all__ = ["MODEL_ENV", "SETTINGS_ENV", "Settings"]

MODEL_ENV = "CLIP_FINE_TUNED_MODEL_PATH"
SETTINGS_ENV = "MISMATCH_SERVE_SETTINGS"  # path of a JSON file
MEGABYTE = 2**20


@dataclass(frozen=True)
class Settings:
    """Everything but the model's own."""

    model: str  # folder of a bundle or a checkpoint, or FAMILY:MODEL
    provider: Provider = "auto"
    threads: int | None = None  # of the towers
    max_body: int = 32 * MEGABYTE  # bytes of a request
    max_image: int = 16 * MEGABYTE  # bytes of one image
    max_pixels: int = 50_000_000  # of one image
    max_text: int = 8_000  # characters
    max_pairs: int = 256  # of one request
    batch: int = 32  # pairs that are scored together at most
    wait: float = 0.005  # seconds that a pair waits for others
    queue: int = 512  # pairs that may wait; beyond it requests are refused
    deadline: float = 30.0  # seconds until a request is given up
    tokens: tuple[str, ...] = ()  # bearer tokens, one of which each request to /v1 needs; none: no token is needed

    def __post_init__(self) -> None:
        for name in ("max_body", "max_image", "max_pixels", "max_text", "max_pairs", "batch", "queue"):
            if getattr(self, name) < 1:
                raise InputError(f"the service's {name} is {getattr(self, name)}; at least 1 is needed")
        if not (self.wait >= 0 and self.deadline > 0):
            raise InputError(f"the service's wait is {self.wait} and its deadline {self.deadline} seconds; 0 or more, and more than 0, are needed")
        if self.max_pairs > self.queue:
            raise InputError(f"a request may have {self.max_pairs} pairs, but only {self.queue} may wait; raise queue or lower max_pairs")
        if any(len(token) < 16 for token in self.tokens):
            raise InputError("a token of the service has fewer than 16 characters; take a longer one")

    @classmethod
    def read(cls, path: str | Path, **more: Any) -> Self:
        """From a JSON file of these names; what is given beside it wins."""
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} can't be read as the service's settings: {error}") from error
        if not isinstance(found, dict):
            raise InputError(f"{path} holds no JSON object of settings")
        return cls._of(found | more, str(path))

    @classmethod
    def from_environment(cls) -> Self:
        """For `uvicorn mismatch.serving.app:app`: the settings file that `SETTINGS_ENV` names, the model that `MODEL_ENV` names, or both."""
        path, model = os.environ.get(SETTINGS_ENV), os.environ.get(MODEL_ENV)
        more = {"model": model} if model else {}
        if path:
            return cls.read(path, **more)
        return cls._of(more, "the environment")

    @classmethod
    def _of(cls, values: dict[str, Any], source: str) -> Self:
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(f"{source}: there is no setting {unknown[0]!r}; {', '.join(sorted(known))} are there")
        if "model" not in values:
            raise InputError(f"{source} names no model; set {MODEL_ENV}, or model in the file that {SETTINGS_ENV} names")
        tokens = values.get("tokens", ())
        return cls(**values | {"tokens": tuple(tokens)})
