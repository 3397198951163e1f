"""Columns of tables that hold images: bytes, or what Hugging Face datasets makes of an image, its
bytes and its path.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["ImageColumn", "chosen_column", "image_columns", "image_values", "is_bytes"]

USUAL = "image"  # what datasets calls it
PARTS = {"bytes", "path"}


class ImageColumn(NamedTuple):
    """A column of images."""

    name: str
    is_struct: bool  # of bytes and a path

    @property
    def leaf(self) -> str:
        """Return the path of its bytes, as Parquet has it."""
        return f"{self.name}.bytes" if self.is_struct else self.name


def image_columns(arrow: Any, schema: Any) -> list[ImageColumn]:
    """Return the columns of a schema that hold images."""
    columns = []
    for field in schema:
        is_struct = arrow.types.is_struct(field.type)
        if is_bytes(arrow, field.type) or (is_struct and _is_image(arrow, field.type)):
            columns.append(ImageColumn(field.name, is_struct))
    return columns


def chosen_column(columns: list[ImageColumn], asked: str) -> ImageColumn | None:
    """Return the column that is asked for; of none the one that is called image, or the first."""
    named = {column.name: column for column in columns}
    if asked:
        return named.get(asked)
    return named.get(USUAL) or next(iter(columns), None)


def image_values(arrow: Any, array: Any) -> Any:
    """Return an array of bytes, of one of images; null where the image is."""
    if not arrow.types.is_struct(array.type):
        return array
    kind = array.type
    names = [kind.field(number).name for number in range(kind.num_fields)]
    return array.flatten()[names.index("bytes")]


def is_bytes(arrow: Any, kind: Any) -> bool:
    """Return whether an Arrow type is of bytes."""
    types = arrow.types
    view = getattr(types, "is_binary_view", None)  # since pyarrow 16
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or (view is not None and view(kind))
    )


def _is_image(arrow: Any, kind: Any) -> bool:
    fields = {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}
    return fields.keys() >= PARTS and is_bytes(arrow, fields["bytes"])
