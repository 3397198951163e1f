"""`mismatch convert`: see `mismatch.convert`."""

from __future__ import annotations

from typing import Any

import click

from mismatch.cli.options import ROW_OPTIONS, ROWS
from mismatch.cli.value_types import OutputFile
from mismatch.cli.verb import echo_result, flag, option, verb

__all__ = ["command"]


@verb(
    "Write rows in another format, with their images if asked.",
    option("--csv rows", ROWS, required=True),
    option("--output", OutputFile(), required=True),
    flag("--embed-images"),
    option("--rows-per-shard", click.IntRange(1), metavar="N"),
    flag("--overwrite"),
    flag("--json as_json"),
    *ROW_OPTIONS,
)
def command(as_json: bool, **options: Any) -> None:
    """Write rows image_path,text[,label] as CSV, TSV, JSON lines, Parquet or webdataset archives.

    All columns stay, and texts to the letter. Images are written where they are asked for, as
    their files are; else the output has their paths. Labels stay as they are written, and are
    checked where --label-column or --label-map is given. Exit 0: all rows are written; 2: nothing
    is.

    Options:
    --csv: Rows to read: any file or folder of rows.
    --output: .csv, .tsv, .jsonl, .parquet, .tar, or shards/%05d.tar for several archives.
    --embed-images: Put the images into the rows of .parquet; archives always hold them.
    --rows-per-shard: Rows of each of several archives.  [default: 10000]
    --overwrite: Replace what was converted earlier from rows with the same columns.
    --json: Print what was done as JSON.
    """
    from mismatch.jobs.convert import convert

    echo_result(convert(**options), as_json=as_json)
