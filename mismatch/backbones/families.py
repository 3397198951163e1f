"""What plugins offer: families of backbones, where they come from, and what is wrong with some."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from typing import Any, Self

from mismatch.backbones.hookspecs import API_VERSION, Load
from mismatch.errors import BackboneError

__all__ = ["BackboneFamily", "Origin", "Problem", "check_offer"]

FAMILY_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from."""

    entry_point: str  # its name in the group
    module: str  # what the entry point names
    distribution: str
    version: str

    @classmethod
    def of(cls, point: EntryPoint) -> Self:
        """Return where an entry point's plugin comes from."""
        release = (point.dist.name, point.dist.version) if point.dist else ("unknown", "unknown")
        return cls(point.name, point.value, *release)

    def __str__(self) -> str:
        return f"{self.entry_point!r} ({self.module} of {self.distribution} {self.version})"


@dataclass(frozen=True)
class BackboneFamily:
    """One family as its plugin registered it, and where it came from."""

    name: str
    load: Load = field(repr=False)
    models: tuple[str, ...]
    default_model: str
    description: str
    api_version: int
    distribution: str
    version: str  # of the distribution
    entry_point: str
    module: str

    def to_dict(self) -> dict[str, Any]:
        """Return it with plain JSON types only, without `load`."""
        facts = {name: value for name, value in vars(self).items() if name != "load"}
        return facts | {"models": list(self.models)}


@dataclass(frozen=True)
class Problem:
    """A plugin that could not be used, or that lost a name to another."""

    entry_point: str
    module: str
    distribution: str
    version: str
    message: str  # one line, for people
    trace: str = field(default="", repr=False)  # the traceback, for its author

    def origin(self) -> dict[str, Any]:
        """Return where the plugin comes from, with plain JSON types only."""
        names = ("distribution", "version", "entry_point", "module")
        return {name: getattr(self, name) for name in names}


def check_offer(
    name: object, load: object, models: Sequence[str], default_model: str, api_version: object
) -> None:
    """Raise BackboneError for what a plugin can't register."""
    if not isinstance(api_version, int) or isinstance(api_version, bool):
        raise BackboneError(
            f"family {name!r} has the api_version {api_version!r}; give the number {API_VERSION},"
            " or leave it out"
        )
    if api_version != API_VERSION:
        advice = "upgrade mismatch-clip" if api_version > API_VERSION else "upgrade the plugin"
        raise BackboneError(
            f"family {name!r} is written for plugin API {api_version!r}, this mismatch speaks"
            f" {API_VERSION}; {advice}"
        )
    if not isinstance(name, str) or not FAMILY_NAME.fullmatch(name):
        raise BackboneError(
            f"family name {name!r} is not usable; small letters, digits, '-', '_' and '.' are"
        )
    if not callable(load):
        raise BackboneError(f"family {name!r} has a load that can't be called: {load!r}")
    if (
        isinstance(models, str)
        or not models
        or not all(isinstance(model, str) and model for model in models)
    ):
        raise BackboneError(
            f"family {name!r} needs models, a list of names with at least one, not {models!r}"
        )
    if default_model and default_model not in models:
        raise BackboneError(
            f"family {name!r} has the default model {default_model!r}, which is not among its"
            " models"
        )
