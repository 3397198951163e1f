"""Intervals of all figures at once against the slow way, figure by figure."""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.evaluation.bootstrap import percentiles, resamples_of
from mismatch.evaluation.intervals import metric_intervals, wilson_interval
from mismatch.evaluation.metrics import binary_metrics

RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 2, 120)
SCORES = np.round((LABELS * 0.3 + RNG.random(120)) / 1.3, 2)  # with ties
IMAGES = [f"{i // 3}.jpg" for i in range(120)]


@pytest.mark.parametrize("groups", [None, IMAGES])
def test_every_figure_has_the_interval_that_resampling_it_alone_gives(
    groups: list[str] | None,
) -> None:
    found = metric_intervals(LABELS, SCORES, 0.5, groups=groups, resamples=200)
    drawn = [
        binary_metrics(LABELS[rows], SCORES[rows], 0.5)
        for rows in resamples_of(120, resamples=200, groups=groups)
    ]
    names = set(drawn[0]) - {"rows", "threshold", "confusion_matrix"}
    assert set(found) == names
    whole = binary_metrics(LABELS, SCORES, 0.5)
    for name in names:
        resamples = np.array([one[name] for one in drawn])
        expected = percentiles(resamples, value=whole[name])
        assert found[name] == pytest.approx(expected, abs=1e-12), name


def test_a_calibration_error_lies_in_its_interval() -> None:
    """That of a resample is larger by chance: by as much as the interval is moved down."""
    random = np.random.default_rng(5)
    for _ in range(10):
        scores = random.random(300)
        labels = (random.random(300) < scores).astype(int)  # calibrated
        value = binary_metrics(labels, scores, 0.5)["ece"]
        low, high = metric_intervals(labels, scores, 0.5, resamples=200)["ece"]
        resamples = [
            binary_metrics(labels[rows], scores[rows], 0.5)["ece"]
            for rows in resamples_of(300, resamples=200)
        ]
        assert np.mean(resamples) > value + 0.005
        assert 0 <= low < value < high


@pytest.mark.parametrize("share", [0.03, 0.5, 0.97])
@pytest.mark.parametrize("gap", [0.0, 4.0])
def test_every_figure_lies_in_its_interval(share: float, gap: float) -> None:
    random = np.random.default_rng(0)
    labels = (np.arange(300) < share * 300).astype(int)
    scores = 1 / (1 + np.exp(-random.normal(gap * labels, 1.0)))
    images = [f"{row // 2}.jpg" for row in range(300)]
    values = binary_metrics(labels, scores, 0.9)
    for name, (low, high) in metric_intervals(
        labels, scores, 0.9, groups=images, resamples=200
    ).items():
        assert np.isnan(low) or low <= values[name] + 1e-12, name
        assert np.isnan(high) or high >= values[name] - 1e-12, name


def test_rows_may_have_thresholds_of_their_own() -> None:
    cuts = np.where(np.arange(120) % 2, 0.2, 0.8)
    found = metric_intervals(LABELS, SCORES, cuts, resamples=200)
    assert found["accuracy"] != metric_intervals(LABELS, SCORES, 0.5, resamples=200)["accuracy"]
    low, high = found["accuracy"]
    assert low < binary_metrics(LABELS, SCORES, cuts)["accuracy"] < high


def test_images_that_repeat_make_wider_intervals() -> None:
    labels, scores = np.repeat(LABELS, 8), np.repeat(SCORES, 8)
    images = [str(i // 8) for i in range(len(labels))]
    alone, together = (
        metric_intervals(labels, scores, 0.5, groups=groups, resamples=300)["accuracy"]
        for groups in (None, images)
    )
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_cosines_and_one_class_have_only_some_figures() -> None:
    found = metric_intervals([1, 0, 1, 0] * 5, [0.3, -0.1, 0.2, 0.1] * 5, 0.15, resamples=200)
    assert np.isnan(found["brier"].low)
    assert np.isnan(found["log_loss"].low)
    assert found["auroc"] == (1.0, 1.0)
    assert np.isnan(metric_intervals([1, 1], [0.3, 0.6], 0.5, resamples=200)["auroc"].low)


@pytest.mark.parametrize(
    ("share", "trials", "low", "high"),
    [(1.0, 10, 0.7225, 1.0), (0.0, 10, 0.0, 0.2775), (0.5, 40, 0.3520, 0.6480)],
)
def test_wilson_by_the_published_figures(
    share: float, trials: int, low: float, high: float
) -> None:
    assert wilson_interval(share, trials, 1.959964) == pytest.approx((low, high), abs=1e-4)
    assert np.isnan(wilson_interval(float("nan"), 0, 1.96).low)
