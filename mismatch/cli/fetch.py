"""`mismatch fetch`: see `mismatch.fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mismatch.cli.options import ROW_OPTIONS, ROWS
from mismatch.cli.value_types import FiniteRange
from mismatch.cli.verb import echo_result, flag, option, verb

__all__ = ["command"]

NAMES = (
    "image_base_path",
    "image_column",
    "text_column",
    "multi_image",
    "encoding",
    "allow_outside_images",
    "fetch_networks",
)


@verb(
    "Fetch images that are URLs into a folder.",
    click.Argument(["rows"], metavar="CSV", type=ROWS),
    option("--output", click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR"),
    option("--seconds", FiniteRange(0.1, 3600), 30.0),
    option("--max-bytes", click.IntRange(1, 2**31), 2**25),
    option("--per-host", click.IntRange(1, 64), 32),
    flag("--revalidate"),
    *(param for param in ROW_OPTIONS if param.name in NAMES),
    flag("--json as_json"),
)
def command(rows: Path, as_json: bool, **options: Any) -> None:
    """Fetch the images of rows image_path,text whose image_path is a URL, http or https.

    The folder gets images/, CSV's rows with all columns and paths in it (the URL becomes
    image_url), and CSV's name.failed.csv with the reason for each row whose image could not be
    had. Identical URLs are fetched once, and what the folder has is not fetched again: run the
    command again to go on, or to try failed rows again. Then give the folder as --image-base-path.
    Exit 0: some rows are ready; 2: none is.

    Options:
    --output: New folder, or one that this command has written.
    --seconds: For one try of an image; several follow where that may help.
    --max-bytes: Of one image.
    --per-host: Requests to one host at a time.
    --revalidate: Ask hosts whether images that are there have changed.
    --json: Print what was done as JSON.
    """
    from mismatch.jobs.fetch import fetch

    echo_result(fetch(rows, **options), as_json=as_json)
