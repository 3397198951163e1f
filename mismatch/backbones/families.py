"""What plugins offer: families of backbones, where they come from, and what is wrong with some."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mismatch.backbones.hookspecs import Load

__all__ = ["BackboneFamily", "Origin", "Problem"]


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from."""

    entry_point: str  # its name in the group
    module: str  # what the entry point names
    distribution: str
    version: str

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
