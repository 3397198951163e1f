"""`mismatch benchmark`: how fast a model is on this machine, and how several compare."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.options import MODEL_ENV, provider_option, row_options, threads_option
from mismatch.cli.output_file import OutputFile
from mismatch.cli.parts import hold
from mismatch.cli.progress import progress_bar
from mismatch.data.pairs import Columns, one_image_each, read_rows, rows_files
from mismatch.errors import CheckpointError, InputError
from mismatch.outputs import check_outputs, json_report

if TYPE_CHECKING:
    from mismatch.data.pairs import Row

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
    """One name, whatever is in it: click would split it."""
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
    "csv_file",
    type=click.Path(path_type=Path),
    help="Rows image_path,text, to measure the whole job too.",
)
@row_options
@click.option(
    "--rows",
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
def command(
    models: tuple[str, ...],
    csv_file: Path | None,
    image_base_path: str,
    columns: Columns,
    rows: int,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Measure models: each tower, one pair, a whole job (--csv) and the start of a new process.

    Several models are loaded at once and take turns. Each table has a ratio to the first one's
    figure: above 1 is faster where the unit is items or pairs a second, and slower or larger
    elsewhere. Other work on the machine moves all figures.
    """
    if image_base_path and csv_file is None:
        raise click.UsageError("--image-base-path goes with --csv")
    _check_target(json_file, csv_file)
    if json_file is not None:
        hold(json_file)
    # a wrong file is refused before a model is loaded
    job = () if csv_file is None else _read_rows(csv_file, columns, rows)
    import mismatch
    from mismatch.evaluation.speed import Contender, Plan, measure, turns
    from mismatch.files import write_json

    contenders = [
        Contender(model, mismatch.load(model, options["provider"], options["threads"]))
        for model in models
    ]
    plan = Plan(rows=job, csv=str(csv_file or ""), image_base_path=image_base_path, **options)
    with progress_bar("benchmark", turns(len(contenders), plan), unit="turn") as advance:
        results = measure(contenders, plan, advance)
    click.echo(report(results))
    if json_file is not None:
        write_json(json_file, results)


def _check_target(json_file: Path | None, csv_file: Path | None) -> None:
    """Minutes of measuring are not to end in a wrong name."""
    if json_file is not None:
        inputs = [] if csv_file is None else rows_files(csv_file)
        check_outputs(
            [("--json", json_file, json_report("a benchmark", ("machine", "models", "settings")))],
            inputs,
        )
    if json_file is not None and (json_file.is_dir() or not json_file.absolute().parent.is_dir()):
        raise CheckpointError(
            f"--json {json_file} can't be written:"
            f" {'it is a folder' if json_file.is_dir() else 'its folder does not exist'}"
        )


def _read_rows(csv_file: Path, columns: Columns, most: int) -> tuple[Row, ...]:
    """A row of several images is as many here."""
    found = islice(read_rows(csv_file, require_label=False, columns=columns), most)
    rows = tuple(one for row in found for one in one_image_each(row, columns))
    if not rows:
        raise InputError(f"{csv_file}: there are no rows under the header; nothing to measure")
    return rows


def report(results: dict[str, Any]) -> str:
    """What `measure` found as Markdown."""
    machine = results["machine"]
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
        for one in results["models"]
    ]
    letters = [one["letter"] for one in results["models"]]
    for table in results["tables"]:
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
    """Three digits, or all before the point."""
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
