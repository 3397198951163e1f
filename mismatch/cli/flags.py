"""Options as the command line writes them: messages of the library name them as Python does.

The library writes an option in backquotes: `image_base_path`, `resume=True`, `top=10`. Here they
become --image-base-path, --resume and --top 10, where the command that runs has such an option.
"""

from __future__ import annotations

import click

from mismatch.io.text import with_option_names

__all__ = ["with_flags"]

# what the functions call a parameter whose option has another name
OTHER_NAMES = {"rows": "--csv"}


def with_flags(message: str, command: click.Command | None) -> str:
    """Return a message of the library with each of the command's options as its flag."""
    return message if command is None else with_option_names(message, _flags(command))


def _flags(command: click.Command) -> dict[str, str]:
    """Return the flag of each parameter, by the names that Python and click have for it."""
    longest = {param.name or "": max(param.opts, key=len) for param in command.params}
    flags = {flag.lstrip("-").replace("-", "_"): flag for flag in longest.values()}
    flags |= longest  # a parameter may be called as another one's flag: its own name counts
    flags |= {name: flag for name, flag in OTHER_NAMES.items() if flag in flags.values()}
    return flags
