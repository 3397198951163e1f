"""`mismatch explain`: see `mismatch.explain` and `mismatch.explain_rows`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli import options as shared
from mismatch.cli.value_types import Parsed
from mismatch.cli.verb import echo_json, flag, option, verb
from mismatch.io.text import names_folder

if TYPE_CHECKING:
    from mismatch.runtime.explanation import Explanation

__all__ = ["command"]

FILES = (".png", ".json")  # endings of --output that name a file; anything else is a folder


def _file_or_folder(word: str) -> Path:
    """Return a path; NAME.json/ would be a folder, and whether there is a slash is lost later."""
    if names_folder(word) and Path(word).suffix.lower() in FILES:
        raise ValueError(
            f"{word} names a folder, and {' and '.join(FILES)} are files; leave out what follows"
            " the name"
        )
    return Path(word)


@verb(
    "Which words don't fit, and where in the image that shows.",
    *shared.MODEL_OPTIONS,
    *shared.PAIR_OPTIONS,
    option("--csv rows", shared.ROWS),
    *shared.ROW_OPTIONS,
    option("--worst", click.IntRange(1), 10, metavar="N"),
    option("--output", Parsed("path", _file_or_folder)),
    flag("--json as_json"),
    flag("--no-heat-map"),
    flag("--no-lexicon"),
    shared.LEXICON,
    shared.THRESHOLD,
    shared.SLICE_VALUE,
    shared.LONG_TEXT,
)
def command(
    model: str,
    rows: Path | None,
    image: Path | None,
    text: str | None,
    slice_value: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say which words of a text don't fit its image (--image, --text), or those of the worst rows
    of a file (--csv).

    Each word and each phrase is left out once, and words of the lexicon (colours, materials,
    counts, …) are exchanged for others; the scores of all these texts say what each does. Words are
    named only where the model takes the pair for no match. For the heat map, parts of the image are
    covered. All of it is the model's view: it says what the score hangs on, not what is true.

    Options:
    --csv: Rows image_path,text, the worst of which are explained; with labels, the worst errors.
    --worst: How many rows of --csv.
    --output: NAME.png: a picture with the heat map (one pair); NAME.json: figures; any other name
        is a folder for both.
    --json: Print JSON.
    --no-heat-map: Look at words only, which takes one pass of the image instead of fifty.
    --no-lexicon: Don't try other words; which words are named does not depend on it.
    """
    from mismatch.jobs.explain_rows import explain_pair, explain_rows

    is_pair = image is not None or text is not None
    if is_pair == (rows is not None):
        raise click.UsageError(
            "give either --image and --text for one pair, or --csv for the worst rows of a file"
        )
    if is_pair:
        image_and_text = shared.check_pair(image, text, options)
        del options["worst"]
        pair = explain_pair(model, *image_and_text, slice_value=slice_value, **options)
        _show([(None, pair)], pair.to_dict() if as_json else None)
    else:
        shared.check_rows(slice_value)
        result = explain_rows(model, rows, **options)
        explanations = [(row.line, row.explanation) for row in result.explanations]
        _show(explanations, result.to_dict()["explanations"] if as_json else None)
    if options["output"] is not None:
        click.echo(f"written to {options['output']}", err=True)


def _show(explanations: Sequence[tuple[int | None, Explanation]], data: Any) -> None:
    """Print explanations: as JSON, where there is `data`, or for people."""
    if data is not None:
        echo_json(data)
        return
    from mismatch.reports.explanation_lines import explanations_text

    text = explanations_text(explanations, colour=sys.stdout.isatty())
    click.echo(text, nl=bool(explanations))
