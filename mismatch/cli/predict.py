"""`mismatch predict`: one pair as a box, or many rows as a table of scores, see
`mismatch.predict_file`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.flags import with_flags
from mismatch.cli.options import (
    LocationType,
    fetching_row_options,
    long_text_option,
    model_options,
    review_band_option,
    safe_csv_option,
    shard_option,
    spread_options,
)
from mismatch.errors import CheckpointError
from mismatch.io.remote import Remote, located

if TYPE_CHECKING:
    from mismatch.runtime.predictor import Prediction

__all__ = ["box", "command"]

RULE = "=" * 50
STANDARD_OUTPUT = "-"
# options that one pair has no use for
MANY = ("keep_columns", "safe_csv", "resume", "cache", "shard", "sort", "top")
# options of one pair alone
PLAIN = {  # options of rows, as they are where one pair is scored
    "image_column": "image_path",
    "text_column": "text",
    "label_column": "label",
    "label_map": "",
    "multi_image": None,
}
OF_ONE = ("image", "text", "slice_value")


@click.command(short_help="Score one pair, a CSV of pairs, or a folder.")
@model_options
@click.option("--image", type=click.Path(path_type=Path), help="One image; goes with --text.")
@click.option("--text", help="One text; goes with --image.")
@click.option(
    "--csv",
    "rows",
    type=LocationType(),
    help=(
        "Rows image_path,text; also TSV, JSONL, Parquet, a datasets folder. A path, or a URL:"
        " s3://, gs://, abfs://."
    ),
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of images; --titles says what they show, or a .txt beside each.",
)
@click.option(
    "--titles",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=(
        "CSV with columns image_path,text or file,title, or lines NAME, tab, TITLE; names below"
        " --images."
    ),
)
@fetching_row_options
@click.option(
    "--output",
    default=STANDARD_OUTPUT,
    show_default=True,
    help=(
        "Table to write: NAME.tsv is TSV, NAME.jsonl JSON lines, NAME.parquet Parquet, any other"
        " name CSV; - is CSV on standard output."
    ),
)
@click.option(
    "--resume",
    is_flag=True,
    help=(
        "Go on with an --output that was cut short, CSV or JSON lines; it ends the same to the"
        " byte."
    ),
)
@click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of embeddings: only images and texts that it lacks are encoded.  [default: none]",
)
@shard_option
@click.option(
    "--sort",
    type=click.Choice(["score"]),
    help=(
        "Lowest score first, ties in the rows' order, rows without a score last. All rows are held"
        " in memory; with --top only N."
    ),
)
@click.option(
    "--top",
    metavar="N",
    type=click.IntRange(1),
    help="Only the N rows that --sort score puts first, which it implies.",
)
@click.option(
    "--threshold",
    type=float,
    help="Score from which a pair is a match.  [default: the model's own]",
)
@review_band_option
@click.option(
    "--slice-value",
    metavar="VALUE",
    help="Of one pair, in the column by which the model has thresholds; rows have the column.",
)
@long_text_option
@spread_options
@safe_csv_option
@click.option(
    "--keep-columns",
    is_flag=True,
    help="Copy the CSV's other columns behind the scores, a `status` as `input_status`.",
)
def command(model: str, rows: Path | Remote | None, output: str, **options: Any) -> None:
    """Score one pair (--image, --text), a CSV of pairs (--csv) or a folder of images with titles
    (--images).
    """
    one = options["image"] is not None or options["text"] is not None
    if (one, rows is not None, options["images"] is not None).count(True) != 1:
        raise click.UsageError(
            "give either --image and --text for one pair, or --csv or --images for many"
        )
    if one:
        _check_pair(output, options)
        _predict_one(model, options)
        return
    if options["slice_value"] is not None:
        raise click.UsageError(
            "--slice-value goes with --image and --text; rows have their value in a column"
        )
    from mismatch.jobs.predict_file import predict_file, summary_line

    for name in OF_ONE:
        del options[name]
    result = predict_file(model, rows, output, **options)
    for line in (summary_line(result, options["top"]), *result.notes):
        click.echo(with_flags(line, click.get_current_context().command), err=True)


def _check_pair(output: str, options: dict[str, Any]) -> None:
    """Raise UsageError for options that don't go with one pair, before a model is loaded."""
    if options["titles"] is not None:
        raise click.UsageError(
            "--titles goes with --images, the folder that its names are relative to"
        )
    if any(options[name] != default for name, default in PLAIN.items()):
        raise click.UsageError(
            "--image-column, --text-column, --label-column, --label-map and --multi-image go with"
            " --csv"
        )
    missing = [name for name in ("image", "text") if options[name] is None]
    if missing:
        raise click.UsageError(f"--image and --text go together; --{missing[0]} is missing")
    if options["engine"] == "ray":
        raise click.UsageError("--engine ray goes with --csv and --images")
    if any(options[name] for name in MANY) or output != STANDARD_OUTPUT:
        names = ", ".join(f"--{name}" for name in MANY).replace("_", "-")
        raise click.UsageError(f"--output, {names} go with --csv and --images; one pair is printed")


def _predict_one(model: str, options: dict[str, Any]) -> None:
    from mismatch.data.columns import locate_image
    from mismatch.jobs.long_texts import long_texts_note
    from mismatch.jobs.options import MODEL_DEFAULTS, isolated_decoding, open_predictor
    from mismatch.runtime.text_tower import TextCounts

    image = locate_image(located(options["image_base_path"]), str(options["image"]))
    counts = TextCounts()
    with isolated_decoding(options["isolate_decoding"]):
        predictor = open_predictor(
            model,
            {name: options[name] for name in MODEL_DEFAULTS},
            threshold=options["threshold"],
            review_band=options["review_band"],
            long_text=options["long_text"],
        )
        result = predictor.predict(
            image, options["text"], slice_value=options["slice_value"], counts=counts
        )
    if result.similarity_score is None:
        raise CheckpointError(f"{model}: {result.status}")
    click.echo(box(result))
    note = long_texts_note(predictor, counts.long_texts)
    if note is not None:
        click.echo(with_flags(note, click.get_current_context().command), err=True)


def box(result: Prediction) -> str:
    """Return a prediction for people; programs read the CSV."""
    lines = [
        RULE,
        "CLIP Mismatch Detection Result",
        RULE,
        f"Image: {result.image_path}",
        f"Text: {result.text}",
        f"Similarity Score: {result.similarity_score:.4f}",
        f"Threshold: {_short(result.threshold)}",
        f"Prediction: {result.prediction.upper()}",
        f"Is Match: {result.is_match}",
        RULE,
    ]
    return "\n".join(lines)


def _short(value: float) -> str:
    """Return at most four decimals, no trailing zeros: 0.25."""
    return f"{value:.4f}".rstrip("0").removesuffix(".")
