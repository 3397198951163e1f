"""`mismatch benchmark`: see `mismatch.benchmark`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.options import MODEL_ENV, job_row_options, provider_option, threads_option
from mismatch.cli.output_file import OutputFile

if TYPE_CHECKING:
    from mismatch.jobs.benchmark import BenchmarkResult

__all__ = ["command", "report"]

LARGEST_BATCH = 4096  # 2.5 GB of pixels at 224 a side


def _batch_sizes(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    words = [word.strip() for word in value.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= LARGEST_BATCH for word in words):
        raise click.BadParameter(
            f"{value!r}; whole numbers from 1 to {LARGEST_BATCH} with commas between them are"
            " needed, for example 1,16"
        )
    return tuple(dict.fromkeys(map(int, words)))


def _model_of_environment() -> tuple[str, ...]:
    """Return one name, whatever is in it: click would split it."""
    value = os.environ.get(MODEL_ENV)
    return (value,) if value else ()


@click.command(short_help="Measure how fast models are on this machine.")
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    default=_model_of_environment,
    metavar="DIR",
    help=(
        "Folder of a trained model or an ONNX bundle, or FAMILY:MODEL; again for each model to"
        f" compare.  [default: ${MODEL_ENV}]"
    ),
)
@click.option(
    "--csv",
    "rows",
    type=click.Path(path_type=Path),
    help="Rows image_path,text, to measure the whole job too.",
)
@job_row_options
@click.option(
    "--rows",
    "max_rows",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Rows of --csv to score, from its start.",
)
@click.option(
    "--batch-sizes",
    default="1,4,16,64",
    show_default=True,
    callback=_batch_sizes,
    help="Items a tower call.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Turns of each model, after one to warm up; medians count.",
)
@threads_option
@provider_option
@click.option("--json", "json_file", type=OutputFile(), help="Write the figures to this file too.")
def command(models: tuple[str, ...], rows: Path | None, **options: Any) -> None:
    """Measure models: each tower, one pair, a whole job (--csv) and the start of a new process.

    Several models are loaded at once and take turns. Each table has a ratio to the first one's
    figure: above 1 is faster where the unit is items or pairs a second, and slower or larger
    elsewhere. Other work on the machine moves all figures.
    """
    from mismatch.jobs.benchmark import benchmark

    def show(result: BenchmarkResult) -> None:
        click.echo(report(result))

    benchmark(models, rows, before_storing=show, **options)


def report(result: BenchmarkResult) -> str:
    """Return the figures as Markdown."""
    machine = result.machine
    parts = [
        machine["cpu"],
        " ".join(machine["instructions"]),
        f"{machine['cpus']} CPUs available",
        f"Python {machine['python']}",
    ]
    lines = [f"- machine: {', '.join(part for part in parts if part)}"]
    lines += [
        f"- {one['letter']}: {one['model']};"
        f" {', '.join(f'{key} {value}' for key, value in one['engine'].items())}"
        for one in result.models
    ]
    letters = [one["letter"] for one in result.models]
    for table in result.tables:
        lines += ["", table["name"], "", *_table(table, letters)]
    return "\n".join(lines)


def _table(table: dict[str, Any], letters: list[str]) -> Iterator[str]:
    first, *others = letters
    unit = f", {table['unit']}" if table["unit"] else ""
    header = [
        table["case"],
        *(f"{letter}{unit}" for letter in letters),
        *(f"{letter} / {first}" for letter in others),
    ]
    yield _line(header)
    yield "|" + "---|" * len(header)
    for row in table["rows"]:
        yield _line(
            [
                row["case"],
                *map(_number, row["figures"]),
                *("–" if ratio is None else f"{ratio:.2f}" for ratio in row["ratios"][1:]),
            ]
        )


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    """Return three digits, or all before the point."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
