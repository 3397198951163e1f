"""`mismatch quickstart`: see `mismatch.quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mismatch.cli.logs import lines_on_stdout
from mismatch.cli.number_types import SEED

if TYPE_CHECKING:
    from mismatch.jobs.quickstart import QuickstartResult

__all__ = ["closing", "command"]


@click.command(short_help="Draw, train, evaluate, export, predict in a few minutes.")
@click.option(
    "--dir",
    type=click.Path(path_type=Path),
    default=Path("mismatch_quickstart"),
    show_default=True,
    help="Folder to write everything to.",
)
@click.option(
    "--seed",
    type=SEED,
    default=0,
    show_default=True,
    help="Of the drawings, the split and the training.",
)
def command(dir: Path, seed: int) -> None:  # noqa: A002 (the option's name)
    """Draw a product catalogue, train on it, evaluate, export, predict: no network, no data, a few
    minutes.

    Combinations of article, colour, pattern and count that training never saw are what it is
    measured on. Ends with the commands for your own data.
    """
    from mismatch.jobs.quickstart import quickstart

    with lines_on_stdout("mismatch.training"), lines_on_stdout("mismatch.jobs.quickstart"):
        result = quickstart(dir, seed=seed)
    click.echo(closing(result))


def closing(result: QuickstartResult) -> str:
    """Return what came of it, where it lies, and the commands to go on with."""
    folder = result.folder
    parity = result.parity
    parted = (
        f"within {parity.max_score_difference:.0e} of torch's, {parity.flipped_decisions} decisions"
        " flipped"
    )
    return f"""
Held-out accuracy {result.held_out.metrics["accuracy"]:.4f}; onnxruntime's scores are {parted}.
Time: {_times(result)}.

{folder}/
  catalogue.png         some of what was drawn
  train.csv val.csv test.csv images/
  model/best_model      the trained model (needs torch)
  bundle/               the same as ONNX (needs no torch)
  predictions.csv       the bundle's scores of test.csv
  quickstart.json       everything measured here

Try it:
  mismatch predict --model {result.bundle} --image {result.image} --text "{result.text}"

With your own photos.csv (columns image_path,text,label; 1 = the text describes the image):
  mismatch validate photos.csv --image-base-path photos/
  mismatch train --train-csv photos.csv --image-base-path photos/ --output-dir my_model
  mismatch export-onnx --model my_model/best_model --output my_bundle
  mismatch predict --model my_bundle --csv new.csv --image-base-path photos/ --output scores.csv"""


def _times(result: QuickstartResult) -> str:
    """Return `draw 8 s, train 90 s, …, together 120 s`."""
    steps = [f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items()]
    return f"{', '.join(steps)}; together {sum(result.seconds.values()):.0f} s"
