"""Options as the command line writes them: messages of the library name them as Python does.

The library writes an option in backquotes: `image_base_path`, `resume=True`, `top=10`. Here they
become --image-base-path, --resume and --top 10, where the command that runs has such an option.
"""

from __future__ import annotations

import re

import click

__all__ = ["with_flags"]

OPTION = re.compile(r"`(\w+)(?:=([^`]*))?`")
# what the functions call a parameter whose option has another name
OTHER_NAMES = {"rows": "--csv"}


def with_flags(message: str, command: click.Command | None) -> str:
    """Return a message of the library with each of the command's options as its flag."""
    if command is None:
        return message
    flags = _flags(command)

    def flag(match: re.Match[str]) -> str:
        name = flags.get(match[1])
        if name is None:
            return match[0]
        value = match[2]
        if value is None or value == "True":
            return name
        return f"{name} {_unquoted(value)}"

    return OPTION.sub(flag, message)


def _flags(command: click.Command) -> dict[str, str]:
    """Return the flag of each parameter, by the names that Python and click have for it."""
    longest = {param.name or "": max(param.opts, key=len) for param in command.params}
    flags = {flag.lstrip("-").replace("-", "_"): flag for flag in longest.values()}
    flags |= longest  # a parameter may be called as another one's flag: its own name counts
    flags |= {name: flag for name, flag in OTHER_NAMES.items() if flag in flags.values()}
    return flags


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    plain = value[1:-1] if quoted else value
    # a shell takes such a name for two words, or for more than a name
    return plain if re.fullmatch(r"[\w./:=,-]*", plain) else f'"{plain}"'
