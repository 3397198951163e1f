"""Images of rows that are URLs, fetched beforehand: a folder of images, and rows that name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mismatch.data.columns import SEPARATOR, MultiImage, resolve_image
from mismatch.data.pairs import all_columns, read_rows, rows_files
from mismatch.data.readers.memory import RowsLike
from mismatch.data.rows import Row
from mismatch.errors import ImageError, InputError
from mismatch.io.atomic import together
from mismatch.io.outputs import check_outputs
from mismatch.io.remote import Remote
from mismatch.io.web_images import WebImage, fetched_by
from mismatch.jobs.fetching import fetch_rows_ahead
from mismatch.jobs.locking import lock_folder
from mismatch.jobs.memory_rows import in_memory
from mismatch.jobs.options import RowSettings, RowSource, open_rows
from mismatch.jobs.results import Result
from mismatch.jobs.row_tables import rejected_header, rejected_values, row_table
from mismatch.jobs.table_kinds import exact_table
from mismatch.jobs.value_checks import check_number, check_whole_number, checked
from mismatch.progress import progress
from mismatch.runtime.fetched_folder import FetchedFolder
from mismatch.runtime.image_fetcher import FetchLimits, ImageFetcher, check_networks
from mismatch.runtime.open_image import open_image_file

_LocalName = Callable[[Path | Remote], str]  # an image → its name below the folder

__all__ = ["FetchResult", "fetch"]

OPTION = "`output`"
URL_COLUMN = "image_url"
MAX_PER_HOST = 64
LONGEST = 3_600.0  # seconds
MAX_BYTES = 2**31
DEFAULTS = FetchLimits()


@dataclass(frozen=True)
class FetchResult(Result):
    """What was fetched, and where the rows are.

    `output`: the folder, as given.
    `rows_path`: the rows whose images are there, with paths relative to the folder.
    `failed_path`: the other rows, each with the reason; None where there are none.
    `rows`: rows of the input.
    `ready`: rows of `rows_path`.
    `failed`: rows - ready.
    `fetched`: images that came now.
    `unchanged`: images of which their host said that they are as they were.
    """

    output: str
    rows_path: str
    failed_path: str | None
    rows: int
    ready: int
    failed: int
    fetched: int
    unchanged: int

    def summary(self) -> list[str]:
        """Return the lines of the command: how many rows are ready, and how many are not."""
        came = f"{self.fetched:,} images fetched now"
        if self.unchanged:
            came += f", {self.unchanged:,} unchanged"
        lines = [f"{self.ready:,} rows ready → {self.rows_path} ({came})"]
        if self.failed_path is not None:
            lines.append(f"{self.failed:,} rows failed → {self.failed_path}, with the reason")
        return lines


@checked
def fetch(
    rows: RowsLike,
    output: str | Path,
    *,
    seconds: float = DEFAULTS.seconds,
    max_bytes: int = DEFAULTS.max_bytes,
    per_host: int = DEFAULTS.per_host,
    revalidate: bool = False,
    image_base_path: str | Path = "",
    image_column: str = "image_path",
    text_column: str = "text",
    multi_image: MultiImage | None = None,
    encoding: str | None = None,
    allow_outside_images: bool = False,
    fetch_networks: Sequence[str] = (),
) -> FetchResult:
    """Fetch the images of rows, http or https, into a folder, and write rows that name them there.

    `output`: a new folder, or one of an earlier call: what it has is not fetched again, so a call
    that was cut short goes on, and failed rows are tried again. It gets images/, NAME.csv for rows
    of NAME (`rows.csv` for rows in memory) with all columns and the URL as `image_url`, and
    NAME.failed.csv. Images that are files already are copied. Read the rows with the folder as
    `image_base_path`; it is a `fetch_cache` too.

    `seconds`: for one try of an image; `max_bytes`: of it; `per_host`: requests to one host at a
    time. `revalidate`: ask hosts whether images that are there have changed. `fetch_networks`:
    private networks in which hosts may lie, as 10.0.0.0/8. The others say how rows are read.

    Raises InputError for rows that can't be read, and where no row is ready; CheckpointError for a
    folder that holds other things.
    """
    check_number("seconds", seconds, 0.1, LONGEST)
    check_whole_number("max_bytes", max_bytes, 1, MAX_BYTES)
    check_whole_number("per_host", per_host, 1, MAX_PER_HOST)
    check_networks(fetch_networks)
    settings = RowSettings(
        image_base_path=image_base_path,
        image_column=image_column,
        text_column=text_column,
        multi_image=multi_image,
        encoding=encoding,
        allow_outside_images=allow_outside_images,
    )
    name = "rows" if in_memory(rows) else Path(str(rows)).stem
    with ExitStack() as stack:
        target = _Target.of(Path(output), name)
        stack.enter_context(lock_folder(output, inside=target.tables))
        folder = FetchedFolder(output, OPTION)
        fetcher = ImageFetcher(
            folder,
            networks=tuple(fetch_networks),
            limits=FetchLimits(per_host, seconds, max_bytes),
            revalidate=revalidate,
        )
        stack.enter_context(closing(fetcher))
        stack.enter_context(fetched_by(fetcher))
        source = stack.enter_context(open_rows(rows, settings, ahead=False))
        header = all_columns(source.path, require_label=False, columns=source.columns)
        target.check(header, source)
        fetch_rows_ahead(source.path, source.columns)
        counts = _write(source, header, target, partial(_local_name, fetcher, max_bytes))
    result = FetchResult(
        output=str(output),
        rows_path=str(target.ready),
        failed_path=str(target.failed) if counts.failed else None,
        rows=counts.ready + counts.failed,
        ready=counts.ready,
        failed=counts.failed,
        fetched=fetcher.counts.fetched,
        unchanged=fetcher.counts.unchanged,
    )
    if not result.ready:
        raise InputError(
            f"{source.name}: not one of its {result.rows:,} rows has an image that could be had;"
            f" {target.failed} says why"
        )
    return result


@dataclass(frozen=True)
class _Target:
    """The tables of the folder."""

    ready: Path
    failed: Path
    tables: re.Pattern[str]  # their names

    @classmethod
    def of(cls, folder: Path, name: str) -> _Target:
        """Return those for rows of this name."""
        names = (f"{name}.csv", f"{name}.failed.csv")
        pattern = re.compile("|".join(map(re.escape, names)))
        return cls(folder / names[0], folder / names[1], pattern)

    def check(self, header: Sequence[str], source: RowSource) -> None:
        """Refuse to replace what no call with such rows wrote."""
        ready = exact_table("a table of fetched rows", lambda: _with_url(header))
        failed = exact_table("a table of rows that failed", lambda: rejected_header(header))
        inputs = rows_files(source.path)
        check_outputs([(OPTION, self.ready, ready), (OPTION, self.failed, failed)], inputs)


@dataclass
class _Counts:
    ready: int = 0
    failed: int = 0


class _Names:
    """The names of a row's images below the folder."""

    def __init__(self, source: RowSource, local_name: _LocalName) -> None:
        self._source = source
        self._local_name = local_name

    def of(self, row: Row) -> str:
        """Return a row's image_path; ImageError for an image that can't be had."""
        paths = self._source.columns.images(row.image_path)
        names = [self._local_name(resolve_image(self._source.base, path)) for path in paths]
        return SEPARATOR.join(names)


def _write(
    source: RowSource, header: Sequence[str], target: _Target, local_name: _LocalName
) -> _Counts:
    """Write both tables, or none of them; rows in the order in which they stand."""
    counts = _Counts()
    names_of = _Names(source, local_name)
    with together() as names, ExitStack() as stack, progress("fetch", unit="row") as advance:
        ready = stack.enter_context(row_table(target.ready, _with_url(header), names=names))
        failed = None
        for row in _rows(source):
            reason = row.problem
            path = ""
            if reason is None:
                try:
                    path = names_of.of(row)
                except ImageError as error:
                    reason = str(error)
            if reason is None:
                values = row.columns | {"image_path": path}
                ready.writerow([*(values.get(name, "") for name in header), row.image_path])
                counts.ready += 1
            else:
                if failed is None:
                    table = row_table(target.failed, rejected_header(header), names=names)
                    failed = stack.enter_context(table)
                failed.writerow(rejected_values(row, header, reason))
                counts.failed += 1
            advance(1)
    if failed is None:
        target.failed.unlink(missing_ok=True)  # of an earlier call, whose rows are ready now
    return counts


def _rows(source: RowSource) -> Iterator[Row]:
    return read_rows(source.path, require_label=False, columns=source.columns)


def _with_url(header: Sequence[str]) -> list[str]:
    """Return the columns with one more for the URL, of which the rows have none yet."""
    name = URL_COLUMN
    while name in header:
        name = f"fetched_{name}"
    return [*header, name]


def _local_name(fetcher: ImageFetcher, max_bytes: int, image: Path | Remote) -> str:
    """Return the name of an image below the folder, where it is then. ImageError where it can't
    be had.
    """
    if isinstance(image, WebImage):
        return fetcher.entry(str(image)).name
    with open_image_file(image) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageError(f"image '{image}' has more than {max_bytes:,} bytes; make it smaller")
    return fetcher.folder.keep(data)
