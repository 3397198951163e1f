"""What came of a quickstart, as lines for people on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mismatch.jobs.quickstart import QuickstartResult

__all__ = ["duration_line", "quickstart_lines"]


def duration_line(seconds: float) -> str:
    """Return how long it will take: `about 5 minutes here`."""
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} minute{'' if minutes == 1 else 's'} here"


def quickstart_lines(result: QuickstartResult) -> list[str]:
    """Return what came of it, where it lies, and the commands to go on with."""
    folder = result.folder
    parity = result.parity
    parted = (
        f"within {parity.max_score_difference:.0e} of torch's, {parity.flipped_decisions} decisions"
        " flipped"
    )
    text = f"""
Held-out accuracy {result.held_out.metrics["accuracy"]:.4f}; onnxruntime's scores are {parted}.
Time: {_times(result)}.

{folder}/
  catalogue.png         some of what was drawn
  train.csv val.csv test.csv images/
  model/best_model      the trained model (needs torch)
  bundle/               the same as ONNX (needs no torch)
  predictions.csv       the bundle's scores of test.csv
  report/report.html    how good the bundle is on test.csv, with plots
  explanation.png       which words of a wrong title don't fit its photo
  quickstart.json       everything measured here

Try it:
  mismatch predict --model {result.bundle} --image {result.image} --text "{result.text}"

With your own photos.csv (columns image_path,text,label; 1 = the text describes the image):
  mismatch validate photos.csv --image-base-path photos/
  mismatch train --train-csv photos.csv --image-base-path photos/ --output-dir my_model
  mismatch export-onnx --model my_model/best_model --output my_bundle
  mismatch predict --model my_bundle --csv new.csv --image-base-path photos/ --output scores.csv"""
    return text.split("\n")


def _times(result: QuickstartResult) -> str:
    """Return `draw 8 s, train 90 s, …, together 120 s`."""
    steps = [f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items()]
    return f"{', '.join(steps)}; together {sum(result.seconds.values()):.0f} s"
