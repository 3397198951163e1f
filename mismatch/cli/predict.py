"""`mismatch predict`: one pair as a box, or many rows as a table; see `mismatch.predict_file`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mismatch.cli import options as shared
from mismatch.cli.verb import choice, echo_lines, flag, option, verb
from mismatch.io.remote import Remote

__all__ = ["command"]

STANDARD_OUTPUT = "-"
MANY = ("keep_columns", "safe_csv", "resume", "cache", "shard", "sort", "top")
RAY = ("actors", "ray_address", "block_rows")  # one pair has no use for these


@verb(
    "Score one pair, a CSV of pairs, or a folder.",
    *shared.MODEL_OPTIONS,
    *shared.PAIR_OPTIONS,
    option("--csv rows", shared.LOCATION),
    option("--images", shared.PATH, metavar="DIR"),
    option("--titles", shared.PATH, metavar="FILE"),
    *shared.FETCHING_ROW_OPTIONS,
    option("--output", default=STANDARD_OUTPUT),
    flag("--resume"),
    option("--cache", click.Path(path_type=Path, file_okay=False), metavar="DIR"),
    option("--shard", metavar="I/N"),
    choice("--sort", ["score"]),
    option("--top", click.IntRange(1), metavar="N"),
    shared.THRESHOLD,
    shared.REVIEW_BAND,
    shared.SLICE_VALUE,
    shared.LONG_TEXT,
    *shared.SPREAD_OPTIONS,
    shared.SAFE_CSV,
    flag("--keep-columns"),
)
def command(
    model: str,
    rows: Path | Remote | None,
    image: Path | None,
    text: str | None,
    slice_value: str | None,
    output: str,
    **options: Any,
) -> None:
    """Score one pair (--image, --text), a CSV of pairs (--csv) or a folder of images with titles
    (--images).

    Options:
    --csv: Rows image_path,text; also TSV, JSONL, Parquet, Arrow, webdataset, a datasets folder;
        images may stand in the rows. A path, or a URL: s3://, gs://, abfs://.
    --images: Folder of images; --titles says what they show, or a .txt next to each.
    --titles: CSV with columns image_path,text or file,title, or lines NAME, tab, TITLE; names below
        --images.
    --output: Table to write: NAME.tsv is TSV, NAME.jsonl JSON lines, NAME.parquet Parquet, any
        other name CSV (.xlsx, .gz and other formats' endings are refused); - is CSV on standard
        output.
    --resume: Go on with an --output that was cut short, CSV or JSON lines; it ends the same to the
        byte.
    --cache: Folder of embeddings: only images and texts that it lacks are encoded.
        [default: none]
    --shard: Score every N-th row, from row I on: 1/4 to 4/4 together are all rows, each once.
    --sort: Lowest score first, ties in the rows' order, rows without a score last. All rows are
        held in memory; with --top only N.
    --top: Only the N rows that --sort score puts first, which it implies.
    --keep-columns: Copy the CSV's other columns behind the scores, a `status` as `input_status`.
    """
    is_pair = image is not None or text is not None
    if (is_pair, rows is not None, options["images"] is not None).count(True) != 1:
        raise click.UsageError(
            "give either --image and --text for one pair, or --csv or --images for many"
        )
    if is_pair:
        _check(output, options)
        pair = shared.check_pair(image, text, options)
        _predict_pair(model, pair, slice_value, options)
        return
    shared.check_rows(slice_value)
    from mismatch.jobs.predict_file import predict_file

    result = predict_file(model, rows, output, **options)
    echo_lines(result.summary(), err=True)


def _check(output: str, options: dict[str, Any]) -> None:
    """Raise UsageError for options that don't go with one pair, before a model is loaded."""
    if options["titles"] is not None:
        raise click.UsageError("--titles goes with --images, the folder in which its names lie")
    if options["engine"] == "ray":
        raise click.UsageError("--engine ray goes with --csv and --images")
    if any(options[name] for name in MANY) or output != STANDARD_OUTPUT:
        names = ", ".join(f"--{name}" for name in MANY).replace("_", "-")
        raise click.UsageError(f"--output, {names} go with --csv and --images; one pair is printed")


def _predict_pair(
    model: str, pair: tuple[Path, str], slice_value: str | None, options: dict[str, Any]
) -> None:
    from mismatch.jobs.predict_pair import predict_pair

    for name in (*MANY, *RAY, "engine", "images", "titles"):
        del options[name]
    result = predict_pair(model, *pair, slice_value=slice_value, **options)
    click.echo("\n".join(result.summary()))
    if result.note is not None:
        echo_lines([result.note], err=True)
