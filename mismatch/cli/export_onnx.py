"""`mismatch export-onnx`: see `mismatch.export_onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mismatch.cli.options import MODEL, PATH, ROW_OPTIONS, ROWS
from mismatch.cli.value_types import THREADS, FiniteRange
from mismatch.cli.verb import choice, echo_result, option, verb

__all__ = ["command"]


@verb(
    "Write a trained model as ONNX, compared with torch.",
    MODEL,
    option("--output", PATH),
    choice("--precision", ("auto", "fp32", "fp16", "int8"), "fp32"),
    option("--verify-csv verify_rows", ROWS),
    *ROW_OPTIONS,
    option("--verify-rows max_verify_rows", click.IntRange(1), 2000),
    option("--max-score-difference", FiniteRange(0, 1), 1e-4),
    option("--max-auroc-loss", FiniteRange(0, 1), 0.005),
    option("--max-flips", FiniteRange(0, 1), 0.01),
    choice("--provider", ("cpu", "cuda"), "cpu"),
    option("--threads", THREADS),
    option("--triton", PATH, metavar="DIR"),
)
def command(model: str, output: Path | None, **options: Any) -> None:
    """Write a trained model as ONNX: two encoders, a head, a tokenizer and a manifest.

    Torch and the new bundle score the same pairs first. Beyond the tolerance, or with a flipped
    decision, nothing is written. In int8 and fp16 scores differ a little: there the rows of
    --verify-csv decide, by how well they are ranked and how many decisions flip; what is too costly
    is tried with fewer layers in int8.

    Options:
    --output: Folder of the bundle; an older bundle there is replaced.
        [required, but with a bundle]
    --precision: int8: several times as fast on CPUs, if --verify-csv shows that decisions stay;
        fp16: for GPUs; auto: int8, or fp16 with --provider cuda, where decisions stay, else fp32.
    --verify-csv: Rows image_path,text that torch and the bundle score; int8 fits calibration and
        threshold to their labels.  [default: built-in images and texts]
    --verify-rows: Rows of --verify-csv to compare, from its start.
    --max-score-difference: In fp32; beyond it the export is refused.
    --max-auroc-loss: In int8, fp16; beyond it fewer layers are in int8, or it is refused.
    --max-flips: In int8, fp16: share of decisions that may flip; likewise.
    --provider: Where the bundle runs for the comparison.
    --threads: Threads for the comparison.  [default: torch's own choice]
    --triton: Write the bundle as a model repository for Triton Inference Server too; with a bundle
        as --model, that alone.
    """
    from mismatch.jobs.export_onnx import export_onnx

    result = export_onnx(model, output, **options)
    echo_result(result)
    if result.triton is not None and result.triton.precision == "int8":
        click.echo(
            "int8 under Triton is exact on CPUs with 8-bit dot products only (x86: VNNI, AMX):"
            " Triton can't choose the slower, exact kernels",
            err=True,
        )
