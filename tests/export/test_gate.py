"""mismatch.export.gate, and int8 exports behind it: calibration and threshold of its own, ever
milder choices, a refusal that leaves nothing.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.errors import DeviceError, MismatchWarning
from mismatch.export.gate import LEAST_ROWS, GateLimits, Verdict, judge
from mismatch.export.onnx import Rows
from mismatch.export.onnx import _wanted as wanted
from mismatch.export.parity import Outputs, decisions
from mismatch.runtime.bundle import read_bundle
from mismatch.runtime.onnx_engine import LENGTH_STEP
from mismatch.specs import Calibration, ReviewBand, ScoreSpec, SliceThresholds, Threshold
from mismatch.training.checkpoint import read_meta, write_meta
from tests.support import commands

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
ROWS = 120
WORDS = (
    "red",
    "blue",
    "cotton",
    "shirt",
    "shoe",
    "bag for women",
    "striped summer dress with pockets",
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rows.csv, with labels, and its noisy images."""
    folder, random = tmp_path_factory.mktemp("rows"), np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(random.integers(0, 255, (4, 4, 3), dtype=np.uint8)).resize((70, 64)).save(
            folder / f"{i}.png"
        )
    lines = [f"{i % 20}.png,{i} {WORDS[i % len(WORDS)]},{i % 2}" for i in range(ROWS)]
    (folder / "rows.csv").write_text("\n".join(["image_path,text,label", *lines]) + "\n")
    return folder / "rows.csv"


def run(checkpoint: Path, output: Path, rows: Path, *more: object) -> Any:
    args = (
        "export-onnx",
        "--model",
        checkpoint,
        "--output",
        output,
        "--verify-csv",
        rows,
        "--image-base-path",
        rows.parent,
        *more,
    )
    return commands.run(*args)


def outputs(logits: list[float], score: ScoreSpec, colour_engine: Any) -> Outputs:
    engine = colour_engine(score=score)
    return Outputs(
        engine,
        len(logits),
        np.zeros((1, 1), np.float32),
        np.zeros((1, 1), np.float32),
        list(range(len(logits))),
        np.array(logits),
        0,
    )


PLAIN = ScoreSpec("probability", 0.5)
STORED = ScoreSpec(
    "probability",
    0.5,
    Calibration(1.0, 0.0, 10),
    Threshold(0.5, "f1", 10, "2026-01-01T00:00:00+00:00"),
)


def test_flips_and_ranks_are_counted(colour_engine: Any) -> None:
    left, right = (
        outputs(values, PLAIN, colour_engine)
        for values in ([-2.0, -1.0, 1.0, 2.0], [-2.0, 0.5, 0.4, 2.0])
    )
    verdict = judge(left, right, [0, 0, 1, 1])
    assert (
        verdict.rows,
        verdict.flipped,
        verdict.auroc,
        verdict.auroc_after,
        verdict.refitted,
    ) == (4, 1, 1.0, 0.75, False)
    assert verdict.auroc_loss == 0.25
    assert not verdict.within(GateLimits(auroc_loss=0.3, flips=0.2))
    assert not verdict.within(GateLimits(auroc_loss=0.2, flips=0.3))
    assert verdict.within(GateLimits(auroc_loss=0.25, flips=0.25))
    assert (
        verdict.summary()
        == "AUROC 1.0000 in fp32, 0.7500 in int8; 1 of 4 decisions flipped (25.00%)"
    )


def test_without_labels_flips_alone_decide(colour_engine: Any) -> None:
    left, right = (outputs(values, STORED, colour_engine) for values in ([-1.0, 1.0], [1.0, 1.0]))
    verdict = judge(left, right, [None, None])
    assert (verdict.flipped, verdict.auroc, verdict.auroc_loss, verdict.score) == (
        1,
        None,
        None,
        STORED,
    )
    assert verdict.summary() == "1 of 2 decisions flipped (50.00%)"


def test_a_shift_of_all_logits_is_taken_back_by_fitting_anew(colour_engine: Any) -> None:
    random = np.random.default_rng(0)
    labels = [i % 2 for i in range(LEAST_ROWS)]
    logits = [4.0 * label - 2 + float(random.normal()) for label in labels]
    shifted = [3 * value + 5 for value in logits]
    refitted = judge(
        outputs(logits, STORED, colour_engine), outputs(shifted, STORED, colour_engine), labels
    )
    assert refitted.refitted
    assert refitted.score.threshold is not None
    assert refitted.score.threshold.objective == "f1"
    assert refitted.score.calibration is not None
    assert refitted.score.calibration.slope < 1
    kept = judge(
        outputs(logits, STORED, colour_engine),
        outputs(shifted, STORED, colour_engine),
        [None] * LEAST_ROWS,
    )
    assert refitted.flipped < LEAST_ROWS // 10 < kept.flipped
    bare = judge(
        outputs(logits, PLAIN, colour_engine), outputs(shifted, PLAIN, colour_engine), labels
    )
    assert (bare.score, bare.refitted) == (PLAIN, False)  # nothing stored, nothing fitted


NOISY = np.random.default_rng(1)
LABELS = [i % 2 for i in range(LEAST_ROWS)]
LOGITS = [2.0 * label - 1 + float(NOISY.normal()) for label in LABELS]
NEAR = [value + 0.05 * float(NOISY.normal()) for value in LOGITS]  # as a lower precision has them


def of_stored(**parts: Any) -> ScoreSpec:
    """Return a score with a calibration far from the one that these rows would give."""
    return replace(STORED, calibration=Calibration(6.0, 1.0, 60), **parts)


UNREACHABLE = Threshold(
    0.4, "missed mismatches<=0.05 with confidence 0.95", 300, "2026-01-01T00:00:00+00:00"
)


@pytest.mark.parametrize(
    ("score", "why"),
    [
        (of_stored(slices=SliceThresholds("cat", {"b": 0.9}, {"b": 60})), "by slice"),
        (of_stored(review=ReviewBand(0.2, 0.9)), "review band"),
        (of_stored(threshold=UNREACHABLE), "can't be promised from 50 mismatches"),
        (of_stored(threshold=replace(UNREACHABLE, objective="by hand")), "'by hand' is unknown"),
        (
            of_stored(threshold=replace(UNREACHABLE, objective="match precision>=1")),
            "no threshold reaches",
        ),
    ],
)
def test_what_can_not_be_chosen_again_keeps_all_of_the_score(
    colour_engine: Any, score: ScoreSpec, why: str
) -> None:
    labels = [*LABELS[:-1], 0]
    logits = [*NEAR[:-1], 9.0]  # the surest row is a mismatch
    if score.threshold == UNREACHABLE:
        labels, logits = LABELS, NEAR
    verdict = judge(
        outputs(LOGITS, score, colour_engine), outputs(logits, score, colour_engine), labels
    )
    assert (verdict.score, verdict.refitted) == (score, False)
    assert why in (verdict.kept_because or "")
    assert verdict.to_dict()["kept_because"] == verdict.kept_because
    assert verdict.flipped < 20


def test_a_band_that_was_chosen_for_a_risk_is_chosen_again_around_the_threshold(
    colour_engine: Any,
) -> None:
    score = of_stored(review=ReviewBand(0.001, 0.999, 60, 0.1))
    verdict = judge(
        outputs(LOGITS, score, colour_engine), outputs(NEAR, score, colour_engine), LABELS
    )
    band = verdict.score.review
    assert verdict.refitted
    assert band is not None
    assert (band.rows, band.max_risk) == (LEAST_ROWS, 0.1)
    assert band.holds_threshold(verdict.score.threshold_in_use)
    assert 0.2 < band.low < band.high < 0.8
    decided = [
        decisions(outputs(values, score, colour_engine), spec)
        for values, spec in ((LOGITS, score), (NEAR, verdict.score))
    ]
    assert verdict.flipped == (decided[0] != decided[1]).sum() > 0


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_flips_are_those_of_slices_and_of_the_band(colour_engine: Any, precision: str) -> None:
    """Not of the common threshold, which no row crosses."""
    sliced = replace(PLAIN, slices=SliceThresholds("cat", {"b": 0.9}, {"b": 60}))
    banded = replace(PLAIN, review=ReviewBand(0.4, 0.9))
    left, right = [2.1, 2.1, 2.1], [2.3, 2.3, 2.3]  # 0.89 and 0.91
    for score, values, flipped in (
        (sliced, ["a", "b", None], 1),
        (sliced, [], 0),
        (banded, [], 3),
        (PLAIN, ["a", "b", "b"], 0),
    ):
        before, after = (
            replace(outputs(logits, score, colour_engine), slice_values=values)
            for logits in (left, right)
        )
        assert judge(before, after, [None] * 3, precision).flipped == flipped


@pytest.fixture(scope="module")
def bundle(
    rows: Path, tiny_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """An int8 bundle, and what its export said."""
    folder = tmp_path_factory.mktemp("int8") / "bundle"
    result = run(
        tiny_checkpoints["hf-clip"],
        folder,
        rows,
        "--precision",
        "int8",
        "--max-auroc-loss",
        1,
        "--max-flips",
        1,
    )
    assert result.exit_code == 0, result.output
    return folder, result.stdout


def test_the_bundle_says_what_it_is(
    bundle: tuple[Path, str], tiny_checkpoints: dict[str, Path]
) -> None:
    folder, said = bundle
    manifest, stored = read_bundle(folder), read_meta(tiny_checkpoints["hf-clip"]).score
    assert manifest.precision == "int8"
    assert manifest.score.calibration is not None
    assert manifest.score.calibration.rows == ROWS
    assert manifest.score.threshold is not None
    assert manifest.score.threshold.value != stored.threshold_in_use
    parity = json.loads((folder / "parity.json").read_text())
    assert parity["int8"]["choice"] == "both towers"
    assert parity["int8"]["rows"] == parity["pairs"] == ROWS
    assert 0 < parity["max_score_difference"] < 0.2
    assert f"rows.csv: int8 in both towers: AUROC {parity['int8']['auroc']:.4f} in fp32" in said
    assert (
        "calibration and threshold are int8's own, fitted to these rows: threshold"
        f" {manifest.score.threshold_in_use:.4f}" in said
    )
    assert " MB in int8 written to " in said


def test_a_rows_score_depends_on_nothing_but_the_row(bundle: tuple[Path, str], rows: Path) -> None:
    lines = [line.split(",") for line in rows.read_text().splitlines()[1:]]
    pairs = [{"image_path": image, "text": text} for image, text, _ in lines]

    def scores(batch_size: int, given: list[dict[str, str]]) -> list[Any]:
        predictor = mismatch.load(bundle[0], "cpu", 1, batch_size=batch_size)
        return [
            prediction.logit
            for prediction in predictor.predict_pairs(given, image_base_path=rows.parent)
        ]

    together = scores(16, pairs)
    assert len(set(together)) > 100
    assert scores(3, pairs) == together
    assert scores(16, pairs[::-1]) == together[::-1]
    assert [scores(16, [pair])[0] for pair in pairs[:9]] == together[:9]
    one = mismatch.load(bundle[0], "cpu", 1)
    assert [
        one.predict(rows.parent / pair["image_path"], pair["text"]).logit for pair in pairs[:9]
    ] == together[:9]


def test_texts_of_one_call_are_equally_long(
    bundle: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = mismatch.load(bundle[0], "cpu", 1)
    shapes: list[tuple[tuple[int, int], list[int]]] = []
    real = predictor.engine.encode_texts

    def encode_texts(ids: Any, mask: Any) -> Any:
        shapes.append((ids.shape, mask.sum(1).tolist()))
        return real(ids, mask)

    monkeypatch.setattr(predictor.engine, "encode_texts", encode_texts)
    predictor.encode_texts([" ".join(["red"] * count) for count in (1, 2, 3, 7, 9, 90)])
    assert [shape for shape, _ in shapes] == [(2, 4), (1, 8), (2, 12), (1, 77)]
    assert all(
        -(-length // LENGTH_STEP) * LENGTH_STEP in (shape[1], 80)
        for shape, lengths in shapes
        for length in lengths
    )


def test_it_runs_on_cpus(bundle: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "onnxruntime.get_available_providers",
        lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    assert mismatch.load(bundle[0], "auto", 1).engine.name == "onnxruntime cpu"
    with pytest.raises(
        DeviceError,
        match=r"this bundle is int8, whose operators run on CPUs only; use `provider='cpu'`",
    ):
        mismatch.load(bundle[0], "cuda")


def refuse_first(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter([False] * count)
    monkeypatch.setattr(Verdict, "within", lambda self, limits: next(left, True))


@pytest.mark.slow
def test_slices_are_counted_and_keep_their_thresholds(
    rows: Path, tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """What the export counts is what predictors of the model and of the bundle decide otherwise."""
    model = shutil.copytree(tiny_checkpoints["hf-clip"], tmp_path / "model")
    lines = rows.read_text().splitlines()
    sliced = rows.with_name("sliced.csv")
    body = [f"{line},{'ab'[i % 2]}" for i, line in enumerate(lines[1:])]
    sliced.write_text("\n".join([f"{lines[0]},cat", *body]) + "\n")

    def predicted(folder: Path) -> list[Any]:
        predictor = mismatch.load(folder, "cpu", 1)
        scored = predictor.predict_rows(str(sliced), image_base_path=str(rows.parent))
        return [prediction for _, prediction in scored]

    scores = [prediction.similarity_score for prediction in predicted(model)]
    meta = read_meta(model)
    slices = SliceThresholds("cat", {"b": float(np.median(scores))}, {"b": ROWS // 2})
    threshold = Threshold(min(scores) / 2, "accuracy", 9, "2026-01-01T00:00:00+00:00")
    score = replace(meta.score, threshold=threshold, slices=slices)
    write_meta(model, replace(meta, score=score))
    result = mismatch.export_onnx(
        model,
        tmp_path / "bundle",
        precision="int8",
        verify_rows=sliced,
        image_base_path=rows.parent,
        max_flips=1,
        max_auroc_loss=1,
    )
    before, after = (
        [prediction.prediction for prediction in predicted(folder)]
        for folder in (model, tmp_path / "bundle")
    )
    flips = sum(one != other for one, other in zip(before, after, strict=True))
    verdict, parity = result.verdict, result.parity
    assert verdict is not None
    assert parity is not None
    assert (verdict.flipped, parity.flipped_decisions, verdict.refitted) == (flips, flips, False)
    assert flips > 0
    assert (parity.slice_column, parity.slice_pairs) == ("cat", ROWS // 2)
    stored = read_bundle(tmp_path / "bundle").score
    assert (stored.calibration, stored.threshold, stored.slices) == (
        score.calibration,
        threshold,
        slices,
    )
    [line] = [line for line in result.summary() if "fp32's" in line]
    assert "thresholds by slice are fp32's: how thresholds by slice" in line
    without = mismatch.export_onnx(
        model,
        tmp_path / "bundle",
        precision="fp16",
        verify_rows=rows,
        image_base_path=rows.parent,
    )
    assert any("rows.csv has a value of the column 'cat'" in line for line in without.summary())


@pytest.mark.parametrize(
    ("refused", "choice", "towers"),
    [
        # a tiny text tower has no other blocks
        (1, "both towers without their first and last blocks", (True, False)),
        (2, "the text tower", (False, True)),
    ],
)
def test_milder_choices_follow(
    refused: int,
    choice: str,
    towers: tuple[bool, bool],
    rows: Path,
    tiny_checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse_first(refused, monkeypatch)
    result = run(tiny_checkpoints["openclip"], tmp_path / "b", rows, "--precision", "int8")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("rows.csv: int8 in ") == refused + 1
    assert json.loads((tmp_path / "b" / "parity.json").read_text())["int8"]["choice"] == choice
    found = tuple(
        b"MatMulIntegerToFloat" in (tmp_path / "b" / f"{tower}_encoder.onnx").read_bytes()
        for tower in ("image", "text")
    )
    assert found == towers
    assert (
        mismatch.load(tmp_path / "b", "cpu", 1)
        .predict(rows.parent / "1.png", "red")
        .similarity_score
        is not None
    )


@pytest.mark.slow
def test_too_costly_is_refused_and_auto_takes_fp32(
    rows: Path, tiny_checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_first(99, monkeypatch)
    result = run(tiny_checkpoints["openclip"], tmp_path / "b", rows, "--precision", "int8")
    assert result.exit_code == 2
    assert "rows.csv: int8 in both towers: AUROC" in result.stderr
    assert (
        "AUROC loss up to 0.005 and 1.00% of decisions flipped are allowed (--max-auroc-loss,"
        " --max-flips); no bundle was written" in result.stderr
    )
    assert list(tmp_path.iterdir()) == []
    result = run(tiny_checkpoints["openclip"], tmp_path / "b", rows, "--precision", "auto")
    assert result.exit_code == 0, result.output
    assert read_bundle(tmp_path / "b").precision == "fp32"
    assert read_bundle(tmp_path / "b").score == read_meta(tiny_checkpoints["openclip"]).score
    assert result.stdout.count("rows.csv: int8 in ") == 3  # the fourth would leave no layer in int8


def test_without_rows_int8_is_a_usage_error(
    tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    args = [
        "export-onnx",
        "--model",
        str(tiny_checkpoints["openclip"]),
        "--output",
        str(tmp_path / "b"),
        "--precision",
        "int8",
    ]
    result = commands.run(*args)
    assert result.exit_code == 2
    assert "--precision int8 needs --verify-csv" in result.stderr


@pytest.mark.slow
def test_fp16_is_half_as_large_and_decides_alike(
    rows: Path, tiny_checkpoints: dict[str, Path], tiny_bundles: dict[str, Path], tmp_path: Path
) -> None:
    result = run(tiny_checkpoints["hf-clip"], tmp_path / "b", rows, "--precision", "fp16")
    assert result.exit_code == 0, result.output
    assert "rows.csv: fp16 in both towers: AUROC " in result.stdout
    parity = json.loads((tmp_path / "b" / "parity.json").read_text())
    assert (parity["fp16"]["choice"], parity["fp16"]["flipped"]) == ("both towers", 0)
    assert 0 < parity["max_score_difference"] < 0.01
    sizes = [
        (folder / "image_encoder.onnx").stat().st_size
        for folder in (tmp_path / "b", tiny_bundles["hf-clip"])
    ]
    assert sizes[0] < 0.6 * sizes[1]
    with pytest.warns(
        MismatchWarning, match=r"this bundle is fp16, for GPUs; a CPU computes it in fp32"
    ):
        predictor = mismatch.load(tmp_path / "b", "cpu", 1)
    assert predictor.engine.describe()["precision"] == "fp16"
    assert predictor.predict(rows.parent / "1.png", "red").similarity_score is not None


def test_fp16_needs_no_rows_and_is_what_auto_means_on_gpus(
    tiny_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    args = [
        "export-onnx",
        "--model",
        str(tiny_checkpoints["openclip"]),
        "--output",
        str(tmp_path / "b"),
        "--precision",
        "fp16",
    ]
    result = commands.run(*args)
    assert result.exit_code == 0, result.output
    assert "built-in images and texts: fp16 in both towers: 0 of " in result.stdout
    some = Rows([], "rows.csv")
    assert [wanted("auto", provider, given) for provider, given in (("cpu", None), ("cpu", some), ("cuda", None), ("cuda", some))] == [
        "fp32", "int8", "fp16", "fp16",
    ]  # fmt: skip
