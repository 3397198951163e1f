"""The one hook that a plugin implements, its marker, and the version of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import pluggy

if TYPE_CHECKING:
    from mismatch.backbones.base import Backbone

__all__ = ["API_VERSION", "Load", "Register", "hookimpl", "hookspec", "register_backbones"]

API_VERSION = 1  # of the hook and of `Backbone`; raised when a plugin has to change

hookspec = pluggy.HookspecMarker("mismatch")
hookimpl = pluggy.HookimplMarker("mismatch")

# model id (a known name, a hub id or a local directory) → a backbone; imports torch inside
Load = Callable[[str], "Backbone"]


class Register(Protocol):
    """What `register_backbones` is handed: call it once for each family."""

    def __call__(
        self,
        name: str,
        load: Load,
        *,
        models: Sequence[str],
        default_model: str = "",
        description: str = "",
        api_version: int = 1,
    ) -> None:
        """Offer the family `name`.

        `models` are the ids worth listing, `default_model` (the first of them unless named) is what
        `backbone=NAME` alone means, `api_version` is the `API_VERSION` that the plugin was
        written for.
        """


@hookspec
def register_backbones(register: Register) -> None:
    """Call `register(name, load, models=[…])` for each family; import nothing heavy before `load`
    runs.
    """
