"""An export, as lines for people on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mismatch.export.gate import Verdict
    from mismatch.export.parity import ParityReport
    from mismatch.jobs.export_onnx import ExportResult, TritonRepository
    from mismatch.specs import ScoreSpec

__all__ = ["bundle_line", "export_lines"]


def export_lines(result: ExportResult) -> Iterator[str]:
    """Yield the result for people."""
    parity = result.parity
    if parity is not None:
        yield from (f"{parity.source}: {line}" for line in result.tried)
        yield _parity(parity) if result.verdict is None else _fitted(result.verdict)
        if parity.slice_column is not None and not parity.slice_pairs:
            yield (
                f"no pair of {parity.source} has a value of the column {parity.slice_column!r} that"
                " has a threshold of its own, so those thresholds were not compared"
            )
        if parity.unscorable:
            yield f"{parity.unscorable} rows could be scored by neither; mismatch validate says why"
        yield bundle_line(result)
    if result.triton is not None:
        yield from _repository(result.triton)


def bundle_line(result: ExportResult) -> str:
    """Return `bundle of 1.2 MB in fp32 written to bundle`."""
    megabytes = result.bytes / 1e6
    return f"bundle of {megabytes:.1f} MB in {result.precision} written to {result.path}"


def _parity(parity: ParityReport) -> str:
    return f"{parity.candidate} against {parity.reference}, {parity.source}: {parity.summary()}"


def _fitted(verdict: Verdict) -> str:
    """Return whose calibration, thresholds and band the bundle has."""
    score = verdict.score
    if not verdict.refitted:
        return f"{_stored(score)} fp32's: {verdict.kept_because}"
    line = (
        f"{_stored(score)} int8's own, fitted to these rows: threshold {score.threshold_in_use:.4f}"
    )
    if score.threshold is None:
        line += " as before"
    if score.review is not None:
        line += f", review band {score.review.low:.4f} to {score.review.high:.4f}"
    return line


def _stored(score: ScoreSpec) -> str:
    """Return `calibration and threshold are`."""
    names = {
        "calibration": score.calibration,
        "threshold": score.threshold,
        "review band": score.review,
        "thresholds by slice": score.slices,
    }
    stored = [name for name, part in names.items() if part is not None] or ["default threshold"]
    if len(stored) == 1:
        return f"{stored[0]} is"
    return f"{', '.join(stored[:-1])} and {stored[-1]} are"


def _repository(repository: TritonRepository) -> Iterator[str]:
    yield (
        f"repository of {repository.bytes / 1e6:.1f} MB for Triton written to {repository.path};"
        f" its scores differ by {repository.score_difference:.1e} at most from mismatch's"
    )
    on_gpus = "" if repository.precision == "int8" else "   (on GPUs: --model-config-name gpu)"
    yield f"tritonserver --model-repository {repository.path}{on_gpus}"
