"""`mismatch export-onnx`: see `mismatch.export_onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.number_types import THREADS, FiniteRange
from mismatch.cli.options import job_row_options, model_option

if TYPE_CHECKING:
    from mismatch.export.gate import Verdict
    from mismatch.export.parity import ParityReport
    from mismatch.jobs.export_onnx import TritonRepository

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
    "verify_rows",
    type=click.Path(path_type=Path),
    help=(
        "Rows image_path,text that torch and the bundle score; int8 fits calibration and threshold"
        " to their labels.  [default: built-in images and texts]"
    ),
)
@job_row_options
@click.option(
    "--verify-rows",
    "max_verify_rows",
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
def command(model: str, output: Path | None, **options: Any) -> None:
    """Write a trained model as ONNX: two encoders, a head, a tokenizer and a manifest.

    Torch and the new bundle score the same pairs first. Beyond the tolerance, or with a flipped
    decision, nothing is written. In int8 and fp16 scores differ a little: there the rows of
    --verify-csv decide, by how well they are ranked and how many decisions flip; what is too costly
    is tried with fewer layers in int8.
    """
    from mismatch.jobs.export_onnx import bundle_line, export_onnx

    result = export_onnx(model, output, **options)
    if result.parity is not None:
        for line in _parity_lines(result.parity, result.tried, result.verdict):
            click.echo(line)
        click.echo(bundle_line(result))
    if result.triton is not None:
        _show_repository(result.triton)


def _parity_lines(
    parity: ParityReport, tried: tuple[str, ...], verdict: Verdict | None
) -> list[str]:
    lines = [f"{parity.source}: {line}" for line in tried]
    if verdict is None:
        lines.append(
            f"{parity.candidate} against {parity.reference}, {parity.source}: {parity.summary()}"
        )
    else:
        lines.append(_fitted(verdict))
    if parity.unscorable:
        lines.append(
            f"{parity.unscorable} rows could be scored by neither; mismatch validate says why"
        )
    return lines


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


def _show_repository(repository: TritonRepository) -> None:
    click.echo(
        f"repository of {repository.bytes / 1e6:.1f} MB for Triton written to {repository.path};"
        f" its scores differ by {repository.score_difference:.1e} at most from mismatch's"
    )
    on_gpus = "" if repository.precision == "int8" else "   (on GPUs: --model-config-name gpu)"
    click.echo(f"tritonserver --model-repository {repository.path}{on_gpus}")
    if repository.precision == "int8":
        click.echo(
            "int8 under Triton is exact on CPUs with 8-bit dot products only (x86: VNNI, AMX):"
            " Triton can't choose the slower, exact kernels",
            err=True,
        )
