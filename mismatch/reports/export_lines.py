"""An export, as lines for people on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mismatch.export.gate import Verdict
    from mismatch.export.parity import ParityReport
    from mismatch.jobs.export_onnx import ExportResult, TritonRepository

__all__ = ["bundle_line", "export_lines"]


def export_lines(result: ExportResult) -> Iterator[str]:
    """Yield the result for people."""
    parity = result.parity
    if parity is not None:
        yield from (f"{parity.source}: {line}" for line in result.tried)
        yield _parity(parity) if result.verdict is None else _fitted(result.verdict)
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
    from mismatch.export.gate import LEAST_ROWS

    if verdict.refitted:
        return (
            "calibration and threshold are int8's own, fitted to these rows: threshold"
            f" {verdict.score.threshold_in_use:.4f}"
        )
    if verdict.precision != "int8":
        return "calibration and threshold are the model's own"
    return (
        f"calibration and threshold are fp32's: fitting them again takes {LEAST_ROWS} rows with"
        " labels of both kinds"
    )


def _repository(repository: TritonRepository) -> Iterator[str]:
    yield (
        f"repository of {repository.bytes / 1e6:.1f} MB for Triton written to {repository.path};"
        f" its scores differ by {repository.score_difference:.1e} at most from mismatch's"
    )
    on_gpus = "" if repository.precision == "int8" else "   (on GPUs: --model-config-name gpu)"
    yield f"tritonserver --model-repository {repository.path}{on_gpus}"
