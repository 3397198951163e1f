"""Which rows of a labelled file are ranked, and the kinds whose labels are judged apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mismatch.data.columns import parse_label
from mismatch.data.pairs import Row, read_header
from mismatch.errors import InputError
from mismatch.io.text import did_you_mean
from mismatch.jobs.options import RowSource
from mismatch.score_specs import slice_key

__all__ = ["KIND", "RowChoice"]

KIND = "kind"  # column that is taken for the rows' kinds where it is there
LABEL = "label"
NAMES = ("mismatch", "match")  # by label: the kinds of rows without such a column


@dataclass(frozen=True)
class RowChoice:
    """Which rows are ranked; heads are trained on all of them."""

    only: str | None  # COLUMN=VALUE
    exclude_kind: Sequence[str]
    kind_column: str | None

    def check(self, source: RowSource) -> RowChoice:
        """Return the choice with the column of kinds, where there is one. InputError for a column
        that the rows lack.
        """
        if isinstance(self.exclude_kind, str):
            raise InputError(f"`exclude_kind` is {self.exclude_kind!r}; a list of kinds is needed")
        header = read_header(source.path, require_label=True, columns=source.columns)
        column = self.kind_column or (KIND if KIND in header else None)
        names = {"kind_column": column, "only": None if self.only is None else self._parts()[0]}
        for option, name in names.items():
            if name is not None and name not in header:
                found = ", ".join(map(repr, header))
                raise InputError(
                    f"`{option}`: {source.name} has no column {name!r}; found {found}",
                    option=option,
                )
        if self.exclude_kind and column is None:
            raise InputError(
                f"`exclude_kind`: {source.name} has no column {KIND!r}; `kind_column` names another"
            )
        return RowChoice(self.only, tuple(self.exclude_kind), column)

    def kinds(self, rows: Sequence[Row]) -> list[str]:
        """Return the kind of each row: the column's value, else whether it is a match."""
        names = [NAMES[row.label or 0] for row in rows]
        if self.kind_column is None:
            return names
        values = [row.columns.get(self.kind_column, "").strip() for row in rows]
        return [value or name for value, name in zip(values, names, strict=True)]

    def check_rows(self, rows: Sequence[Row], source: RowSource) -> None:
        """Raise InputError where no row is left to rank, and for a kind that no row is of."""
        labelled = [row for row in rows if row.label is not None]
        kinds = self.kinds(labelled)
        unknown = [kind for kind in self.exclude_kind if kind not in kinds]
        if unknown:
            found = ", ".join(kind for kind, _ in Counter(kinds).most_common(10))
            hint = did_you_mean(unknown[0], kinds)
            raise InputError(f"`exclude_kind`: no row is of {unknown[0]!r}, but of {found}{hint}")
        if not self.mask(labelled, source).any():
            asked = " and ".join(
                f"`{name}`" for name in ("only", "exclude_kind") if getattr(self, name)
            )
            raise InputError(f"{source.name}: {asked} leaves no row to rank; look at the values")

    def mask(self, rows: Sequence[Row], source: RowSource) -> NDArray[np.bool_]:
        """Return (N,) whether a row is ranked."""
        kept = np.array([kind not in self.exclude_kind for kind in self.kinds(rows)], np.bool_)
        if self.only is None:
            return kept
        column, value = self._parts()
        return kept & self._has(rows, column, value, source)

    def _parts(self) -> tuple[str, str]:
        column, equals, value = (self.only or "").partition("=")
        if not equals or not column.strip():
            raise InputError(
                f"`only` is {self.only!r}; COLUMN=VALUE is needed, as label=1", option="only"
            )
        return column.strip(), value.strip()

    def _has(
        self, rows: Sequence[Row], column: str, value: str, source: RowSource
    ) -> NDArray[np.bool_]:
        """Return (N,) whether a row has this value, whatever a library writes for it."""
        if column == LABEL:
            label = parse_label(value, source.columns)
            return np.array([row.label == label for row in rows], np.bool_)
        key = slice_key(value)
        values = [slice_key(row.columns.get(column, "").strip()) for row in rows]
        return np.array([value == key for value in values], np.bool_)
