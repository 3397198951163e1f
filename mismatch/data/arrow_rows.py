"""Rows of Parquet and of a folder that save_to_disk of Hugging Face datasets wrote, streamed through pyarrow."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from mismatch.data.csv_rows import NEEDED, open_rows
from mismatch.data.rows import Reading, Row, Span, as_text
from mismatch.errors import InputError, MachineError, MissingExtraError
from mismatch.files import parse_json, read_text
from mismatch.remote import READ, Remote
from mismatch.retries import is_transient, reason

__all__ = ["STATE", "arrow_header", "arrow_rows", "count_rows", "dataset_files", "import_pyarrow"]

NUL = "a NUL character stands in this row; take it out"
BATCH = 4096  # rows that are held at a time
STATE, SPLITS = "state.json", "dataset_dict.json"  # which save_to_disk writes
EMBEDDED = "the image itself stands in this row, not its path; write the images to files and name those"


def import_pyarrow(what: str) -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet; MissingExtraError, which says what needs them, where they are not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(what, "parquet") from error
    return pa, pq


def dataset_files(folder: str | Path) -> list[Path]:
    """The Arrow files of such a folder, in order; InputError for another folder."""
    folder = Path(folder)
    if (folder / SPLITS).is_file():
        splits = _json(folder / SPLITS).get("splits") or ["train"]
        raise InputError(f"{folder} holds several splits; name one: {', '.join(str(folder / split) for split in splits)}")
    if not (folder / STATE).is_file():
        raise InputError(f"{folder} is a folder, a pipe or a device; {NEEDED}")
    state = _json(folder / STATE)
    try:
        files = [folder / entry["filename"] for entry in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / STATE} names no data files; write the dataset anew with save_to_disk") from error
    if state.get("_indices_data_files"):
        raise InputError(f"{folder} selects rows of its files by an index; call flatten_indices() before save_to_disk")
    return files


def arrow_header(reading: Reading) -> list[str]:
    """The columns as rows have them; those that hold bytes are left out."""
    header = _Source(reading).kept
    names = reading.names(header) or []
    reading.present(header, names)
    return names


def count_rows(reading: Reading) -> int:
    """How many there are, by what the files say of themselves."""
    return _Source(reading).count()


def arrow_rows(reading: Reading) -> Iterator[Row]:
    """Stream the rows, a few thousand at a time."""
    source = _Source(reading)
    names = reading.names(source.kept)
    if names is None:
        return
    present = reading.present(source.kept, names)
    for before, batch in source.batches():
        lists, problems = source.texts(batch)
        for i, values in enumerate(zip(*lists, strict=True)):
            yield _row(before + i + 1, dict(zip(names, values, strict=True)), present, problems.get(i), reading)


def _row(number: int, columns: dict[str, str], present: tuple[str, ...], problem: str | None, reading: Reading) -> Row:
    if "\0" in "".join(columns.values()):
        return Row(
            number, columns.get("image_path", ""), columns.get("text", ""), None, columns, "a NUL character stands in this row; take it out", intact=False
        )
    return reading.row(number, columns, present, problem)


class _Source:
    """The batches of a Parquet file or a dataset, and their columns as texts."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.path = reading.path if isinstance(reading.path, Remote) else Path(reading.path)
        self.is_folder = isinstance(self.path, Path) and self.path.is_dir()
        self.files = dataset_files(self.path) if isinstance(self.path, Path) and self.is_folder else [self._file()]
        self.pa, self.pq = import_pyarrow(f"reading {self.path}")
        schema = self._schema()
        self.kept = [field.name for field in schema if field.name == reading.columns.image or not self._is_bytes(field.type)]
        self.class_names = _class_names(schema.metadata or {})

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Those of the span, where one is read, each with how many rows stand before it; InputError for a file that is damaged."""
        span = self.reading.span or Span(0, sys.maxsize, 0)
        try:
            for before, batch in self._dataset_batches() if self.is_folder else self._parquet_batches(span):
                if before >= span.end:
                    return
                first, last = max(0, span.start - before), min(batch.num_rows, span.end - before)
                if first < last:
                    yield before + first, batch.slice(first, last - first)
        except (self.pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._damaged(error) from error

    def count(self) -> int:
        """Rows; InputError for a file that is damaged."""
        try:
            if self.is_folder:
                return sum(batch.num_rows for _, batch in self._dataset_batches())
            with self._parquet() as parquet:
                return int(parquet.metadata.num_rows)
        except (self.pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._damaged(error) from error

    def texts(self, batch: Any) -> tuple[list[list[str]], dict[int, str]]:
        """Of each kept column its values, and of rows whose image can't be had from its value why, by their place in the batch; InputError for damage."""
        lists, problems = [], dict[int, str]()
        try:
            for name in self.kept:
                array = batch.column(batch.schema.get_field_index(name))
                if name == self.reading.columns.image:
                    array, problems = self._images(array)
                lists.append(self._texts(array, self.class_names.get(name)))
        except (self.pa.ArrowException, UnicodeDecodeError) as error:
            raise self._damaged(error) from error
        return lists, problems

    def _file(self) -> Path | Remote:
        open_rows(self.path).close()
        return self.path

    def _schema(self) -> Any:
        try:
            if not self.is_folder:
                with self._parquet() as parquet:
                    return parquet.schema_arrow
            if not self.files:
                raise InputError(f"{self.path} names no data files")
            with self.pa.memory_map(str(self.files[0])) as source:
                return self.pa.ipc.open_stream(source).schema
        except (self.pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError | MachineError:
        if isinstance(error, OSError) and is_transient(error):
            return MachineError(f"{self.path} can't be read: {reason(error)}")
        kind = "an Arrow dataset" if self.is_folder else "a Parquet file"
        return InputError(f"{self.path} can't be read as {kind}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")

    def _parquet(self) -> Any:
        """Read a column's piece at a time, however large the row groups are."""
        if isinstance(self.path, Remote):
            return self.pq.ParquetFile(self.path.open(), buffer_size=READ, pre_buffer=False)
        return self.pq.ParquetFile(self.path, buffer_size=2**16, pre_buffer=False)

    def _parquet_batches(self, span: Span) -> Iterator[tuple[int, Any]]:
        """Those of the row groups in which a span lies, each with how many rows stand before it."""
        with self._parquet() as parquet:
            ends = list(accumulate(parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)))
            groups = [i for i, (first, end) in enumerate(pairwise([0, *ends])) if end > span.start and first < span.end]
            before = [0, *ends][groups[0]] if groups else 0
            for batch in parquet.iter_batches(batch_size=BATCH, row_groups=groups, columns=self.kept, use_threads=False) if groups else ():
                yield before, batch
                before += batch.num_rows

    def _dataset_batches(self) -> Iterator[tuple[int, Any]]:
        """All, each with how many rows stand before it; mapped, so that one that nobody looks into is not read."""
        before = 0
        for file in self.files:
            with self.pa.memory_map(str(file)) as source:
                for batch in self.pa.ipc.open_stream(source):
                    for start in range(0, batch.num_rows, BATCH):
                        yield before + start, batch.slice(start, BATCH)
                    before += batch.num_rows

    def _is_bytes(self, kind: Any) -> bool:
        """Whether a column holds bytes, or values that do: images, sounds."""
        types = self.pa.types
        if types.is_struct(kind):
            return any(self._is_bytes(kind.field(i).type) for i in range(kind.num_fields))
        if types.is_list(kind) or types.is_large_list(kind):
            return self._is_bytes(kind.value_type)
        return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))

    def _images(self, array: Any) -> tuple[Any, dict[int, str]]:
        """Paths, of values that may be what datasets makes of an image: its bytes and its path."""
        types, kind = self.pa.types, array.type
        if types.is_struct(kind) and {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)}:
            parts = dict(zip((kind.field(i).name for i in range(kind.num_fields)), array.flatten(), strict=True))  # null where the whole is
            there = parts["bytes"].is_valid().to_pylist()
            return parts["path"], {i: EMBEDDED for i, embedded in enumerate(there) if embedded}
        if self._is_bytes(kind):
            return self.pa.nulls(len(array), self.pa.string()), dict.fromkeys(range(len(array)), EMBEDDED)
        if (types.is_list(kind) or types.is_large_list(kind)) and self.reading.columns.multi_image is None:
            counts = [0 if value is None else len(value) for value in array.to_pylist()]
            said = {i: f"this row has {count} images; pass --multi-image best or all" for i, count in enumerate(counts) if count > 1}
            return array, said
        return array, {}

    def _texts(self, array: Any, class_names: list[str] | None) -> list[str]:
        types = self.pa.types
        if types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if class_names is not None and types.is_integer(array.type):
            return [class_names[value] if value is not None and 0 <= value < len(class_names) else "" for value in array.to_pylist()]
        if types.is_temporal(array.type) or types.is_decimal(array.type):
            array = array.cast(self.pa.string())
        return ["" if value is None else value if type(value) is str else as_text(value) for value in array.to_pylist()]


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Column → the names of its classes, which datasets stores as numbers; a label is what it is called, not where it stands in that list."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return {name: list(map(str, feature["names"])) for name, feature in features.items() if _is_class(feature)}
    except (ValueError, AttributeError, RecursionError):
        return {}


def _is_class(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    return found if isinstance(found, dict) else {}
