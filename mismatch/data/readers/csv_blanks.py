"""Blanks behind the delimiters of CSV, which belong to a text unless it is quoted behind them."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import cache

__all__ = ["blanks_kept", "unquoted"]


def blanks_kept(fields: list[str], taken: Sequence[str], delimiter: str) -> list[str]:
    """Return a record's values with the blanks before them, where none stands before quotes.
    `taken`: its lines.
    """
    behind = delimiter + " "
    text = "".join(taken)
    count = text.count(behind)
    if count:  # which may all stand in quotes
        count -= sum([field.count(behind) for field in fields])
    if not count and text[0] != " ":
        return fields
    plain = _plain(taken, delimiter)
    is_before_quotes = _is_blank_before_quotes(text, delimiter)
    return fields if plain is None or is_before_quotes else plain


def _is_blank_before_quotes(text: str, delimiter: str) -> bool:
    """Return whether a value of a record is quoted behind blanks."""
    if ' "' not in text:
        return False
    return any(
        blanks and value[:1] == '"'
        for blanks, value in _field(delimiter).findall(text.rstrip("\r\n"))
    )


@cache
def _field(delimiter: str) -> re.Pattern[str]:
    """Return what finds the blanks before each value, and the value with its quotes."""
    end = re.escape(delimiter)
    return re.compile(rf'( *)("[^"]*(?:""[^"]*)*"|[^{end}]*)(?:{end}|$)')


def unquoted(taken: Sequence[str], delimiter: str) -> list[str]:
    """Return the values of a record in which a blank and a quote begin a text that does not end in
    one; nothing of any other.
    """
    plain = _plain(taken, delimiter) or []
    is_quoted = any(_before_quote(value) and value.rstrip(" ").endswith('"') for value in plain)
    return [] if is_quoted else plain


def _before_quote(value: str) -> bool:
    """Return whether a value begins with blanks and a quote."""
    return value.startswith(" ") and value.lstrip(" ").startswith('"')


def _plain(taken: Sequence[str], delimiter: str) -> list[str] | None:
    """Return the values of a record in which blanks are part of them; None where that is none."""
    try:
        records = list(csv.reader(taken, strict=True, delimiter=delimiter))
    except csv.Error:
        return None
    return records[0] if len(records) == 1 else None
