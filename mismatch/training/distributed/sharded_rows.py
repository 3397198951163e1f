"""The rows of a run of several processes: each reads its span of the file, all get the numbers, and
the strings stay in files that all see.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mismatch.data.pairs import (
    Columns,
    Row,
    Unusable,
    no_rows,
    one_image_each,
    read_rows,
    resolve_image,
    span_rows,
)
from mismatch.data.rows import SpanError
from mismatch.data.spans import find_spans
from mismatch.data.strings import Stored, StringFile, StringWriter
from mismatch.errors import CheckpointError, InputError
from mismatch.runtime.long_text import split_each
from mismatch.runtime.tokenize import Tokenizer, shown
from mismatch.training.callbacks import announce
from mismatch.training.distributed.processes import Processes
from mismatch.training.feeds.batches import PairSet, file_finder, first_seen
from mismatch.training.folder.output import check_usable

__all__ = ["SCRATCH", "Together", "cut_together", "gathering", "read_together", "text_keys"]

KEY_BYTES = 16  # of BLAKE2b; two of 10⁹ strings collide with a chance of 10⁻²¹
TEXTS = 4096  # tokenized at a time
UNSHARED = (
    "one process reads all of it, since a row is damaged or double quotes stand in a text that is"
    " not in quotes itself; write such texts in quotes"
)
SCRATCH = re.compile("rows")  # what `sweep` knows a killed run's folder of strings by
Indices = NDArray[np.int64]
Keys = NDArray[np.bytes_]


@dataclass(frozen=True)
class Together:
    """The processes of a run, more than one, and where each writes what the others read."""

    processes: Processes
    folder: Path  # seen by all

    def file(self, name: str, index: int | None = None) -> Path:
        """Return the file of the strings that a process writes, this one by default."""
        return self.folder / f"{name}.{self.processes.index if index is None else index}"


@contextmanager
def gathering(output_dir: str | Path, processes: Processes) -> Iterator[Together | None]:
    """Yield what brings the processes together, a hidden folder in `output_dir`, for as long as the
    block takes; None for one process alone. CheckpointError where a process doesn't see it.
    """
    if processes.count == 1:
        yield None
        return
    there = Path(output_dir).exists()
    folder = (
        Path(output_dir)
        / processes.each(lambda: _make_folder(Path(output_dir)) if processes.main else "")[0]
    )
    try:
        if blind := [index for index, sees in enumerate(processes.each(folder.is_dir)) if not sees]:
            where = "give them all a folder that they share"
            raise CheckpointError(
                f"`output_dir` {output_dir} is another folder for process {blind[0]} of"
                f" {processes.count} than for process 0; {where}"
            )
        yield Together(processes, folder)
        processes.wait()  # until nobody reads any more
    finally:
        if processes.main:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # what a run has written into it stays
                if not there:
                    Path(output_dir).rmdir()


def _make_folder(output_dir: Path) -> str:
    """Make the folder, and return its name."""
    check_usable(output_dir)
    folder = output_dir / f".rows.{uuid.uuid4().hex[:8]}.part"
    folder.mkdir()
    return folder.name


def read_together(
    path: str, name: str, image_base_path: str, columns: Columns, together: Together
) -> PairSet:
    """Return in every process the same set as `PairSet.from_rows` makes of `load_pairs`, or raise
    the same errors. `name`: of the files of its strings.

    Each process reads a span of the rows, where the file can be taken apart; else the main one
    reads all.
    """
    processes = together.processes
    share = _Share(together, name, image_base_path, columns)
    spans = find_spans(path, columns, processes)
    found: list[Any] = [None]
    if spans is not None:
        found = processes.each(lambda: share.read(span_rows(path, spans[processes.index], columns)))
    if None in found:
        if spans is not None:
            announce(f"{path}: {UNSHARED}")
        share = _Share(together, name, image_base_path, columns)
        found = processes.each(
            lambda: share.read(
                read_rows(path, require_label=True, columns=columns) if processes.main else ()
            )
        )
    unusable = Unusable()
    for one in found:
        unusable.join(Unusable(**one["unusable"]))
    if not any(one["rows"] for one in found):
        raise no_rows(path)
    if unusable.count:
        raise unusable.error(path)
    return share.joined(path, [one["images"] for one in found], [one["texts"] for one in found])


class _Share:
    """What one process has read: numbers, for all, and strings, in two files."""

    def __init__(
        self, together: Together, name: str, image_base_path: str, columns: Columns
    ) -> None:
        self.together = together
        self.name = name
        self.base = image_base_path
        self.columns = columns
        self.file_of = file_finder(image_base_path)
        self.rows = 0
        self.unusable = Unusable()
        self.images: dict[str, int] = {}  # spelling → which of its images
        # keys of its images and texts, in the order in which they come
        self.image_at = dict[bytes, int]()
        self.text_at = dict[bytes, int]()
        self.lines = array("q")
        self.image_of = array("q")
        self.text_of = array("q")
        self.labels = array("f")

    def read(self, rows: Iterable[Row]) -> dict[str, Any] | None:
        """Take all of them in → what all processes have to know of that; None where they are a span
        that only a reading of the whole file can tell apart.
        """
        try:
            with (
                StringWriter(self.together.file(f"{self.name}.images")) as images,
                StringWriter(self.together.file(f"{self.name}.texts")) as texts,
            ):
                for row in rows:
                    for one in one_image_each(row, self.columns):
                        self._add(one, images, texts)
        except SpanError:
            return None
        return {
            "rows": self.rows,
            "images": len(images),
            "texts": len(texts),
            "unusable": asdict(self.unusable),
        }

    def _add(self, row: Row, images: StringWriter, texts: StringWriter) -> None:
        self.rows += 1
        if row.problem:
            self.unusable.add(row)
        if self.unusable.count:
            return
        image = self.images.get(row.image_path)
        if image is None:
            key = _key(self.file_of(row.image_path))
            image = self.images[row.image_path] = self.image_at.setdefault(key, len(self.image_at))
            if image == len(images):
                images.add(row.image_path)
                self.lines.append(row.line)
        text = self.text_at.setdefault(_key(row.text), len(self.text_at))
        if text == len(texts):
            texts.add(row.text)
        self.image_of.append(image)
        self.text_of.append(text)
        self.labels.append(float(row.label or 0))

    def joined(self, path: str, images: Sequence[int], texts: Sequence[int]) -> PairSet:
        """Return all processes' shares as one set; `images`, `texts`: how many each process has."""
        gather = self.together.processes.gather
        index = self.together.processes.index
        first_image, image_at = first_seen(np.concatenate(gather(_keys(self.image_at))))
        first_text, text_at = first_seen(np.concatenate(gather(_keys(self.text_at))))
        image_of = image_at[np.concatenate(gather(np.array(self.image_of) + sum(images[:index])))]
        text_of = text_at[np.concatenate(gather(np.array(self.text_of) + sum(texts[:index])))]
        said = Stored(_mapped(f"{self.name}.texts", texts, self.together), first_text, str)
        return PairSet(
            csv_file=path,
            images=Stored(
                _mapped(f"{self.name}.images", images, self.together),
                first_image,
                partial(resolve_image, self.base),
            ),
            texts=said,
            lines=np.concatenate(gather(np.array(self.lines)))[first_image],
            image_of=image_of,
            text_of=text_of,
            labels=np.concatenate(gather(np.array(self.labels))),
            pieces=said,
            piece_of=np.arange(len(said)),
            starts=np.arange(len(said) + 1),
        )


def _mapped(name: str, counts: Sequence[int], together: Together) -> list[StringFile]:
    """Return every process's file of that name, with how many strings each holds."""
    files: list[StringFile] = []
    together.processes.each(
        lambda: files.extend(
            StringFile(together.file(name, index), count) for index, count in enumerate(counts)
        )
    )
    return files


def text_keys(texts: Iterable[str]) -> Keys:
    """Return (N,) hashes that stand for texts."""
    return _keys(map(_key, texts))


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


def _keys(known: Iterable[bytes]) -> Keys:
    return np.frombuffer(b"".join(known), f"S{KEY_BYTES}")


def cut_together(
    sets: Sequence[PairSet], tokenizer: Tokenizer, together: Together, *, cut: bool
) -> tuple[list[PairSet], int]:
    """Return the sets, their long texts in pieces where they shall be `cut`, and how many different
    texts are long. Each process looks at its part of the texts.
    """
    processes = together.processes
    long: list[list[bool]] = []
    processes.each(lambda: long.extend(_are_long(pairs, processes, tokenizer) for pairs in sets))
    keys = [
        text_keys(compress(pairs.texts[processes.part(len(pairs.texts))], flags))
        for pairs, flags in zip(sets, long, strict=True)
    ]
    count = len(np.unique(np.concatenate(processes.gather(np.concatenate(keys)))))
    if not count or not cut:
        return list(sets), count
    return [
        _cut(pairs, f"pieces.{i}", flags, tokenizer, together)
        for i, (pairs, flags) in enumerate(zip(sets, long, strict=True))
    ], count


def _are_long(pairs: PairSet, processes: Processes, tokenizer: Tokenizer) -> list[bool]:
    """Return which texts of this process's part are over the context; InputError, with the file,
    for one that can't be tokenized.
    """
    texts = pairs.texts[processes.part(len(pairs.texts))]
    try:
        return [
            flag
            for i in range(0, len(texts), TEXTS)
            for flag in _cut_flags(list(texts[i : i + TEXTS]), tokenizer)
        ]
    except InputError as error:
        raise InputError(f"{pairs.csv_file}: {error}") from error


def _cut_flags(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[bool]:
    """Yield of each text whether it is over the context; InputError, which quotes it, for one that
    can't be tokenized or is empty.
    """
    for text, encoded in zip(texts, tokenizer.encode_each(texts), strict=True):
        if isinstance(encoded, InputError):
            raise InputError(f"text {shown(text)!r}: {encoded}")
        yield encoded.cut


def _cut(
    pairs: PairSet, name: str, long: Sequence[bool], tokenizer: Tokenizer, together: Together
) -> PairSet:
    """Cut as `PairSet.cut` does; `long`: which texts of this process's part are. Only pieces of
    long ones are written, the others are there.
    """
    processes = together.processes
    texts = cast("Stored[str]", pairs.texts)
    # strings, behind which the new ones are counted
    known = sum(file.count for file in texts.files)
    keys = list[bytes]()
    places = array("q")
    counts = array("q")

    def split() -> int:
        own = texts[processes.part(len(texts))]
        with StringWriter(together.file(name)) as file:
            for text, place, is_long in zip(own, own.places.tolist(), long, strict=True):
                pieces = _pieces(pairs, text, tokenizer) if is_long else (text,)
                keys.extend(map(_key, pieces))
                places.extend([known + file.add(piece) for piece in pieces] if is_long else [place])
                counts.append(len(pieces))
        return len(file)

    new = processes.each(split)
    own = np.array(places)
    own[own >= known] += sum(new[: processes.index])
    first, piece_of = first_seen(np.concatenate(processes.gather(_keys(keys))))
    pieces = Stored(
        [*texts.files, *_mapped(name, new, together)],
        np.concatenate(processes.gather(own))[first],
        str,
    )
    return replace(
        pairs,
        pieces=pieces,
        piece_of=piece_of,
        starts=np.cumsum([0, *np.concatenate(processes.gather(np.array(counts)))]),
    )


def _pieces(pairs: PairSet, text: str, tokenizer: Tokenizer) -> tuple[str, ...]:
    """Split a text into pieces; InputError, with the file, for one that can't be split."""
    [pieces] = split_each([text], tokenizer)
    if isinstance(pieces, InputError):
        raise InputError(f"{pairs.csv_file}: text {shown(text)!r}: {pieces}")
    return pieces
