"""A column of images as the names by which rows have them: what a reader of rows takes in place of
their bytes, which it never holds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mismatch.data.columns import Columns
from mismatch.data.embedded.columns import chosen_column, image_columns, image_values
from mismatch.data.embedded.containers import open_table
from mismatch.data.embedded.img2dataset import CAPTION, KEY, images_by_key
from mismatch.data.embedded.names import member_name
from mismatch.data.embedded.parquet import ParquetImages
from mismatch.io.remote import Remote

__all__ = ["RowNames"]

# what Hugging Face's datasets and img2dataset call a column of images
USUAL = ("image", "jpg", "png", "webp")


class RowNames:
    """What the images of a table's rows are called."""

    def __init__(self, arrow: Any, schema: Any, columns: Columns, path: Path | None) -> None:
        """Look for the column of images: the one that is asked for, or, where image_path is missing
        and none else is asked for, one that is usually called so; or images next to the file.
        `path`: of a file or folder of this machine; of none, images can't be had.
        """
        self._arrow = arrow
        candidates = image_columns(arrow, schema)
        names = [column.name for column in candidates]
        if columns.image == Columns.image and columns.image not in schema.names:
            usual = next((name for name in USUAL if name in names), columns.image)
            columns = replace(columns, image=usual)
        self._by_key = None
        if path is not None and columns.image not in schema.names:
            self._by_key = images_by_key(path, schema.names, columns.base)
        if self._by_key and columns.text == Columns.text and columns.text not in schema.names:
            columns = replace(columns, text=CAPTION)
        self.columns = columns
        self.column = chosen_column(candidates, columns.image) if path is not None else None
        unasked = chosen_column(candidates, "")
        # what stands between a file's name and the row's number
        self._between = "" if self.column == unasked else f"{columns.image}:"

    def added(self) -> list[str]:
        """Return the column of images where it is not one of the file."""
        return [] if self._by_key is None else [self.columns.image]

    def read(self, kept: list[str]) -> list[str]:
        """Return the paths of the columns that are kept, without the images' bytes."""
        if self.column is None:
            return [name for name in kept if name not in self.added()]
        name = self.column.name
        rest = [f"{name}.path"] if self.column.is_struct else []
        return [other for other in kept if other != name] + rest

    def of_group(self, path: Path | Remote, group: int) -> list[bool] | None:
        """Return which rows of a Parquet file's row group hold an image; None where all do."""
        if self.column is None or isinstance(path, Remote):
            return None
        table = open_table(path)
        return table.embedded(self.column, group) if isinstance(table, ParquetImages) else None

    def of_batch(self, batch: Any) -> list[bool] | None:
        """Return the same of a batch that has the bytes too."""
        if self.column is None:
            return None
        values = image_values(self._arrow, batch.column(self.column.name))
        there: list[bool] = values.is_valid().to_pylist()
        return None if all(there) else there

    def named(
        self,
        batch: Any,
        kept: list[str],
        file: Path | Remote,
        first: int,
        there: list[bool] | None,
    ) -> Any:
        """Return a batch of the columns that are kept, its images by name. Where a row holds no
        image, it is the path that stands there, or null.

        `first`: the number of its first row in the file, from 0; `there`: which of its rows hold an
        image, None for all.
        """
        arrays = {name: batch.column(number) for number, name in enumerate(batch.schema.names)}
        if self._by_key is not None:
            keys = arrays[KEY].to_pylist()
            arrays[self.columns.image] = self._arrow.array(
                [self._by_key(key) for key in keys], self._arrow.string()
            )
            return self._arrow.RecordBatch.from_arrays([arrays[name] for name in kept], names=kept)
        if self.column is None or isinstance(file, Remote):
            return batch
        start = f"{member_name(file, self.columns.base)}:{self._between}"
        names: list[str | None] = [
            f"{start}{number}" for number in range(first + 1, first + 1 + batch.num_rows)
        ]
        if there is not None:
            paths = self._paths(arrays.get(self.column.name), batch.num_rows)
            names = [
                name if is_there else path
                for name, is_there, path in zip(names, there, paths, strict=True)
            ]
        arrays[self.column.name] = self._arrow.array(names, self._arrow.string())
        return self._arrow.RecordBatch.from_arrays([arrays[name] for name in kept], names=kept)

    def _paths(self, array: Any, count: int) -> list[str | None]:
        """Return the paths that stand next to the bytes; none in a column of bytes alone."""
        if self.column is None or not self.column.is_struct:
            return [None] * count
        names = [array.type.field(number).name for number in range(array.type.num_fields)]
        paths: list[str | None] = array.flatten()[names.index("path")].to_pylist()
        return paths
