"""What a run is, as it is written next to an output that can be continued: all that the bytes
depend on, by names for people. Another run must not go on with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mismatch.errors import InputError

__all__ = ["BEGIN_AGAIN", "check_same_run", "option_key"]

BEGIN_AGAIN = "leave `resume` out to begin again"


def option_key(option: str) -> str:
    """Return the key of an option: written as the command line has it, since earlier versions wrote
    it so.
    """
    return "--" + option.replace("_", "-")


def check_same_run(output: object, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError, which says what differs, where `output` was written by another run."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        differences = ", ".join(
            _difference(name, before.get(name), now.get(name)) for name in names
        )
        raise InputError(
            f"{output} is of another run, which differs in {differences}; repeat that run with"
            f" `resume=True`, or {BEGIN_AGAIN}"
        )


def _difference(name: str, before: object, now: object) -> str:
    """Return `threshold (0.5 before, 0.25 now)`; the name alone where values mean nothing, or one
    is missing.
    """
    shown = f"`{name[2:].replace('-', '_')}`" if name.startswith("--") else name
    if any(value is None or isinstance(value, (dict, list)) for value in (before, now)):
        return shown
    return f"{shown} ({before} before, {now} now)"
