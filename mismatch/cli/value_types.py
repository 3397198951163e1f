"""Types of options' values: finite numbers, threads, names of files that are to be written."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mismatch.io.text import names_folder
from mismatch.runtime.hardware import MAX_THREADS

__all__ = [
    "FINITE",
    "SEED",
    "THREADS",
    "WORKERS",
    "FiniteRange",
    "OutputFile",
    "Parsed",
    "numbers",
]

SEED = click.IntRange(0, 2**63 - 1)  # what numpy and torch both take
THREADS = click.IntRange(1, MAX_THREADS)
WORKERS = click.IntRange(0, MAX_THREADS)


class Finite(click.types.FloatParamType):
    """A number that is neither nan nor infinite, as 1e400 would be."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; refuse one that is not finite."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class FiniteRange(click.FloatRange):
    """As click's own, which lets nan pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; refuse one that is not finite, or out of the range."""
        return super().convert(FINITE.convert(value, param, ctx), param, ctx)


class Parsed(click.ParamType[Any]):
    """What a function makes of a word; its ValueError says what is wrong with it."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value; a default that is no word is one already."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def numbers(word: str, example: str) -> tuple[float, ...]:
    """Return the finite numbers between commas; ValueError, with an example, for anything else."""
    try:
        values = tuple(map(float, word.split(",")))
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{word!r} is not a list of numbers, as {example}")
    return values


class OutputFile(click.Path):
    """A path of a file, there or not; a name that only a folder can have is refused, as pathlib
    would drop its last slash.
    """

    def __init__(self) -> None:
        """Refuse a folder that is there too."""
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; refuse one that names a folder."""
        if names_folder(value):
            self.fail(
                f"{os.fspath(value)} names a folder, and a file is written; leave out what follows"
                " its name",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


FINITE = Finite()
