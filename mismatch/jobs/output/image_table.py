"""Parquet with the images in its rows, as Hugging Face's datasets writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mismatch.data.readers.arrow import import_pyarrow
from mismatch.io.atomic import atomic_binary
from mismatch.jobs.row_tables import PARQUET_OUTPUT

__all__ = ["ImageTable", "image_header", "image_table"]

IMAGE = "image"  # what datasets call such a column
GROUP_BYTES = 2**25  # of images that are held and written together
GROUP_ROWS = 1_000
HUGGING_FACE = b"huggingface"  # key of the metadata by which datasets know an image


def image_header(header: Sequence[str]) -> list[str]:
    """Return the columns with that of the images in place of their paths'."""
    name = "image_path" if IMAGE in header else IMAGE
    return [name if column == "image_path" else column for column in header]


class ImageTable:
    """Where rows with their images go."""

    def __init__(self, arrow: Any, writer: Any, schema: Any, image: int) -> None:
        """Take `image`, the place of its column."""
        self._arrow = arrow
        self._writer = writer
        self._schema = schema
        self._image = image
        self._rows: list[list[Any]] = []
        self._size = 0  # bytes of their images

    def add(self, values: Sequence[str], data: bytes) -> None:
        """Write a row; in place of the image's path its bytes, and the path next to them."""
        row: list[Any] = list(values)
        row[self._image] = {"bytes": data, "path": values[self._image]}
        self._rows.append(row)
        self._size += len(data)
        if self._size >= GROUP_BYTES or len(self._rows) >= GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are held."""
        if not self._rows:
            return
        columns = zip(*self._rows, strict=True)
        arrays = [
            self._arrow.array(values, kind)
            for values, kind in zip(columns, self._schema.types, strict=True)
        ]
        self._writer.write_table(self._arrow.table(arrays, schema=self._schema))
        self._rows.clear()
        self._size = 0


@contextmanager
def image_table(path: Path, header: Sequence[str]) -> Iterator[ImageTable]:
    """Yield a table under `image_header`, which takes its name when the block ends. `header`: the
    rows' own columns, with image_path. MissingExtraError without pyarrow.
    """
    arrow, parquet = import_pyarrow(PARQUET_OUTPUT)
    image = list(header).index("image_path")
    schema = _schema(arrow, image_header(header), image)
    with (
        atomic_binary(path) as file,
        # bytes that are compressed already are not compressed again
        parquet.ParquetWriter(file, schema, compression="none") as writer,
    ):
        table = ImageTable(arrow, writer, schema, image)
        yield table
        table.flush()


def _schema(arrow: Any, names: Sequence[str], image: int) -> Any:
    text = arrow.string()
    picture = arrow.struct([("bytes", arrow.binary()), ("path", text)])
    fields = [(name, picture if place == image else text) for place, name in enumerate(names)]
    features = {
        name: {"_type": "Image"} if place == image else {"dtype": "string", "_type": "Value"}
        for place, name in enumerate(names)
    }
    about = json.dumps({"info": {"features": features}}).encode()
    return arrow.schema(fields, metadata={HUGGING_FACE: about})
