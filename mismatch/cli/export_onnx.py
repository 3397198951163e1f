"""`mismatch export-onnx`: a trained model as a bundle that needs no torch, written only if it agrees with torch."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mismatch.cli.options import model_option
from mismatch.cli.progress import progress_bar

if TYPE_CHECKING:
    from mismatch.runtime.pipeline import Pair

__all__ = ["command"]


@click.command(short_help="Write a trained model as ONNX, compared with torch.")
@model_option
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the bundle; an older bundle there is replaced.")
@click.option("--precision", type=click.Choice(["fp32"]), default="fp32", show_default=True, help="Of the weights.")
@click.option(
    "--verify-csv", type=click.Path(path_type=Path), help="Rows image_path,text that torch and the bundle both score.  [default: built-in images and texts]"
)
@click.option("--image-base-path", default="", help="Folder that the CSV's image paths are relative to.  [default: the working directory]")
@click.option("--verify-rows", type=click.IntRange(1), default=2000, show_default=True, help="Rows of --verify-csv to compare, from its start.")
@click.option("--max-score-difference", type=click.FloatRange(0, 1), default=1e-4, show_default=True, help="Beyond it the export is refused.")
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where the bundle runs for the comparison.")
@click.option("--threads", type=click.IntRange(1), help="Threads for the comparison.  [default: torch's own choice]")
def command(
    model: str, output: Path, verify_csv: Path | None, image_base_path: str, verify_rows: int, max_score_difference: float, threads: int | None, **options: Any
) -> None:
    """Write a trained model as ONNX: two encoders, a head, a tokenizer and a manifest.

    Torch and the new bundle score the same pairs first. Beyond the tolerance, or with a flipped decision, nothing is written.
    """
    pairs = None if verify_csv is None else _read_pairs(verify_csv, image_base_path, verify_rows)
    engine = _open(model, threads)
    from mismatch.export.onnx import export_bundle
    from mismatch.export.parity import Tolerance

    click.echo(f"exporting {model} …", err=True)
    with progress_bar("verify", unit="item") as advance:
        result = export_bundle(
            engine,
            output,
            pairs=pairs,
            source="built-in images and texts" if verify_csv is None else str(verify_csv),
            tolerance=Tolerance(score=max_score_difference),
            progress=advance,
            **options,
        )
    click.echo(f"{result.parity.candidate} against {result.parity.reference}, {result.parity.source}: {result.parity.summary()}")
    if result.parity.unscorable:
        click.echo(f"{result.parity.unscorable} rows could be scored by neither; mismatch validate says why")
    click.echo(f"bundle of {result.bytes / 1e6:.1f} MB written to {output}")


def _read_pairs(csv_file: Path, base: str, limit: int) -> list[Pair]:
    from mismatch.data.pairs import read_rows, resolve_image
    from mismatch.runtime.pipeline import Pair

    rows = islice(read_rows(csv_file, require_label=False), limit)
    return [Pair(resolve_image(base, row.image_path), row.text, row.problem) for row in rows]


def _open(model: str, threads: int | None) -> Any:
    from mismatch.errors import CheckpointError, MissingExtraError
    from mismatch.runtime.predictor import is_bundle

    if is_bundle(model):
        raise CheckpointError(f"{model} is a bundle already; give the trained model's folder")
    try:
        from mismatch.training.engine import open_checkpoint
    except ModuleNotFoundError as error:
        raise MissingExtraError("mismatch export-onnx", "train") from error
    return open_checkpoint(model, provider="cpu", threads=threads)
