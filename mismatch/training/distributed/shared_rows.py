"""Read the rows of a run once a machine. Its first process checks them and writes them to an Arrow
file, which all processes of that machine map.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mismatch.data.columns import file_finder
from mismatch.data.pairs import Columns, Row, resolve_image, source_digest, usable_rows
from mismatch.errors import CheckpointError, InputError, MissingExtraError
from mismatch.io.retries import reason
from mismatch.runtime.long_text import split_each
from mismatch.runtime.tokenize import Tokenizer, shown
from mismatch.training.distributed.processes import Processes
from mismatch.training.feeds.batches import PairSet, Selected, first_seen

__all__ = ["cut_together", "read_together", "text_keys"]

KEY_BYTES = 16  # of BLAKE2b; two of 10⁹ strings collide with a chance of 10⁻²¹
BATCH_ROWS = 4096  # that are written, or tokenized, at a time
BATCH_LETTERS = 2**22  # after which fewer rows are written
Keys = NDArray[np.bytes_]
Indices = NDArray[np.int64]


def read_together(
    path: str, image_base_path: str, columns: Columns, processes: Processes
) -> PairSet:
    """Return in every process the set that `PairSet.from_rows` makes of `load_pairs`, or raise the
    same errors. Its strings stay in a file.
    """
    table = _shared_table(path, columns, processes)
    images = table["image_path"]
    texts = table["text"]
    first_spelling, spelling_of = _first_of_column(images, processes)
    first_text, text_of = _first_of_column(texts, processes)
    file = file_finder(image_base_path)
    share = first_spelling[processes.part(len(first_spelling))]
    files = _gathered(
        lambda: text_keys(file(images[row].as_py()) for row in share.tolist()), processes
    )
    first_file, file_of = first_seen(files)  # `a.jpg` and `./a.jpg` are one
    first_image = first_spelling[first_file]
    unique_texts = Selected(lambda row: str(texts[row].as_py()), first_text)
    return PairSet(
        csv_file=path,
        images=Selected(
            lambda row: resolve_image(image_base_path, images[row].as_py()), first_image
        ),
        texts=unique_texts,
        lines=_column(table["line"], np.int64)[first_image],
        image_of=file_of[spelling_of],
        text_of=text_of,
        labels=_column(table["label"], np.float32),
        pieces=unique_texts,
        piece_of=np.arange(len(unique_texts)),
        starts=np.arange(len(unique_texts) + 1),
    )


def _shared_table(path: str, columns: Columns, processes: Processes) -> Any:
    """Return the rows as a table of pyarrow, mapped from a file that loses its name as soon as all
    processes map it. The disk has its room back when they end, however that is.
    """
    files: list[Path] = []
    tables: list[Any] = []

    def write() -> list[str] | None:
        if not processes.first_of_machine:
            return None
        name = _write(usable_rows(path, columns=columns), files)
        digest = source_digest(path, columns) if processes.count > 1 else ""
        return [socket.gethostname(), name, digest]

    try:
        written = processes.each(write)
        _check_same(path, written)
        processes.each(lambda: tables.append(_mapped(written, processes)))
    finally:
        for file in files:
            with suppress(OSError):  # Windows keeps what is mapped
                file.unlink()
    return tables[0]


def _write(rows: Iterator[Row], files: list[Path]) -> str:
    """Write the rows to a temporary file, which is added to `files` at once, and return its name.
    CheckpointError where there is no room for it.
    """
    pa = _pyarrow()
    text = pa.large_string()
    schema = pa.schema(
        {"line": pa.int64(), "image_path": text, "text": text, "label": pa.float32()}
    )
    try:
        descriptor, name = tempfile.mkstemp(prefix="mismatch-rows-", suffix=".arrow")
        files.append(Path(name))
        with os.fdopen(descriptor, "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for batch in _batches(rows):
                lines, images, texts, labels = zip(*batch, strict=True)
                columns = [
                    _numbers(pa.int64(), np.array(lines, np.int64)),
                    _strings(images),
                    _strings(texts),
                    _numbers(pa.float32(), np.array(labels, np.float32)),
                ]
                writer.write_batch(pa.record_batch(columns, schema=schema))
    except OSError as error:
        raise CheckpointError(
            f"the rows can't be written to a temporary file: {reason(error)}; free space in"
            f" {', '.join(str(file.parent) for file in files) or 'one of them'}, or let TMPDIR name"
            " another folder"
        ) from error
    return name


# pyarrow's own ways from and to Python and numpy import pandas where it is there: half a second
def _numbers(kind: Any, values: NDArray[Any]) -> Any:
    """Return an array of pyarrow."""
    pa = _pyarrow()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _strings(values: Sequence[str]) -> Any:
    """Return an array of pyarrow."""
    pa = _pyarrow()
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(values), buffers)


def _column(column: Any, kind: type[np.generic]) -> NDArray[Any]:
    """Return a column of numbers, (N,)."""
    return np.concatenate(
        [np.frombuffer(chunk.buffers()[1], kind, len(chunk)) for chunk in column.chunks]
    )


def _batches(rows: Iterator[Row]) -> Iterator[list[tuple[int, str, str, int | None]]]:
    """Yield what training needs of the rows, as many at a time as need little memory."""
    batch: list[tuple[int, str, str, int | None]] = []
    letters = 0
    for row in rows:
        batch.append((row.line, row.image_path, row.text, row.label))
        letters += len(row.image_path) + len(row.text)
        if len(batch) == BATCH_ROWS or letters > BATCH_LETTERS:
            yield batch
            batch = []
            letters = 0
    if batch:
        yield batch


def _check_same(path: str, written: Sequence[list[str] | None]) -> None:
    """Raise InputError where two machines have read different rows."""
    digests = {index: entry[2] for index, entry in enumerate(written) if entry}
    for index, digest in digests.items():
        if digest != digests[min(digests)]:
            raise InputError(
                f"{path}: process {index} of {len(written)} finds another file there than process"
                f" {min(digests)}; give all of them the same one"
            )


def _mapped(written: Sequence[list[str] | None], processes: Processes) -> Any:
    """Return the rows that the first process of this machine has written."""
    pa = _pyarrow()
    for host, name, _ in filter(None, written):
        if host == socket.gethostname() and Path(name).exists():
            return pa.ipc.open_file(pa.memory_map(name)).read_all()
    raise CheckpointError(
        f"process {processes.index} of {processes.count} sees no rows in"
        f" {tempfile.gettempdir()} that the first process of its machine has written; let TMPDIR"
        " name a folder that they share"
    )


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError("mismatch train", "train") from error
    return pa


def text_keys(texts: Iterable[str]) -> Keys:
    """Return (N,) hashes that stand for texts."""
    return np.frombuffer(
        b"".join(
            hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()
            for text in texts
        ),
        f"S{KEY_BYTES}",
    )


def _first_of_column(column: Any, processes: Processes) -> tuple[Indices, Indices]:
    """Map N strings → as `first_seen` does, of which each process looks at its part."""
    part = processes.part(len(column))
    texts = (
        text
        for start in range(part.start, part.stop, BATCH_ROWS)
        for text in column.slice(start, min(BATCH_ROWS, part.stop - start)).to_pylist()
    )
    return first_seen(_gathered(lambda: text_keys(texts), processes))


def _gathered(work: Callable[[], NDArray[Any]], processes: Processes) -> NDArray[Any]:
    """Return the arrays that `work` makes in each process, one behind the other."""
    made: list[NDArray[Any]] = []
    processes.each(lambda: made.append(work()))
    return np.concatenate(processes.gather(made[0]))


def cut_together(
    sets: Sequence[PairSet], tokenizer: Tokenizer, processes: Processes, *, cut: bool
) -> tuple[list[PairSet], int]:
    """Return the sets, their long texts in pieces where they are to be `cut`, and how many
    different texts are long. Each process looks at its part of the texts.
    """
    long = [_are_long(pairs, tokenizer, processes) for pairs in sets]  # (V,) each
    count = _count(sets, long, processes)
    if not count or not cut:
        return list(sets), count
    return [
        _cut(pairs, flags, tokenizer, processes) for pairs, flags in zip(sets, long, strict=True)
    ], count


def _are_long(pairs: PairSet, tokenizer: Tokenizer, processes: Processes) -> NDArray[np.bool_]:
    """Return which texts are over the context, (V,); InputError, with the file, for one that can't
    be tokenized.
    """
    texts = pairs.texts[processes.part(len(pairs.texts))]

    def flags() -> NDArray[np.bool_]:
        cut_flags = list[bool]()
        for start in range(0, len(texts), BATCH_ROWS):
            chosen = list(texts[start : start + BATCH_ROWS])
            for text, encoded in zip(chosen, tokenizer.encode_each(chosen), strict=True):
                if isinstance(encoded, InputError):
                    raise _text_error(pairs, text, encoded)
                cut_flags.append(encoded.cut)
        return np.array(cut_flags, np.bool_)

    return _gathered(flags, processes)


def _count(sets: Sequence[PairSet], long: Sequence[NDArray[np.bool_]], processes: Processes) -> int:
    """Return how many different texts are long, through all sets."""
    keys = list[Keys]()
    for pairs, flags in zip(sets, long, strict=True):
        numbers = np.flatnonzero(flags)
        share = numbers[processes.part(len(numbers))].tolist()
        keys += processes.gather(text_keys(pairs.texts[number] for number in share))
    return len(np.unique(np.concatenate(keys)))


def _text_error(pairs: PairSet, text: str, error: InputError) -> InputError:
    """Return what is wrong with a text, with the file that it stands in."""
    return InputError(f"{pairs.csv_file}: text {shown(text)!r}: {error}")


def _cut(
    pairs: PairSet, long: NDArray[np.bool_], tokenizer: Tokenizer, processes: Processes
) -> PairSet:
    """Cut as `PairSet.cut` does, those texts that are `long`, (V,). A piece is known by its text
    and where it stands in that, so that no string is exchanged.
    """
    places = array("q")  # of each piece its text, and where it begins and ends there
    counts = array("q")

    def keys() -> Keys:
        share = range(len(long))[processes.part(len(long))]
        return text_keys(piece for text in share for piece in split(text))

    def split(number: int) -> Iterator[str]:
        text = pairs.texts[number]
        pieces = _pieces(pairs, text, tokenizer) if long[number] else (text,)
        counts.append(len(pieces))
        end = 0
        for piece in pieces:
            start = text.index(piece, end)
            end = start + len(piece)
            places.extend((number, start, end))
            yield piece

    first, piece_of = first_seen(_gathered(keys, processes))
    place = np.concatenate(processes.gather(np.array(places).reshape(-1, 3)))

    def piece(number: int) -> str:
        text, start, end = map(int, place[number])
        return pairs.texts[text][start:end]

    return replace(
        pairs,
        pieces=Selected(piece, first),
        piece_of=piece_of,
        starts=np.cumsum([0, *np.concatenate(processes.gather(np.array(counts)))]),
    )


def _pieces(pairs: PairSet, text: str, tokenizer: Tokenizer) -> tuple[str, ...]:
    """Split a text into pieces; InputError, with the file, for one that can't be split."""
    [pieces] = split_each([text], tokenizer)
    if isinstance(pieces, InputError):
        raise _text_error(pairs, text, pieces)
    return pieces
