"""Values of options that are what they say: numbers that are finite, no more threads than a
machine could have, and what a function makes of a word.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from mismatch.runtime.hardware import MAX_THREADS

__all__ = ["FINITE", "SEED", "THREADS", "WORKERS", "FiniteRange", "Parsed"]

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


FINITE = Finite()
