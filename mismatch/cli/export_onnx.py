"""`mismatch export-onnx`: a trained model as a bundle that needs no torch, written only if it
agrees with torch.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mismatch.cli.number_types import THREADS, FiniteRange
from mismatch.cli.options import model_option, row_options
from mismatch.cli.progress import progress_bar
from mismatch.data.columns import Columns
from mismatch.errors import CheckpointError, MissingExtraError
from mismatch.outputs import refuse_model_folder

if TYPE_CHECKING:
    from mismatch.data.rows import Row
    from mismatch.export.gate import Verdict
    from mismatch.runtime.pipeline import Pair

__all__ = ["command"]


@click.command(short_help="Write a trained model as ONNX, compared with torch.")
@model_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder of the bundle; an older bundle there is replaced.  [required, but with a bundle]",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help=(
        "int8: several times as fast on CPUs, if --verify-csv shows that decisions stay; fp16: for"
        " GPUs; auto: int8, or fp16 with --provider cuda, where decisions stay, else fp32."
    ),
)
@click.option(
    "--verify-csv",
    type=click.Path(path_type=Path),
    help=(
        "Rows image_path,text that torch and the bundle score; int8 fits calibration and threshold"
        " to their labels.  [default: built-in images and texts]"
    ),
)
@row_options
@click.option(
    "--verify-rows",
    type=click.IntRange(1),
    default=2000,
    show_default=True,
    help="Rows of --verify-csv to compare, from its start.",
)
@click.option(
    "--max-score-difference",
    type=FiniteRange(0, 1),
    default=1e-4,
    show_default=True,
    help="In fp32; beyond it the export is refused.",
)
@click.option(
    "--max-auroc-loss",
    type=FiniteRange(0, 1),
    default=0.005,
    show_default=True,
    help="In int8, fp16; beyond it fewer layers are in int8, or it is refused.",
)
@click.option(
    "--max-flips",
    type=FiniteRange(0, 1),
    default=0.01,
    show_default=True,
    help="In int8, fp16: share of decisions that may flip; likewise.",
)
@click.option(
    "--provider",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the bundle runs for the comparison.",
)
@click.option(
    "--threads", type=THREADS, help="Threads for the comparison.  [default: torch's own choice]"
)
@click.option(
    "--triton",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=(
        "Write the bundle as a model repository for Triton Inference Server too; with a bundle as"
        " --model, that alone."
    ),
)
def command(
    model: str,
    output: Path | None,
    verify_csv: Path | None,
    image_base_path: str,
    columns: Columns,
    verify_rows: int,
    threads: int | None,
    triton: Path | None,
    **options: Any,
) -> None:
    """Write a trained model as ONNX: two encoders, a head, a tokenizer and a manifest.

    Torch and the new bundle score the same pairs first. Beyond the tolerance, or with a flipped
    decision, nothing is written. In int8 and fp16 scores differ a little: there the rows of
    --verify-csv decide, by how well they are ranked and how many decisions flip; what is too costly
    is tried with fewer layers in int8.
    """
    if _is_bundle(model):
        _only_for_triton(model, output, triton)
        return
    if output is None:
        raise click.UsageError("--output is missing: the folder of the bundle")
    refuse_model_folder(output, "--output", but_a_bundle=True)
    if triton is not None:
        _triton().check_target(triton, output)
    if options["precision"] == "int8" and verify_csv is None:
        raise click.UsageError(
            "--precision int8 needs --verify-csv: rows on which its decisions are compared with the"
            " model's own"
        )
    limits = {name: options.pop(f"max_{name}") for name in ("auroc_loss", "flips")}
    difference = options.pop("max_score_difference")
    read = (
        None
        if verify_csv is None
        else _read_rows(verify_csv, image_base_path, columns, verify_rows)
    )
    engine = _open(model, threads)
    from mismatch.export.gate import Limits
    from mismatch.export.onnx import Rows, export_bundle
    from mismatch.export.parity import Tolerance

    click.echo(f"exporting {model} …", err=True)
    with progress_bar("verify", unit="item") as advance:
        result = export_bundle(
            engine,
            output,
            rows=read and Rows(read[0], str(verify_csv), read[1]),
            tolerance=Tolerance(score=difference),
            limits=Limits(**limits),
            progress=advance,
            **options,
        )
    for line in result.tried:
        click.echo(f"{result.parity.source}: {line}")
    if result.verdict is None:
        click.echo(
            f"{result.parity.candidate} against {result.parity.reference}, {result.parity.source}:"
            f" {result.parity.summary()}"
        )
    else:
        click.echo(_fitted(result.verdict))
    if result.parity.unscorable:
        click.echo(
            f"{result.parity.unscorable} rows could be scored by neither; mismatch validate"
            " says why"
        )
    click.echo(f"bundle of {result.bytes / 1e6:.1f} MB in {result.precision} written to {output}")
    if triton is not None:
        _write_for_triton(output, triton)


def _is_bundle(model: str) -> bool:
    from mismatch.runtime.predictor import is_bundle

    return is_bundle(model)


def _only_for_triton(model: str, output: Path | None, triton: Path | None) -> None:
    if triton is None or output is not None:
        raise CheckpointError(
            f"{model} is a bundle already; give the trained model's folder, or --triton without"
            " --output for a repository of this bundle"
        )
    ctx = click.get_current_context()
    given = [
        name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if without := sorted(set(given) - {"model", "triton", "debug"}):
        raise click.UsageError(
            f"--{without[0].replace('_', '-')} is for an export, and {model} is exported already;"
            " give --model and --triton alone"
        )
    _write_for_triton(Path(model), triton)


def _triton() -> Any:
    try:
        from mismatch.export import triton
    except ModuleNotFoundError as error:
        raise MissingExtraError("mismatch export-onnx --triton", package="onnx") from error
    return triton


def _write_for_triton(bundle: Path, target: Path) -> None:
    said = _triton().write_repository(bundle, target)
    click.echo(
        f"repository of {said.bytes / 1e6:.1f} MB for Triton written to {target}; its scores differ"
        f" by {said.difference:.1e} at most from mismatch's"
    )
    click.echo(
        "tritonserver --model-repository"
        f" {target}{'' if said.precision == 'int8' else '   (on GPUs: --model-config-name gpu)'}"
    )
    if said.precision == "int8":
        click.echo(
            "int8 under Triton is exact on CPUs with 8-bit dot products only (x86: VNNI, AMX):"
            " Triton can't choose the slower, exact kernels",
            err=True,
        )


def _read_rows(
    csv_file: Path, base: str, columns: Columns, limit: int
) -> tuple[list[Pair], list[int | None]]:
    """Pairs, and the labels of those that have one; of a row with several images one for each, with
    its label where that holds for each.
    """
    from mismatch.data.pairs import LABELS, read_rows, resolve_image
    from mismatch.runtime.pipeline import Pair

    found = islice(read_rows(csv_file, require_label=False, columns=columns), limit)
    rows = [
        one
        for row in found
        for one in _one_image_each(
            row._replace(label=LABELS.get(row.columns.get("label", "").strip())), columns
        )
    ]
    return [Pair(resolve_image(base, row.image_path), row.text, row.problem) for row in rows], [
        row.label for row in rows
    ]


def _one_image_each(row: Row, columns: Columns) -> list[Row]:
    """Without a label where that does not hold for each image."""
    from mismatch.data.pairs import one_image_each

    found = list(one_image_each(row, columns))
    return (
        found
        if row.problem or not found[0].problem
        else list(one_image_each(row._replace(label=None), columns))
    )


def _fitted(verdict: Verdict) -> str:
    from mismatch.export.gate import LEAST_ROWS

    if verdict.refitted:
        return (
            "calibration and threshold are int8's own, fitted to these rows: threshold"
            f" {verdict.score.threshold_in_use:.4f}"
        )
    if verdict.precision != "int8":
        return "calibration and threshold are the model's own"
    return (
        f"calibration and threshold are fp32's: fitting them anew takes {LEAST_ROWS} rows with"
        " labels of both kinds"
    )


def _open(model: str, threads: int | None) -> Any:
    try:
        from mismatch.training.engine import open_checkpoint
    except ModuleNotFoundError as error:
        raise MissingExtraError("mismatch export-onnx", "train") from error
    return open_checkpoint(model, provider="cpu", threads=threads)
