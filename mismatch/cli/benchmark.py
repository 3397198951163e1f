"""`mismatch benchmark`: see `mismatch.benchmark`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from mismatch.cli.options import MODEL_ENV, PROVIDER, ROW_OPTIONS, ROWS, THREADS_OPTION
from mismatch.cli.value_types import OutputFile, Parsed
from mismatch.cli.verb import echo_result, option, verb

__all__ = ["command"]

LARGEST_BATCH = 4096  # 2.5 GB of pixels at 224 a side


def _batch_sizes(word: str) -> tuple[int, ...]:
    sizes = [size.strip() for size in word.split(",")]
    if not all(size.isdecimal() and 1 <= int(size) <= LARGEST_BATCH for size in sizes):
        raise ValueError(
            f"{word!r}; whole numbers from 1 to {LARGEST_BATCH} with commas between them are"
            " needed, for example 1,16"
        )
    return tuple(dict.fromkeys(map(int, sizes)))


def _model_of_environment() -> tuple[str, ...]:
    """Return one name, whatever is in it: click would split it."""
    value = os.environ.get(MODEL_ENV)
    return (value,) if value else ()


FROM_ENVIRONMENT: dict[str, Any] = {"default": _model_of_environment, "show_default": False}


@verb(
    "Measure how fast models are on this machine.",
    option("--model models", multiple=True, required=True, metavar="DIR", **FROM_ENVIRONMENT),
    option("--csv rows", ROWS),
    *ROW_OPTIONS,
    option("--rows max_rows", click.IntRange(1), 256),
    option("--batch-sizes", Parsed("text", _batch_sizes), "1,4,16,64"),
    option("--repeats", click.IntRange(1), 5),
    THREADS_OPTION,
    PROVIDER,
    option("--json json_file", OutputFile()),
)
def command(models: tuple[str, ...], rows: Path | None, **options: Any) -> None:
    """Measure models: each tower, one pair, a whole job (--csv) and the start of a new process.

    Several models are loaded at once and take turns. Each table has a ratio to the first one's
    figure: above 1 is faster where the unit is items or pairs a second, and slower or larger
    elsewhere. Other work on the machine moves all figures.

    Options:
    --model: Folder of a trained model or an ONNX bundle, or FAMILY:MODEL; again for each model to
        compare.  [default: $CLIP_FINE_TUNED_MODEL_PATH]
    --csv: Rows image_path,text, to measure the whole job too.
    --rows: Rows of --csv to score, from its start.
    --batch-sizes: Items a tower call.
    --repeats: Turns of each model, after one to warm up; medians count.
    --json: Write the figures to this file too.
    """
    from mismatch.jobs.benchmark import benchmark

    benchmark(models, rows, before_storing=echo_result, **options)
