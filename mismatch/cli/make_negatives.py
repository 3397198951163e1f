"""`mismatch make-negatives`: see `mismatch.make_negatives`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mismatch.cli.options import LEXICON, PICTURE_OPTIONS, ROW_OPTIONS, ROWS
from mismatch.cli.value_types import SEED, OutputFile
from mismatch.cli.verb import echo_lines, flag, option, verb

__all__ = ["command"]


@verb(
    "Make mismatches from matching pairs.",
    click.Argument(["rows"], metavar="CSV", type=ROWS),
    option("--output", OutputFile(), required=True),
    flag("--overwrite"),
    option("--kinds", default="random=0.5,hard=0.3,attribute=0.2", metavar="SHARES"),
    option("--per-positive", click.IntRange(1, 20), 1),
    LEXICON,
    option("--backbone", metavar="FAMILY[:MODEL]"),
    option("--seed", SEED, 0),
    *PICTURE_OPTIONS,
    *ROW_OPTIONS,
)
def command(rows: Path, **options: Any) -> None:
    """Make a labelled set from a file of matching pairs image_path,text (rows labelled 0 are left
    out).

    Never a text that fits the image too: of a near-duplicate image, or one that says much the same.
    Doubtful ones, whose text may fit, go to NAME.doubtful.csv next to the output. Rows exchange
    texts or words, so that the labels can't be told from the texts alone; how well they can is
    reported as blind AUROC. Split first, then make mismatches in each part.

    Options:
    --output: Matches and mismatches, with a column `kind`: .csv, .tsv, .jsonl, .parquet.
    --overwrite: Replace an --output that was made earlier from rows with the same columns.
    --kinds: random: another row's text; hard: one much like the own; attribute: the own with a
        colour, material, count, … exchanged.
    --per-positive: Mismatches for each match.
    --backbone: Take this backbone's embeddings of the texts for hard mismatches, and of the images
        against texts that fit them too.  [default: words alone]
    --seed: Another seed makes other mismatches.
    """
    from mismatch.jobs.make_negatives import make_negatives

    echo_lines(make_negatives(rows, **options).summary())
