"""Rows in another format: as CSV, JSON lines, Parquet or webdataset archives, with their images in
them where that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

from mismatch.data.pairs import all_columns, read_rows, refusal, rows_files
from mismatch.data.readers.memory import RowsLike
from mismatch.data.rows import Row
from mismatch.errors import ImageError, InputError
from mismatch.io.atomic import together
from mismatch.io.outputs import check_outputs
from mismatch.io.replacing import remove_earlier
from mismatch.io.text import plural
from mismatch.jobs.locking import lock_file, lock_folder
from mismatch.jobs.memory_rows import check_image_is_file, in_memory
from mismatch.jobs.options import RowOptions, RowSettings, RowSource, open_rows
from mismatch.jobs.output.image_bytes import ImageBytes
from mismatch.jobs.output.image_table import image_header, image_table
from mismatch.jobs.output.shards import ShardNames, shard_table, shards_of
from mismatch.jobs.results import Result
from mismatch.jobs.row_tables import check_table, row_table
from mismatch.jobs.table_kinds import exact_table, refuse_unasked
from mismatch.jobs.value_checks import check_whole_number, checked

__all__ = ["ConvertResult", "convert"]

OPTION = "`output`"
ROWS_PER_SHARD = 10_000  # as writers of webdataset aim at
MAX_PER_SHARD = 2**22  # samples of an archive that is read here


@dataclass(frozen=True)
class ConvertResult(Result):
    """Rows that were written in another format.

    `rows`: their number.
    `images`: how many of them have their image in the output; 0 where paths were written.
    `columns`: the names of the columns, as the output has them.
    `paths`: the files that were written, in order.
    """

    rows: int
    images: int
    columns: list[str] = field(repr=False)
    paths: list[Path]

    def summary(self) -> list[str]:
        """Return it for people, a line each."""
        images = " with their images" if self.images else ""
        where = str(self.paths[0])
        if len(self.paths) > 1:
            where = f"{len(self.paths):,} files, {where} to {self.paths[-1]}"
        return [f"{plural(self.rows, 'row')}{images} written to {where}"]


@checked
def convert(
    rows: RowsLike,
    *,
    output: str | Path,
    embed_images: bool = False,
    rows_per_shard: int | None = None,
    overwrite: bool = False,
    **options: Unpack[RowOptions],
) -> ConvertResult:
    """Write rows image_path,text[,label] in another format; all columns stay, and texts to the
    letter.

    `output`: .csv, .tsv, .jsonl or .parquet; .tar for a webdataset archive, `shards/%05d.tar` for
    several. `embed_images`: put the images themselves into Parquet, as their files are, in a column
    `image` as Hugging Face's datasets has it; an archive always holds them. `rows_per_shard`: rows
    of an archive where there are several; None: 10,000. `overwrite`: replace what was converted
    earlier from rows with the same columns.

    Labels are read, and checked, where `label_column` or `label_map` is given; else they stay as
    they are written. Raises InputError for rows, images or options that can't be used, with the
    first ten rows; then nothing was written.
    """
    settings = RowSettings.of(options)
    target = Path(output)
    shards = shards_of(target)
    per_shard = _per_shard(rows_per_shard, shards)
    with_images = embed_images or shards is not None
    if shards is None and check_table(target) != "parquet" and embed_images:
        raise InputError(
            f"`embed_images` goes with Parquet and webdataset, and {target} is neither; name"
            f" {OPTION} .parquet or .tar"
        )
    with ExitStack() as stack:
        source = stack.enter_context(open_rows(rows, settings))
        labelled = bool(settings.label_map) or settings.label_column != "label"
        header = all_columns(source.path, require_label=labelled, columns=source.columns)
        if shards is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock_folder(target.parent, inside=shards.pattern))
        else:
            stack.enter_context(lock_file(target))
        columns = image_header(header) if with_images and shards is None else header
        earlier = [target] if shards is None else shards.earlier()
        _check(target, shards, earlier, columns, source, overwrite=overwrite)
        read = _Rows(source, header, labelled, refuse=in_memory(rows) and not with_images)
        if shards is not None:
            paths = _write_shards(read, shards, per_shard)
            for path in earlier:
                if path not in paths:
                    remove_earlier(path)
        else:
            paths = [target]
            _write_table(read, target, with_images=with_images)
    return ConvertResult(read.count, read.count if with_images else 0, columns, paths)


def _per_shard(rows_per_shard: int | None, shards: ShardNames | None) -> int:
    """Return the rows of an archive; InputError where there are not several."""
    if rows_per_shard is None:
        return ROWS_PER_SHARD if shards is None or shards.several else MAX_PER_SHARD
    check_whole_number("rows_per_shard", rows_per_shard, 1, MAX_PER_SHARD)
    if shards is None or not shards.several:
        raise InputError(
            f"`rows_per_shard` goes with several archives; name {OPTION} as in shards/%05d.tar"
        )
    return rows_per_shard


def _check(
    target: Path,
    shards: ShardNames | None,
    earlier: Sequence[Path],
    columns: Sequence[str],
    source: RowSource,
    *,
    overwrite: bool,
) -> None:
    """Refuse to replace an input, and anything but what was converted from such rows."""
    paths = earlier or [target]
    check_outputs([(OPTION, path, None) for path in paths], rows_files(source.path))
    refuse_unasked(OPTION, paths, overwrite=overwrite)
    if shards is None:
        kind = exact_table("a table of such rows", lambda: columns)
    else:
        kind = shards.kind(columns)
    check_outputs([(OPTION, path, kind) for path in paths])


class _Rows:
    """Rows that are written while none of them has a problem."""

    def __init__(
        self, source: RowSource, header: Sequence[str], labelled: bool, *, refuse: bool
    ) -> None:
        """Take `refuse`: whether rows may not name images that are in memory."""
        self.source = source
        self.header = list(header)
        self.count = 0
        self._labelled = labelled
        self._refuse = refuse

    def values(self, row: Row) -> list[str]:
        """Return its values, in the order of the header."""
        return [row.columns.get(name, "") for name in self.header]

    def read(self, images: ImageBytes | None = None) -> Iterator[tuple[Row, bytes]]:
        """Yield each row, and its image where `images` are given. After the first problem the rest
        is only checked, then InputError says what was found.
        """
        columns = self.source.columns
        bad: list[Row] = []
        for row in read_rows(self.source.path, require_label=self._labelled, columns=columns):
            data = b""
            problem = row.problem
            if problem is None and images is not None:
                try:
                    data = images.read(columns.images(row.image_path))
                except ImageError as error:
                    problem = str(error)
            if self._refuse:
                paths = columns.images(row.image_path)
                check_image_is_file(self.source, paths, row, OPTION)
            if problem is not None:
                bad.append(row._replace(problem=problem, raw="", columns={}, text=""))
            elif not bad:
                self.count += 1
                yield row, data
        if bad:
            raise refusal(self.source.name, bad)
        if not self.count:
            raise InputError(f"{self.source.name}: there are no rows under the header")


def _write_table(rows: _Rows, target: Path, *, with_images: bool) -> None:
    if not with_images:
        with row_table(target, rows.header) as table:
            for row, _ in rows.read():
                table.writerow(rows.values(row))
        return
    with image_table(target, rows.header) as table:
        for row, data in rows.read(ImageBytes(rows.source.base)):
            table.add(rows.values(row), data)


def _write_shards(rows: _Rows, shards: ShardNames, per_shard: int) -> list[Path]:
    """Write archives of so many rows, all or none, and return their files."""
    read = rows.read(ImageBytes(rows.source.base, for_archives=True))
    paths: list[Path] = []
    with together() as names:
        row = next(read, None)
        while row is not None:
            path = shards.path(len(paths))
            paths.append(path)
            with shard_table(path, rows.header, names) as shard:
                while row is not None and shard.count < per_shard:
                    shard.add(rows.count, *row)
                    row = next(read, None)
    return paths
