"""A row, and what every format does alike: names of columns, what is missing, and why a row can't
be used.
"""

from __future__ import annotations

import json
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from mismatch.data.columns import (
    ALIASES,
    COLUMNS,
    OPTIONS,
    SEPARATOR,
    Columns,
    folded,
    parse_label,
    usual_columns,
    usual_names,
)
from mismatch.errors import LabelError
from mismatch.io.remote import Remote

__all__ = [
    "MAX_COLUMNS",
    "MAX_FIELD",
    "Fault",
    "Reading",
    "Row",
    "as_text",
    "is_too_long",
    "not_text",
    "several_images",
]

MAX_FIELD = 2**24  # characters of a value; csv's own limit of 2¹⁷ is a text of 40 pages
MAX_COLUMNS = 4_096
# columns of a file that `predict` has written
PREDICTED = {"similarity_score", "threshold", "is_match", "prediction"}
NAMES_SHOWN = 20  # columns in one message
EMPTY: Mapping[str, str] = MappingProxyType({})
Fault = Callable[[int, str], None]  # is given a line and what is wrong with the file there


class Row(NamedTuple):
    """One record, as it stands in the file. A tuple, since files have millions."""

    # where it starts, from 1; of Parquet and datasets, which have no lines, the row's number, from
    # 1
    line: int
    # as written; with `Columns.multi_image` it may name several, which `Columns.images` tells apart
    image_path: str
    text: str
    label: int | None  # None where there is none, none is wanted, or it is wrong
    # all columns, as written, those of image, text and label as image_path, text and label
    columns: dict[str, str]
    problem: str | None = None  # why this row can't be used
    # whether its fields can be told apart: as many as the header has, and no NUL byte
    intact: bool = True
    # the text that stands in the file, where a row has a problem; none in Parquet and datasets
    raw: str = ""
    only_label: bool = False  # whether nothing but its label is wrong


@dataclass(frozen=True)
class Reading:
    """A file that is being read."""

    path: str | Path | Remote
    columns: Columns
    needed: tuple[str, ...]  # some of COLUMNS
    fault: Fault
    # whether the first of several usual names stands for a needed one; else only one alone does
    aliases: bool = False
    # whether the first byte that is not in the encoding is a fault; else it is a problem of its
    # row, unless the whole file is in another encoding
    strict: bool = True
    # image_path or text → its usual name in this format
    preferred: Mapping[str, str] = field(default_factory=dict)
    home: str = ""  # folder that image paths are relative to, where it is not the base path
    # what is recognised and was not asked for, for people: what separates columns, …
    remarks: list[str] = field(default_factory=list)

    def names(self, header: list[str]) -> list[str] | None:
        """Return the columns as rows have them, None for a header that can't be one; a fault where
        a needed one is missing.
        """
        if len(header) > MAX_COLUMNS:
            self.fault(
                1, f"there are {len(header):,} columns; a file of rows has at most {MAX_COLUMNS:,}"
            )
            return None
        if twice := sorted(name for name, count in Counter(header).items() if count > 1):
            self.fault(1, f"column {twice[0]!r} stands twice in the header; rename one")
            return None
        names = self.columns.named(header)
        if self.aliases:
            return _renamed(names)
        taken = usual_columns(names, self.columns, self.preferred)
        if taken:
            words = " and ".join(f"{name!r} as {needed}" for name, needed in taken.items())
            self.remarks.append(f"{words.replace(' as ', ' is read as ', 1)}")
        return [taken.get(name, name) for name in names]

    def present(
        self, header: list[str], names: list[str], unreadable: Mapping[str, str] = EMPTY
    ) -> tuple[str, ...]:
        """Return those of the needed columns that are there; the others are a fault. `unreadable`:
        columns that are left out → what they hold.
        """
        missing = [name for name in self.needed if name not in names]
        for column in map(self.columns.asked, missing):
            if column in unreadable:
                self.fault(
                    1,
                    f"column {column!r} holds values of the type {unreadable[column]}, which are no"
                    " texts; write it as strings",
                )
        missing = [name for name in missing if self.columns.asked(name) not in unreadable]
        if missing:
            asked = [self.columns.asked(name) for name in missing]
            words = ", ".join(
                repr(column) if column == name else f"{column!r} (`{OPTIONS[name]}`)"
                for column, name in zip(asked, missing, strict=True)
            )
            what = (
                f"column{'s' * (len(missing) > 1)} {words} {'are' if len(missing) > 1 else 'is'}"
                " missing"
            )
            self.fault(1, f"{what}; found {_listed(header)}{_hint(header, missing, self.columns)}")
        return tuple(name for name in self.needed if name in names)

    def row(
        self, line: int, columns: dict[str, str], present: Sequence[str], problem: str | None = None
    ) -> Row:
        """Return a record that could be taken apart, with what is wrong with it."""
        image_path = columns.get("image_path", "")
        text = columns.get("text", "")
        label = None
        if "label" in present:
            label = self.columns.label_of(columns.get("label", ""))
        only_label = False
        bad_label = label is None and "label" in present
        if bad_label or not (image_path.strip() and text.strip()):
            problems = [problem] if problem else []
            problems += _empty(columns, present)
            if bad_label:
                only_label = not problems
                problems.append(self._label_problem(columns))
            problem = "; ".join(problems) or None
        row = Row(line, image_path, text, label, columns, problem, only_label=only_label)
        return self.checked(row) if self.columns.restrained or self.columns.label_map else row

    def checked(self, row: Row) -> Row:
        """Add what is wrong with its path, and its label as 0 or 1 where names stand for them."""
        if (
            row.problem is None
            and "image_path" in row.columns
            and (problem := self.columns.path_problem(row.image_path))
        ):
            row = row._replace(problem=problem)
        if (
            self.columns.label_map
            and (
                label := (
                    row.label
                    if "label" in self.needed
                    else self.columns.label_of(row.columns.get("label", ""))
                )
            )
            is not None
        ):
            row.columns["label"] = str(label)
        return row

    def _label_problem(self, columns: dict[str, str]) -> str:
        try:
            parse_label(columns.get("label", ""), self.columns)
        except LabelError as error:
            return str(error)
        return ""


def _empty(columns: dict[str, str], present: Sequence[str]) -> list[str]:
    return [
        f"the {name} is empty"
        for name in COLUMNS[:2]
        if name in present and not columns.get(name, "").strip()
    ]


def not_text(name: str, value: object) -> str:
    """Return what to say of a value of the column `name`, image_path or text, that is none."""
    wanted = "path" if name == "image_path" else "string"
    # a timestamp says more as people write it than as Python does
    shown = str(value) if isinstance(value, (date, time, timedelta)) else reprlib.repr(value)
    return f"the {name} is {shown}, not a {wanted}"


def several_images(count: int) -> str:
    """Return what to say of a row that names so many images where one is read."""
    return (
        f"this row has {count} images; say whether rows of several images match by their best one"
        " or by all"
    )


def is_too_long(values: Iterable[str]) -> bool:
    """Return whether one of a row's values has more than `MAX_FIELD` characters."""
    return any(len(value) > MAX_FIELD for value in values)


def as_text(value: Any) -> str:
    """Return a value of JSON or Arrow as a column has it: true, 1.5, nothing for null. The strings
    of a list are joined as the images of a row are.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if type(value) is int:
        return str(value)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return SEPARATOR.join(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:NAMES_SHOWN]))
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown


def _renamed(header: list[str]) -> list[str]:
    """Put the needed name, where it is missing, in place of the first usual one for it."""
    plain = [folded(name) for name in header]
    names = list(header)
    for name in COLUMNS[:2]:
        if name in header:
            continue
        usual = next((alias for alias in (name, *ALIASES[name]) if alias in plain), None)
        if usual is not None:
            names[plain.index(usual)] = name
    return names


def _hint(header: list[str], missing: list[str], columns: Columns) -> str:
    if header[:1] and header[0].startswith("{"):
        return "; these are JSON lines: name the file .jsonl"
    marks = [mark for mark in ";\t|," if len(header) == 1 and mark in header[0]]
    if marks:
        return f"; if {marks[0]!r} separates the columns, pass `delimiter={marks[0]!r}`"
    for name in missing:
        usual = usual_names(header, name) if name in COLUMNS[:2] else []
        if len(usual) > 1:
            either = " or ".join(f"`{OPTIONS[name]}={column!r}`" for column in usual)
            return f"; several may be the {name}: pass {either}"
    nearest = [(_nearest(name, header, columns), name) for name in missing]
    pairs = [(near, name) for near, name in nearest if near is not None]
    if not pairs:
        return ""
    renamed = " and ".join(f"{near!r} to {columns.asked(name)!r}" for near, name in pairs)
    options = " and ".join(f"`{OPTIONS[name]}={near!r}`" for near, name in pairs)
    return f"; rename {renamed}, or pass {options}"


def _nearest(name: str, header: list[str], columns: Columns) -> str | None:
    used = {columns.image, columns.text, columns.label}
    if PREDICTED.issubset(header):  # is_match is what a model says, and no label
        used |= PREDICTED
    plain = {folded(other): other for other in header if other not in used}
    asked = folded(columns.asked(name))
    usual = next((alias for alias in (asked, name, *ALIASES[name]) if alias in plain), None)
    near = usual or next(iter(get_close_matches(asked, plain, n=1, cutoff=0.7)), None)
    return plain[near] if near else None
