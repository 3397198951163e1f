"""A score is stored in the model that was scored, and in no other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mismatch
from mismatch.errors import CheckpointError, InputError
from mismatch.jobs.score_update import ScoreUpdate
from mismatch.runtime.score_file import read_score, score_file, write_score
from mismatch.specs import Calibration

JOBS: dict[str, Callable[..., object]] = {
    "tune_threshold": mismatch.tune_threshold,
    "calibrate": mismatch.calibrate,
}
CHANGED = Calibration(0.25, 1.0, 99, "platt")


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Sixty labelled rows over fifteen images, in the working directory."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for number in range(15):
        Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(f"{number}.png")
    return [
        {"image_path": f"{number % 15}.png", "text": f"shirt {number}", "label": number % 2}
        for number in range(60)
    ]


@pytest.fixture(params=["checkpoint", "bundle"])
def model(
    request: pytest.FixtureRequest,
    tiny_checkpoints: dict[str, Path],
    tiny_bundles: dict[str, Path],
    tmp_path: Path,
) -> Path:
    """A model that is replaced by another one with `replace_model`."""
    models = tiny_checkpoints if request.param == "checkpoint" else tiny_bundles
    for name, folder in zip(("model", "other"), models.values(), strict=False):
        shutil.copytree(folder, tmp_path / name)
    return tmp_path / "model"


def replace_model(model: Path) -> None:
    """Put the other model in the place of the first one."""
    shutil.rmtree(model)
    shutil.copytree(model.with_name("other"), model)


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("when", ["before", "while it is scored"])
def test_a_model_that_has_come_since_keeps_its_score(
    model: Path, rows: list[dict[str, Any]], job: str, when: str
) -> None:
    predictor = mismatch.load(model, "cpu")
    if when == "before":
        replace_model(model)
    with pytest.raises(CheckpointError, match=r"model holds another model .* load the model again"):
        JOBS[job](predictor, rows, before_storing=lambda _: replace_model(model))
    there, other = (score_file(folder).read_bytes() for folder in (model, model.with_name("other")))
    assert there == other


def test_a_copy_of_a_model_that_has_come_since_is_not_calibrated(
    model: Path, rows: list[dict[str, Any]]
) -> None:
    predictor = mismatch.load(model, "cpu")
    with pytest.raises(CheckpointError, match="holds another model"):
        mismatch.calibrate(
            predictor, rows, output="copy", before_storing=lambda _: replace_model(model)
        )
    assert not Path("copy").exists()


def test_a_calibration_that_was_stored_since_stays(model: Path, rows: list[dict[str, Any]]) -> None:
    predictor = mismatch.load(model, "cpu")
    changed = replace(read_score(model), kind="probability", calibration=CHANGED)

    def store(_: object = None) -> None:
        write_score(model, changed)

    for job in JOBS.values():
        write_score(model, replace(predictor.score))
        with pytest.raises(CheckpointError, match=r"another calibration or threshold .* load"):
            job(predictor, rows, before_storing=store)
        assert read_score(model) == changed
    with pytest.raises(CheckpointError, match="another calibration or threshold"):
        mismatch.tune_threshold(predictor, rows)
    assert read_score(model) == changed
    assert not mismatch.tune_threshold(predictor, rows, dry_run=True).stored


def test_a_threshold_is_chosen_again_by_the_same_predictor(
    model: Path, rows: list[dict[str, Any]]
) -> None:
    predictor = mismatch.load(model, "cpu")
    chosen = [mismatch.tune_threshold(predictor, rows).threshold.value for _ in range(2)]
    stored = read_score(model)
    assert chosen[0] == chosen[1] == stored.threshold_in_use
    assert stored.earlier, "the first of the two"
    mismatch.calibrate(predictor, rows)
    assert read_score(model).calibration is not None


@pytest.mark.parametrize("job", JOBS)
def test_what_holds_for_pieces_of_long_texts_is_not_stored_for_their_beginnings(
    model: Path, rows: list[dict[str, Any]], job: str
) -> None:
    predictor = mismatch.load(model, "cpu", long_text="chunk")
    before = score_file(model).read_bytes()
    with pytest.raises(InputError, match=r"`long_text=chunk` and stored with truncate"):
        JOBS[job](predictor, rows)
    assert score_file(model).read_bytes() == before
    JOBS[job](predictor, rows, dry_run=True)
    JOBS[job](mismatch.load(model, "cpu", long_text="truncate"), rows)
    assert score_file(model).read_bytes() != before


def test_nothing_is_looked_at_where_nothing_is_stored(colour_engine: Any) -> None:
    predictor = mismatch.Predictor(colour_engine(), long_text="chunk")
    update = ScoreUpdate(predictor, None, rescaled=False)
    update.check()
    assert update.before == predictor.engine.score
