"""One pair on a command line: an image and a text in place of a file of rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mismatch.cli.options import PATH
from mismatch.cli.verb import described, option

__all__ = ["PAIR_OPTIONS", "SLICE_VALUE", "check_pair", "check_rows"]

# options of rows, as they are where one pair is meant
PLAIN = {
    "image_column": "image_path",
    "text_column": "text",
    "label_column": "label",
    "label_map": "",
    "multi_image": None,
}
*PAIR_OPTIONS, SLICE_VALUE = described(
    """
    --image: One image; goes with --text.
    --text: One text; goes with --image.
    --slice-value: One pair's value in the column by which the model has thresholds; rows have
        the column.
    """,
    option("--image", PATH),
    option("--text"),
    option("--slice-value", metavar="VALUE"),
)


def check_pair(
    image: Path | None, text: str | None, options: Mapping[str, Any]
) -> tuple[Path, str]:
    """Return the image and the text; UsageError, before a model is loaded, where one is missing, or
    for options that don't go with one pair.
    """
    if image is None or text is None:
        missing = "image" if image is None else "text"
        raise click.UsageError(f"--image and --text go together; --{missing} is missing")
    if any(options[name] != default for name, default in PLAIN.items()):
        raise click.UsageError(
            "--image-column, --text-column, --label-column, --label-map and --multi-image go with"
            " --csv"
        )
    return image, text


def check_rows(slice_value: str | None) -> None:
    """Raise UsageError for an option that goes with one pair only."""
    if slice_value is not None:
        raise click.UsageError("--slice-value goes with --image and --text; rows have a column")
