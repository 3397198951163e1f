"""A trained model → a bundle: two encoders and a head as ONNX graphs, written only if they agree
with torch.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from mismatch import __version__
from mismatch.errors import CheckpointError, InputError, ParityError
from mismatch.evaluation.drift import reference_of
from mismatch.export.fp16 import to_half
from mismatch.export.gate import CHOICES, HALF, GateLimits, LayerChoice, Verdict, judge
from mismatch.export.graphs import OPSET, write_graph, write_image_encoder, write_text_encoder
from mismatch.export.int8 import quantize
from mismatch.export.parity import (
    Outputs,
    ParityReport,
    Progress,
    Tolerance,
    built_in_pairs,
    check,
    compare_outputs,
)
from mismatch.io.atomic import atomic_directory, write_json
from mismatch.io.locks import locked
from mismatch.runtime.bundle import (
    GRAPHS,
    MANIFEST,
    PARITY,
    TOKENIZER,
    Manifest,
    looks_like_bundle,
    seen_by,
    write_manifest,
)
from mismatch.runtime.card_file import is_own_card
from mismatch.runtime.onnx_engine import OnnxEngine, open_bundle
from mismatch.runtime.pipeline import Pair
from mismatch.specs import ScoreSpec
from mismatch.training.detector import Detector
from mismatch.training.engine import TorchEngine

__all__ = ["PRECISIONS", "Rows", "WrittenBundle", "export_bundle"]

PRECISIONS = ("auto", "fp32", "fp16", "int8")
# files of a bundle
OWN = re.compile("|".join(map(re.escape, (MANIFEST, TOKENIZER, PARITY, *GRAPHS))))
TOWERS = ("image_encoder.onnx", "text_encoder.onnx")


@dataclass(frozen=True)
class WrittenBundle:
    """Where the bundle lies and what its comparison with torch showed."""

    folder: Path
    parity: ParityReport
    bytes: int  # of all files
    precision: str = "fp32"
    verdict: Verdict | None = None  # in int8 and fp16
    # what a lower precision was refused for, a line a choice, and what it is now
    tried: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rows:
    """Pairs that torch and the bundle both score, where they are from, and labels where there are
    any.
    """

    pairs: Sequence[Pair]
    source: str
    labels: Sequence[int | None] = ()


def export_bundle(  # noqa: PLR0913
    engine: TorchEngine,
    output: Path,
    *,
    precision: str = "fp32",
    rows: Rows | None = None,
    tolerance: Tolerance = Tolerance(),  # noqa: B008 (frozen)
    limits: GateLimits = GateLimits(),  # noqa: B008 (frozen)
    provider: str = "cpu",
    progress: Progress | None = None,
    write_card: Callable[[Path], object] | None = None,
) -> WrittenBundle:
    """Write a bundle to `output`, replacing one that is there. `rows` (default: built-in pairs) are
    scored by torch and by the bundle. `write_card`: writes the bundle's card into its folder.

    int8 needs rows, of which it may cost no more than `limits`: the first of gate.CHOICES that
    keeps to them is taken. fp16 likewise, on built-in pairs where there are no rows. auto is int8
    where there are rows and the provider is a CPU, fp16 on CUDA, and fp32 where none of the choices
    keeps to `limits`. Raises ParityError beyond `tolerance` or `limits`, CheckpointError while
    somebody else writes there. After any error nothing of the new bundle stays and an older one is
    untouched.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not available; use {' or '.join(PRECISIONS)}")
    wanted = _wanted(precision, provider, rows)
    if wanted == "int8":
        _check_int8(rows, provider)
    with locked(output, parents=True, inside=OWN):
        _check_target(output)
        with atomic_directory(output) as folder:
            with _on_cpu(engine.detector) as detector:
                _write_graphs(detector, folder)
            (folder / TOKENIZER).write_text(engine.text_spec.tokenizer_json, encoding="utf-8")
            export = _Export(engine, folder, rows, provider, progress)
            result = (
                export.in_fp32(tolerance)
                if wanted == "fp32"
                else export.in_lower(wanted, tolerance, limits, or_fp32=precision == "auto")
            )
            if write_card is not None:
                write_card(folder)  # behind the manifest, which has no hash of it
            _check_target(output)  # whatever has come there meanwhile is not lost
    return replace(
        result, folder=output, bytes=sum(file.stat().st_size for file in output.iterdir())
    )


class _Export:
    """A folder with a bundle's graphs in fp32 and a tokenizer, on its way to a bundle."""

    def __init__(
        self,
        engine: TorchEngine,
        folder: Path,
        rows: Rows | None,
        provider: str,
        progress: Progress | None,
    ) -> None:
        self.engine = engine
        self.folder = folder
        self.provider = provider
        self.progress = progress
        self.built_in = Rows(built_in_pairs(), "built-in images and texts")
        self.rows = rows or self.built_in

    def in_fp32(self, tolerance: Tolerance) -> WrittenBundle:
        """Export in fp32, as torch to within `tolerance`."""
        report, outputs = self._parity(self.rows, tolerance)
        self._finish(
            "fp32",
            self._referring(self.engine.score, outputs),
            {**report.to_dict(), "tolerance": vars(tolerance)},
        )
        return WrittenBundle(self.folder, report, 0)

    def in_lower(
        self, precision: str, tolerance: Tolerance, limits: GateLimits, *, or_fp32: bool
    ) -> WrittenBundle:
        """Export in int8 or fp16: the first choice that keeps to `limits`."""
        # checked first, so that what differs later is the precision's doing
        self._parity(self.built_in, tolerance)
        reference = Outputs.of(
            self.engine, self.rows.pairs, source=self.rows.source, progress=self.progress
        )
        tried: list[str] = []
        with tempfile.TemporaryDirectory() as place:
            full = Path(place)
            for name in TOWERS:
                shutil.move(self.folder / name, full / name)
            for choice in HALF if precision == "fp16" else CHOICES:
                if not (self._halve(full) if precision == "fp16" else self._quantize(full, choice)):
                    continue
                outputs = Outputs.of(
                    self._open(precision, self.engine.score),
                    self.rows.pairs,
                    source=self.rows.source,
                    progress=self.progress,
                    like=reference,
                )
                verdict = judge(
                    reference, outputs, self.rows.labels or [None] * len(self.rows.pairs), precision
                )
                tried.append(f"{precision} in {choice.name}: {verdict.summary()}")
                if verdict.within(limits):
                    report = compare_outputs(reference, outputs, source=self.rows.source)
                    judged = {"choice": choice.name, **verdict.to_dict()}
                    self._finish(
                        precision,
                        self._referring(verdict.score, outputs),
                        {**report.to_dict(), precision: judged, "limits": vars(limits)},
                    )
                    return WrittenBundle(self.folder, report, 0, precision, verdict, tuple(tried))
            for name in TOWERS:
                shutil.move(full / name, self.folder / name)
        if not or_fp32:
            raise self._too_costly(precision, limits, tried)
        return replace(self.in_fp32(tolerance), tried=tuple(tried))

    def _too_costly(self, precision: str, limits: GateLimits, tried: Sequence[str]) -> ParityError:
        """Return what to raise where no choice keeps to `limits`."""
        allowed = (
            f"AUROC loss up to {limits.auroc_loss:g} and {limits.flips:.2%} of decisions"
            " flipped are allowed"
        )
        what = "; ".join(tried) or f"no layer of it can be in {precision}"
        return ParityError(
            f"{self.rows.source}: {what}; {allowed} (`max_auroc_loss`, `max_flips`); no bundle"
            " was written: use `precision='fp32'`"
        )

    def _halve(self, full: Path) -> int:
        """Write both towers into the bundle's folder in fp16; return how many weights are."""
        return sum(to_half(full / name, self.folder / name) for name in TOWERS)

    def _quantize(self, full: Path, choice: LayerChoice) -> int:
        """Write both towers into the bundle's folder as the choice says; return how many layers are
        in int8.
        """
        layers = 0
        for name, keep in zip(TOWERS, (choice.image, choice.text), strict=True):
            if keep is None:
                shutil.copyfile(full / name, self.folder / name)
            else:
                layers += quantize(full / name, self.folder / name, keep=keep)
        return layers

    def _parity(self, rows: Rows, tolerance: Tolerance) -> tuple[ParityReport, Outputs]:
        """Compare the fp32 graphs with torch; return the report, and what they made of the rows."""
        left = Outputs.of(self.engine, rows.pairs, source=rows.source, progress=self.progress)
        right = Outputs.of(
            self._open("fp32", self.engine.score),
            rows.pairs,
            source=rows.source,
            progress=self.progress,
            like=left,
        )
        report = compare_outputs(left, right, source=rows.source)
        check(report, tolerance)
        return report, right

    def _referring(self, score: ScoreSpec, outputs: Outputs) -> ScoreSpec:
        """Return the score with the user's rows as what later ones are compared with."""
        if self.rows is self.built_in:
            return score
        return replace(
            score,
            reference=reference_of(
                outputs.logits, [len(self.rows.pairs[i].text) for i in outputs.good]
            ),
        )

    def _open(self, precision: str, score: ScoreSpec) -> OnnxEngine:
        write_manifest(self.folder, self._manifest(precision, score))
        with warnings.catch_warnings():
            # CPUs compute fp16 slowly, but well enough to compare
            warnings.filterwarnings("ignore", "this bundle is fp16")
            return open_bundle(self.folder, provider=self.provider, threads=torch.get_num_threads())

    def _finish(self, precision: str, score: ScoreSpec, parity: dict[str, Any]) -> None:
        versions = {**_versions(), "onnxruntime": version("onnxruntime")}
        write_json(self.folder / PARITY, {**parity, "versions": versions})
        write_manifest(self.folder, self._manifest(precision, score))

    def _manifest(self, precision: str, score: ScoreSpec) -> Manifest:
        engine = self.engine
        return Manifest(
            backbone=engine.meta.backbone,
            image_spec=engine.image_spec,
            text_spec=engine.text_spec,
            head=engine.detector.head.spec,
            score=score,
            precision=precision,
            opset=OPSET,
            mismatch_version=__version__,
        )


def _wanted(precision: str, provider: str, rows: Rows | None) -> str:
    """Return what auto stands for, tried first; any other precision as it is."""
    if precision != "auto":
        return precision
    if provider != "cpu":
        return "fp16"
    return "fp32" if rows is None else "int8"


def _check_int8(rows: Rows | None, provider: str) -> None:
    """Refuse int8 where its decisions can't be compared, or its kernels don't run."""
    if rows is None:
        raise InputError(
            "`precision='int8'` needs `verify_rows`: rows on which its decisions are compared with"
            " the model's own"
        )
    if provider != "cpu":
        raise InputError("`precision='int8'` runs on CPUs: use `provider='cpu'`")


def _check_target(output: Path) -> None:
    """Refuse to replace anything but a bundle, alone in its folder, or an empty folder."""
    if output.exists() and not output.is_dir():
        raise CheckpointError(f"{output} is a file; choose another `output`")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not looks_like_bundle(output):
        raise CheckpointError(f"{output} exists and is not a bundle; choose another `output`")
    if foreign := sorted(
        path.name
        for path in output.iterdir()
        if not OWN.fullmatch(path.name) and not is_own_card(path)
    ):
        raise CheckpointError(
            f"{output} is an older bundle with other files in it ({', '.join(foreign[:3])}), which"
            " would be lost; choose another `output`"
        )


def _write_graphs(detector: Detector, folder: Path) -> None:
    """Write the three graphs, traced on the CPU."""
    backbone = detector.backbone
    batch = {0: Dim("batch")}
    head = detector.head.spec
    image, text = seen_by(head)
    write_image_encoder(backbone, folder / "image_encoder.onnx", head.image_features)
    write_text_encoder(backbone, folder / "text_encoder.onnx", head.text_features)
    inputs = {image: torch.rand(2, head.image_width), text: torch.rand(2, head.text_width)}
    write_graph(
        detector.head, inputs, dict.fromkeys(inputs, batch), ("logit",), folder / "head.onnx"
    )


@contextlib.contextmanager
def _on_cpu(detector: Detector) -> Iterator[Detector]:
    """Yield the detector in eval mode on the CPU, where graphs are traced, and put it back where it
    was.
    """
    device = detector.backbone.device
    try:
        yield detector.eval().cpu()
    finally:
        detector.to(device)


def _versions() -> dict[str, str]:
    import onnx

    return {"torch": torch.__version__, "onnx": onnx.__version__, "mismatch": __version__}
