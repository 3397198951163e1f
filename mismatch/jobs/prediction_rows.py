"""Rows to predict, in a file, a table or a folder of images with titles; all, or one shard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from mismatch.data.columns import Columns
from mismatch.data.pairs import all_columns, read_header, read_rows, rows_files, source_digest
from mismatch.data.readers.folder import TitledImages
from mismatch.data.readers.memory import RowsLike
from mismatch.data.rows import Row
from mismatch.errors import InputError
from mismatch.io.remote import is_url
from mismatch.jobs.options import (
    RowSettings,
    RowSource,
    given_options,
    isolated_decoding,
    open_rows,
)

__all__ = ["PredictionRows", "Shard", "all_rows_failed", "open_prediction_rows"]

OF_TABLES = (
    "image_column",
    "text_column",
    "label_column",
    "label_map",
    "multi_image",
    "fetch_images",
    "fetch_cache",
    "fetch_networks",
)


@dataclass(frozen=True)
class Shard:
    """One of several processes that share the rows."""

    number: int  # 1..count
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that `2/4` says. InputError for what is none."""
        match = re.fullmatch("([1-9][0-9]{0,8})/([1-9][0-9]{0,8})", text)
        if not match or int(match[1]) > int(match[2]):
            raise InputError(
                f"`shard`: {text!r} is not a shard; write I/N with I from 1 to N, as in 2/4"
            )
        return cls(int(match[1]), int(match[2]))

    def of(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Return its rows: numbers `number`, `number` + `count`, …, counted from 1. Every row is in
        exactly one shard.
        """
        return islice(rows, self.number - 1, None, self.count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True)
class PredictionRows:
    """Rows, and what has to be known of them before and after."""

    name: str  # messages call them so
    files: tuple[Path, ...]  # no output may replace these
    base: str  # folder or URL that image paths are relative to
    header: list[str]
    columns: Columns
    read: Callable[[], Iterator[Row]]
    digest: Callable[[], str]  # hash of all that the rows say, hex
    notes: Callable[[], list[str]]  # sentences for people, once all rows have been read


@contextmanager
def open_prediction_rows(
    rows: RowsLike | None,
    images: str | Path | None,
    titles: str | Path | None,
    settings: RowSettings,
    *,
    whole_header: bool,
) -> Iterator[PredictionRows]:
    """Yield the rows until the block ends. InputError for options that don't go together, and for
    rows that can't be read.

    `whole_header`: read JSON lines once more beforehand, since keys may
    come late.
    """
    if (rows is None) == (images is None):
        raise InputError("give either `rows` or `images`, a folder")
    if titles is not None and images is None:
        raise InputError("`titles` goes with `images`, the folder that its names are relative to")
    if images is None:
        with open_rows(rows, settings, ahead=False) as source:
            yield _of_table(source, whole_header=whole_header)
        return
    _check_folder_options(settings)
    with isolated_decoding(settings.isolate_decoding):
        inside = "" if settings.allow_outside_images else str(images)
        columns = Columns(inside=inside, encoding=settings.encoding, delimiter=settings.delimiter)
        yield _of_folder(Path(images), titles, columns)


def all_rows_failed(source: PredictionRows, failed: int) -> InputError:
    """Return what to raise where no row could be scored."""
    remote = is_url(source.name) or is_url(source.base)
    why = "their status says why" if remote else "mismatch validate says why row by row"
    return InputError(f"{source.name}: not one of its {failed:,} rows could be scored; {why}")


def _check_folder_options(settings: RowSettings) -> None:
    if settings.image_base_path:
        raise InputError("`image_base_path` goes with `rows`; `images` is a folder already")
    table_options = [name for name in given_options(settings, RowSettings()) if name in OF_TABLES]
    if table_options:
        raise InputError(f"{', '.join(f'`{name}`' for name in table_options)} go with `rows`")


def _of_table(source: RowSource, *, whole_header: bool) -> PredictionRows:
    header_of = all_columns if whole_header else read_header
    return PredictionRows(
        name=source.name,
        files=tuple(rows_files(source.path)),
        base=source.base,
        # a wrong file is refused before a model is loaded
        header=header_of(source.path, require_label=False, columns=source.columns),
        columns=source.columns,
        read=partial(read_rows, source.path, require_label=False, columns=source.columns),
        digest=partial(source_digest, source.path, source.columns),
        notes=list,
    )


def _of_folder(folder: Path, titles: str | Path | None, columns: Columns) -> PredictionRows:
    file = None if titles is None else Path(titles)
    titled = TitledImages(folder, file, outside=not columns.inside, columns=columns)
    return PredictionRows(
        name=str(titles or folder),
        files=() if file is None else (file,),
        base=str(folder),
        header=titled.header,
        columns=columns,
        read=partial(_confined, titled, columns),
        digest=titled.digest,
        notes=titled.notes,
    )


def _confined(titled: TitledImages, columns: Columns) -> Iterator[Row]:
    """Yield the rows, each that leads out of the folder with that as its problem."""
    for row in titled.rows():
        if row.problem is None:
            yield row._replace(problem=columns.path_problem(row.image_path))
        else:
            yield row
