"""Another calibration or threshold in a model folder: one file changes, and both engines decide by
it alike.
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
from mismatch.errors import CheckpointError
from mismatch.evaluation.calibration import fit_piecewise
from mismatch.io.atomic import sha256_file
from mismatch.runtime.score_file import score_file, write_score
from mismatch.runtime.scoring import sigmoid
from mismatch.specs import Calibration, ReviewBand, ScoreSpec, SliceThresholds, Threshold

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, 500)
BENT = fit_piecewise(
    LOGITS, (RNG.random(500) < sigmoid(np.where(LOGITS < 0, 0.4 * LOGITS, 2 * LOGITS))).astype(int)
)
CHOSEN = Threshold(0.5, "accuracy", 500, "2026-11-26T00:00:00+00:00")
SCORES = {
    "band": ScoreSpec("probability", 0.5, BENT, CHOSEN, review=ReviewBand(0.3, 0.7, 500, 0.05)),
    "slices": ScoreSpec(
        "probability",
        0.5,
        Calibration(0.5, 0.0, 99, "temperature"),
        CHOSEN,
        slices=SliceThresholds("kind", {"a": 0.2}, {"a": 40}),
    ),
}


@pytest.mark.parametrize("name", SCORES)
def test_checkpoint_and_bundle_predict_alike(
    name: str,
    family: str,
    tiny_checkpoints: dict[str, Path],
    tiny_bundles: dict[str, Path],
    tmp_path: Path,
) -> None:
    rows = []
    for number in range(24):
        Image.fromarray(
            np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        ).save(tmp_path / f"{number}.png")
        rows.append(
            {
                "image_path": f"{number}.png",
                "text": f"a {('red', 'blue', 'green')[number % 3]} shirt {number}",
                "kind": "ab"[number % 2],
            }
        )
    logits = [
        one.logit or 0.0
        for one in mismatch.load(tiny_checkpoints[family], "cpu").predict_pairs(
            rows, image_base_path=tmp_path
        )
    ]
    slope = 2 / float(np.std(logits))  # an untrained head's logits lie anywhere
    calibration = SCORES[name].calibration
    assert calibration is not None
    score = replace(
        SCORES[name],
        calibration=replace(calibration, slope=slope, intercept=-slope * float(np.median(logits))),
    )
    said = []
    for source in (tiny_checkpoints[family], tiny_bundles[family]):
        folder = tmp_path / f"{source.parent.name}-{family}"
        shutil.copytree(source, folder)
        before = {path.name: sha256_file(path) for path in folder.iterdir() if path.is_file()}
        write_score(folder, score)
        changed = [path for path, digest in before.items() if sha256_file(folder / path) != digest]
        assert changed == [score_file(folder).name]
        predictor = mismatch.load(folder, "cpu")
        assert predictor.engine.score == score
        said.append(list(predictor.predict_pairs(rows, image_base_path=tmp_path)))
    one, other = said
    assert [prediction.prediction for prediction in one] == [
        prediction.prediction for prediction in other
    ]
    assert [prediction.threshold for prediction in one] == [
        prediction.threshold for prediction in other
    ]
    assert len({prediction.prediction for prediction in one}) > 1
    assert ("review" in {prediction.prediction for prediction in one}) == (name == "band")
    scores: list[list[Any]] = [[prediction.similarity_score for prediction in of] for of in said]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_earlier_thresholds_are_remembered(tiny_bundles: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(tiny_bundles["hf-clip"], tmp_path / "bundle")
    score = mismatch.load(tmp_path / "bundle", "cpu").engine.score
    first = score.threshold
    write_score(tmp_path / "bundle", score.with_threshold(CHOSEN))
    write_score(
        tmp_path / "bundle",
        mismatch.load(tmp_path / "bundle", "cpu").engine.score.with_threshold(
            replace(CHOSEN, value=0.6)
        ),
    )
    read = mismatch.load(tmp_path / "bundle", "cpu").engine.score
    assert read.earlier == (first, CHOSEN)
    assert read.threshold_in_use == 0.6


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a checkpoint nor a bundle"):
        score_file(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"manifest\.json can't be read"):
        write_score(tmp_path, SCORES["band"])
    (tmp_path / "manifest.json").write_text(json.dumps({"format_version": 9, "score": {}}))
    with pytest.raises(CheckpointError, match="of another format"):
        write_score(tmp_path, SCORES["band"])
