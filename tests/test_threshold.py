"""The chosen threshold is as good as the best of all cuts, and lies in the middle of the widest gap among equals."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.evaluation.metrics import binary_metrics
from mismatch.evaluation.threshold import OBJECTIVES, choose_threshold


def worth(labels: np.ndarray, scores: np.ndarray, threshold: float, objective: str) -> float:
    metrics = binary_metrics(labels, scores, threshold)
    return float((metrics["recall"] + metrics["mismatch_recall"]) / 2 if objective == "balanced-accuracy" else metrics[objective])


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(15))
def test_no_cut_is_better(objective: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.append(rng.random(50) < 0.3, [False, True]).astype(int)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    scores = scores.round(1) if seed % 2 else scores  # many ties, or few
    chosen = choose_threshold(labels, scores, objective)
    cuts = [*np.unique(scores), np.nextafter(scores.max(), 2), *((np.unique(scores)[1:] + np.unique(scores)[:-1]) / 2)]
    best = max(worth(labels, scores, cut, objective) for cut in cuts)
    assert worth(labels, scores, chosen.value, objective) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "value"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], 0.4),  # midway
        ([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.9], 0.6),  # 0.15 is as good, its gap narrower
        ([0, 1, 0, 1], [0.0, 0.7, 0.8, 0.9], 0.35),
        ([1, 0], [0.2, 0.8], 0.2),  # all matches or none: the lower one
    ],
)
def test_where_it_lies(labels: list[int], scores: list[float], value: float) -> None:
    assert choose_threshold(labels, scores).value == pytest.approx(value)


@pytest.mark.parametrize("low", [0.1, 0.3, 0.5, float(np.nextafter(0.5, 1)), 0.7])
def test_neighbours_without_a_number_between_them_are_still_told_apart(low: float) -> None:
    high = float(np.nextafter(low, 1))
    chosen = choose_threshold([0, 1], [low, high])
    assert low < chosen.value <= high


def test_it_records_what_it_was_chosen_on() -> None:
    chosen = choose_threshold([0, 0, 1], [0.1, 0.2, 0.6], "f1")
    assert (chosen.objective, chosen.rows) == ("f1", 3)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(chosen.date)).total_seconds()) < 60


@pytest.mark.parametrize(
    ("labels", "scores", "objective", "words"),
    [
        ([1, 1], [0.1, 0.2], "accuracy", "there are 2 and 0"),
        ([0, 0], [0.1, 0.2], "f1", "there are 0 and 2"),
        ([0, 1], [0.1, 0.2], "profit", "'profit' is unknown; one of accuracy, f1, balanced-accuracy"),
        ([0, 1], [0.1, float("nan")], "accuracy", "nan"),
        ([], [], "accuracy", "at least one"),
    ],
)
def test_what_it_refuses(labels: list[int], scores: list[float], objective: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose_threshold(labels, scores, objective)
