"""A verb: a function whose docstring is the command's help, and that of its options.

Below a line `Options:` stands a line for each option, `--name: what it is for`; one that goes on is
indented. What several verbs share stands in `options`, and a verb may say it in words of its own.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import click

from mismatch.cli.flags import with_flags
from mismatch.cli.sections import SectionedCommand

__all__ = [
    "choice",
    "described",
    "echo_json",
    "echo_lines",
    "echo_result",
    "flag",
    "option",
    "verb",
]

HEAD = "\n\nOptions:\n"
ENTRY = re.compile(r"^--([a-z-]+): ", re.MULTILINE)
DEFAULT = re.compile(r" (\[default: |\[required, )")  # two spaces before it, as click has them


def option(flag: str, kind: Any = None, default: Any = None, **more: Any) -> click.Option:
    """Return an option; `flag` may have a parameter's name behind it, and its default is shown."""
    if default is not None:
        more = {"default": default, "show_default": True} | more
    return click.Option(flag.split(), type=kind, **more)


def flag(flag: str) -> click.Option:
    """Return an option without a value; `flag` may have a parameter's name behind it."""
    return click.Option(flag.split(), is_flag=True)


def choice(flag: str, names: Iterable[str], default: str | None = None) -> click.Option:
    """Return an option with a few values."""
    return option(flag, click.Choice(list(names)), default)


def described(text: str, *params: click.Parameter) -> tuple[click.Parameter, ...]:
    """Return parameters with the help that a text has for each."""
    _, *parts = ENTRY.split(inspect.cleandoc(text))
    for name, words in zip(parts[::2], parts[1::2], strict=True):
        [param] = [option for option in params if f"--{name}" in option.opts]
        if not isinstance(param, click.Option) or param.help:
            raise TypeError(f"--{name} is described already")
        param.help = DEFAULT.sub(r"  \1", " ".join(words.split()))
    return params


def verb(
    short_help: str,
    *params: click.Parameter,
    sections: Mapping[str, Iterable[str]] = MappingProxyType({}),
) -> Callable[[Callable[..., object]], click.Command]:
    """Make a command of the function below. `sections`: title → parameters' names, for the help."""

    def command(function: Callable[..., object]) -> click.Command:
        text, _, options = inspect.cleandoc(function.__doc__ or "").partition(HEAD)
        made = SectionedCommand(
            function.__name__,
            params=list(described(options, *params)),
            callback=function,
            help=text,
            short_help=short_help or None,
        )
        made.sections = sections
        return made

    return command


def echo_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print lines of the library, with options as this command's flags."""
    running = click.get_current_context().command
    click.echo(with_flags("\n".join(lines), running), err=err)


def echo_result(result: Any, *, as_json: bool = False) -> None:
    """Print a job's result: for programs, or for people."""
    if as_json:
        echo_json(result.to_dict())
    else:
        echo_lines(result.summary())


def echo_json(data: Any) -> None:
    """Print data as JSON, in which nan is null."""
    from mismatch.io.atomic import finite

    click.echo(json.dumps(finite(data), indent=2, ensure_ascii=False))
