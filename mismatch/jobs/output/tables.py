"""Predictions as CSV, TSV, JSON lines or Parquet: the same columns in the same order, whichever the
name of the file asks for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Protocol, Self, TextIO

from mismatch.data.readers.arrow import import_pyarrow
from mismatch.jobs.row_tables import GROUP_ROWS, PARQUET_OUTPUT, RowWriter

if TYPE_CHECKING:
    from mismatch.runtime.predictor import Prediction

__all__ = [
    "COLUMNS",
    "CsvTable",
    "JsonLinesTable",
    "ParquetTable",
    "Table",
    "fields",
]

COLUMNS = (
    "image_path",
    "text",
    "similarity_score",
    "threshold",
    "is_match",
    "prediction",
    "status",
)


class Table(Protocol):
    """Where predictions go, one a row, with the kept columns' values behind them."""

    def begin(self) -> None:
        """Write what stands before the first row."""

    def add(self, prediction: Prediction, kept: Sequence[str]) -> None:
        """Write one row."""

    def end(self) -> None:
        """Write what stands behind the last row."""


class CsvTable:
    """Scores with nine digits; an empty field where there is none."""

    def __init__(
        self, file: TextIO, kept: Sequence[str], *, safe: bool = False, delimiter: str = ","
    ) -> None:
        """Write to `file`. `kept`: names of the columns behind `COLUMNS`; `safe`: no cell is a
        formula; `delimiter`: a tab for TSV.
        """
        self._rows = RowWriter(file, safe=safe, delimiter=delimiter)
        self._names = (*COLUMNS, *kept)

    def begin(self) -> None:
        self._rows.writerow(self._names)

    def add(self, prediction: Prediction, kept: Sequence[str]) -> None:
        self._rows.writerow((*fields(prediction), *kept))

    def end(self) -> None:
        """Write nothing: nothing follows the last row."""


class JsonLinesTable:
    """One JSON object a line: scores are numbers, `is_match` is a boolean, and null stands where
    there is none.
    """

    def __init__(self, file: TextIO, kept: Sequence[str]) -> None:
        """Write to `file`. `kept`: names of the columns behind `COLUMNS`."""
        self._file = file
        self._names = (*COLUMNS, *kept)

    def begin(self) -> None:
        """Write nothing: there is no header."""

    def add(self, prediction: Prediction, kept: Sequence[str]) -> None:
        values = (*_typed(prediction), *kept)
        record = dict(zip(self._names, values, strict=True))
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def end(self) -> None:
        """Write nothing: nothing follows the last row."""


class ParquetTable:
    """Typed columns, streamed in row groups of `GROUP_ROWS`. Used as a context, it ends its writer
    before its file is closed, whatever fails.
    """

    def __init__(self, file: IO[bytes], kept: Sequence[str]) -> None:
        """Write to `file`. `kept`: names of the columns behind `COLUMNS`. MissingExtraError without
        pyarrow.
        """
        self._arrow, parquet = import_pyarrow(PARQUET_OUTPUT)
        types = {
            "similarity_score": self._arrow.float64(),
            "threshold": self._arrow.float64(),
            "is_match": self._arrow.bool_(),
        }
        text = self._arrow.string()
        columns = [(name, types.get(name, text)) for name in COLUMNS]
        columns += [(name, text) for name in kept]
        self._schema = self._arrow.schema(columns)
        self._writer = parquet.ParquetWriter(file, self._schema)
        self._rows: list[tuple[object, ...]] = []

    def begin(self) -> None:
        """Write nothing: the schema stands at the end."""

    def add(self, prediction: Prediction, kept: Sequence[str]) -> None:
        self._rows.append((*_typed(prediction), *kept))
        if len(self._rows) >= GROUP_ROWS:
            self._flush()

    def end(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # the error that ends the block is the one to tell of
            self._writer.close()
        # else pyarrow would try again when it is collected, and print a traceback
        self._writer.is_open = False

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True)
        arrays = [
            self._arrow.array(values, kind)
            for values, kind in zip(columns, self._schema.types, strict=True)
        ]
        self._writer.write_table(self._arrow.table(arrays, schema=self._schema))
        self._rows.clear()


def fields(result: Prediction) -> tuple[str, ...]:
    """Return a prediction as the texts of `COLUMNS`; decided before anything is rounded."""
    scored = result.similarity_score is not None
    return (
        result.image_path,
        result.text,
        f"{result.similarity_score:.9g}" if scored else "",
        f"{result.threshold:.9g}",
        str(result.is_match) if scored else "",
        result.prediction,
        result.status,
    )


def _typed(result: Prediction) -> tuple[object, ...]:
    return (
        result.image_path,
        result.text,
        result.similarity_score,
        result.threshold,
        result.is_match,
        result.prediction,
        result.status,
    )
