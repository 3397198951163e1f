"""What separates the columns of a CSV: what is asked for, what the file itself names, or what its
header tells beyond doubt.
"""

from __future__ import annotations

import csv
import re
from typing import NamedTuple

from mismatch.data.columns import COLUMNS, Columns, usual_columns
from mismatch.data.rows import Reading

__all__ = ["SEPARATOR_LINE", "Delimiter", "choose_delimiter", "described"]

# what some spreadsheets write in front: which mark separates the columns
SEPARATOR_LINE = re.compile(r'"?sep=([,;|\t])"?,*\s*', re.IGNORECASE)
SIGNS = (",", ";", "\t", "|")
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


class Delimiter(NamedTuple):
    """What stands between columns."""

    sign: str
    # whether a blank follows it, which is no part of a value: Flickr30k's `name| number| text`
    is_padded: bool = False


def choose_delimiter(header: str, default: str, reading: Reading) -> Delimiter:
    """Return what separates the columns, by the line of the header, and say so where it is neither
    the default nor asked for. Only a sign by which the line has all columns of images and texts,
    where the default gives none, is beyond doubt.
    """
    columns = reading.columns
    if columns.delimiter is not None:
        return Delimiter(columns.delimiter)
    if _has_columns(header, default, reading):
        return Delimiter(default)
    fitting = [sign for sign in SIGNS if sign != default and _has_columns(header, sign, reading)]
    if len(fitting) != 1:
        return Delimiter(default)
    [sign] = fitting
    shown = {",": "a comma", "\t": "a tab"}.get(sign, repr(sign))
    reading.remarks.append(f"{shown} separates its columns")
    is_padded = all(name.startswith(" ") for name in header.split(sign)[1:])
    return Delimiter(sign, is_padded)


def described(sign: str) -> str:
    """Return a sign's name: comma, tab; others in quotes."""
    return NAMES.get(sign, repr(sign))


def _has_columns(header: str, sign: str, reading: Reading) -> bool:
    """Return whether a line has the columns of images and texts, separated by a sign."""
    try:
        fields = next(csv.reader([header], delimiter=sign, strict=True, skipinitialspace=True), [])
    except csv.Error:
        return False
    names = _as_rows_have_them([name.strip() for name in fields], reading.columns, reading)
    return {*COLUMNS[:2]} <= {*names}


def _as_rows_have_them(header: list[str], columns: Columns, reading: Reading) -> list[str]:
    names = columns.named(header)
    taken = usual_columns(names, columns, reading.preferred)
    return [taken.get(name, name) for name in names]
