"""Values of Arrow arrays as the texts that rows have, with what makes an image or a text of them
unusable; bounded, whatever the arrays share.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mismatch.data.columns import Columns
from mismatch.data.rows import as_text, not_text, several_images
from mismatch.errors import MissingExtraError

__all__ = [
    "EMBEDDED",
    "MAX_UNPACKED",
    "ArrowValues",
    "import_pyarrow",
    "is_compressed",
    "is_readable",
]

EMBEDDED = (
    "the image itself stands in this row, and can't be had from there: images are read from bytes,"
    " one a row, in a file of this machine; download the file, or write the images to files"
)
MAX_UNPACKED = 2**26  # bytes of rows that are taken apart together, and of any one
# kind of message → fields of flatbuffers that lead to the batch in it
BODIES = {"record batch": (2,), "dictionary": (2, 1)}
COMPRESSION = 3  # field of a batch
VIEW = 4  # numbers of 32 bits that a view has; the first is its length in bytes


def import_pyarrow(what: str) -> tuple[Any, Any]:
    """Import pyarrow and pyarrow.parquet; MissingExtraError, which says what needs them, where they
    are not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(what, "parquet") from error
    return pa, pq


class ArrowValues:
    """The columns of a file of Arrow or Parquet, read a batch at a time."""

    def __init__(
        self,
        arrow: Any,
        columns: Columns,
        kept: Sequence[str],
        class_names: Mapping[str, list[str]],
    ) -> None:
        """Take `arrow`: the module; `kept`: names of the columns that are read; `class_names`:
        column → what its numbers stand for.
        """
        self.arrow = arrow
        self.columns = columns
        self.kept = kept
        self.class_names = class_names

    def slices(self, batch: Any) -> Iterator[tuple[int, Any]]:
        """Yield a batch in parts of at most `MAX_UNPACKED` bytes, each with how many rows stand
        before it; ValueError for a row that has more by itself.
        """
        waiting = [(0, batch)]
        while waiting:
            before, part = waiting.pop()
            size = sum(
                self._unpacked(part.column(part.schema.get_field_index(name))) for name in self.kept
            )
            if size <= MAX_UNPACKED:
                yield before, part
            elif part.num_rows == 1:
                raise ValueError(f"a row holds {size:,} bytes; at most {MAX_UNPACKED:,} are read")
            else:
                half = part.num_rows // 2
                waiting += [(before + half, part.slice(half)), (before, part.slice(0, half))]

    def texts(self, batch: Any) -> tuple[list[list[str]], dict[int, str]]:
        """Return the values of each kept column. With them comes, by place in the batch, why a
        row's image or text can't be had from its value.
        """
        lists: list[list[str]] = []
        problems: dict[int, str] = {}
        for name in self.kept:
            array = batch.column(batch.schema.get_field_index(name))
            if name == self.columns.image:
                array, embedded = self._images(array)
                problems |= embedded
            values = self._values(
                array,
                self.class_names.get(name),
                as_written=name in (self.columns.image, self.columns.text),
            )
            if name == self.columns.text:
                _note(
                    problems,
                    {
                        i: not_text("text", value)
                        for i, value in enumerate(values)
                        if not (value is None or isinstance(value, str))
                    },
                )
            if name == self.columns.image:
                _note(
                    problems,
                    {
                        i: not_text("image_path", value)
                        for i, value in enumerate(values)
                        if not _is_path(value)
                    },
                )
            lists.append([value if type(value) is str else _text_of(value) for value in values])
        return lists, problems

    def _images(self, array: Any) -> tuple[Any, dict[int, str]]:
        """Return paths, of values that may be what datasets makes of an image: its bytes and its
        path.
        """
        types = self.arrow.types
        kind = array.type
        if types.is_struct(kind) and {"bytes", "path"} <= {
            kind.field(i).name for i in range(kind.num_fields)
        }:
            # null where the whole is
            parts = dict(
                zip(
                    (kind.field(i).name for i in range(kind.num_fields)),
                    array.flatten(),
                    strict=True,
                )
            )
            there = parts["bytes"].is_valid().to_pylist()
            return parts["path"], {i: EMBEDDED for i, embedded in enumerate(there) if embedded}
        if not is_readable(self.arrow, kind):
            return self.arrow.nulls(len(array), self.arrow.string()), dict.fromkeys(
                range(len(array)), EMBEDDED
            )
        if (types.is_list(kind) or types.is_large_list(kind)) and self.columns.multi_image is None:
            counts = [0 if value is None else len(value) for value in array.to_pylist()]
            problems = {i: several_images(count) for i, count in enumerate(counts) if count > 1}
            return array, problems
        return array, {}

    def _values(self, array: Any, class_names: list[str] | None, *, as_written: bool) -> list[Any]:
        """Return Python's values; dates and decimals as texts unless they are wanted `as_written`.
        Equal strings of a dictionary are one object.
        """
        types = self.arrow.types
        if types.is_dictionary(array.type):
            numbers = array.indices.unique().drop_null()
            dictionary = array.dictionary
            if _is_view(types, dictionary.type):  # pyarrow takes none from views
                dictionary = dictionary.cast(self.arrow.large_string())
            words: dict[int | None, Any] = dict(
                zip(numbers.to_pylist(), dictionary.take(numbers).to_pylist(), strict=True)
            )
            return [words.get(number) for number in array.indices.to_pylist()]
        if class_names is not None and types.is_integer(array.type):
            return [
                class_names[value] if value is not None and 0 <= value < len(class_names) else ""
                for value in array.to_pylist()
            ]
        if not as_written and (types.is_temporal(array.type) or types.is_decimal(array.type)):
            array = array.cast(self.arrow.string())
        values: list[Any] = array.to_pylist()
        return values

    def _unpacked(self, array: Any) -> int:
        """Return the bytes of the values, each counted where it is used."""
        import pyarrow.compute as pc

        types = self.arrow.types
        kind = array.type
        if isinstance(array, self.arrow.ExtensionArray):
            return self._unpacked(array.storage)
        if types.is_dictionary(kind):
            words = array.dictionary
            if not _is_string(types, words.type) or _is_view(types, words.type):
                return len(array) * int(words.nbytes)
            return int(pc.sum(pc.binary_length(words).take(array.indices)).as_py() or 0)
        if _is_view(types, kind):
            return _viewed_bytes(array)
        if _is_string(types, kind):
            return int(pc.sum(pc.binary_length(array)).as_py() or 0)
        if types.is_map(kind):
            first = array.offsets[0].as_py()
            last = array.offsets[-1].as_py()
            return self._unpacked(array.keys[first:last]) + self._unpacked(array.items[first:last])
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            values = array.flatten()
            return self._unpacked(values) + 8 * len(values)
        if types.is_struct(kind):
            return sum(map(self._unpacked, array.flatten()))
        return 8 * len(array)


def is_readable(arrow: Any, kind: Any) -> bool:
    """Return whether values of an Arrow type become texts. Bytes don't, nor what holds them, as
    images and sounds do, nor types that no table of rows has.
    """
    types = arrow.types
    if isinstance(kind, arrow.BaseExtensionType):
        return is_readable(arrow, kind.storage_type)
    if types.is_dictionary(kind):
        return is_readable(arrow, kind.value_type)
    if types.is_map(kind):
        return is_readable(arrow, kind.key_type) and is_readable(arrow, kind.item_type)
    if types.is_struct(kind):
        return all(is_readable(arrow, kind.field(i).type) for i in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return is_readable(arrow, kind.value_type)
    plain = (
        types.is_null,
        types.is_boolean,
        types.is_integer,
        types.is_floating,
        types.is_decimal,
        types.is_temporal,
    )
    return _is_string(types, kind) or any(is_kind(kind) for is_kind in plain)


def is_compressed(kind: str, metadata: bytes) -> bool:
    """Return whether the batch in a message of Arrow's streams is compressed, which save_to_disk
    never does, so that its size says nothing. struct.error where the message is damaged.
    """
    fields = BODIES.get(kind)
    if fields is None:
        return False
    place = struct.unpack_from("<I", metadata, 0)[0]
    for field in fields:
        offset = _field(metadata, place, field)
        if offset is None:
            return False
        place = offset + struct.unpack_from("<I", metadata, offset)[0]
    return _field(metadata, place, COMPRESSION) is not None


def _field(metadata: bytes, table: int, number: int) -> int | None:
    """Return where a field of a flatbuffer's table stands; None where it has none."""
    head = table - struct.unpack_from("<i", metadata, table)[0]
    if head < 0:
        raise struct.error("damaged")
    size = struct.unpack_from("<H", metadata, head)[0]
    if 4 + 2 * number + 2 > size:
        return None
    offset = struct.unpack_from("<H", metadata, head + 4 + 2 * number)[0]
    return table + offset if offset else None


def _is_string(types: Any, kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or _is_view(types, kind))


def _is_view(types: Any, kind: Any) -> bool:
    """Return whether an array of strings is one of views: lengths and places in shared buffers."""
    view = getattr(types, "is_string_view", None)  # since pyarrow 16
    return view is not None and bool(view(kind))


def _viewed_bytes(array: Any) -> int:
    """Return the bytes of an array of views; pyarrow can't tell their lengths."""
    views = np.frombuffer(array.buffers()[1], np.int32).reshape(-1, VIEW)  # (N, 4)
    lengths = views[array.offset : array.offset + len(array), 0]
    is_there = array.is_valid().to_numpy(zero_copy_only=False)
    return int(lengths[is_there].sum(dtype=np.int64))


def _is_path(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(name, str) for name in value)
    return value is None or isinstance(value, str)


def _text_of(value: Any) -> str:
    """Return a value's text; none of null."""
    return "" if value is None else as_text(value)


def _note(problems: dict[int, str], further: Mapping[int, str]) -> None:
    for place, problem in further.items():
        problems[place] = f"{problems[place]}; {problem}" if place in problems else problem
