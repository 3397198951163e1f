"""Curves worked out by hand, and their areas against the figures."""

from __future__ import annotations

import numpy as np
import pytest

from mismatch.evaluation.curves import POINTS, histogram, precision_recall_curve, roc_curve, sweep
from mismatch.evaluation.metrics import auroc, confusion_matrix

RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 2, 3000)
SCORES = np.round((LABELS * 0.4 + RNG.random(3000)) / 1.4, 3)


def test_roc_by_hand() -> None:
    found = roc_curve([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1])
    np.testing.assert_allclose(found, np.array([[0, 0], [0, 0.5], [0.5, 1], [1, 1]]))
    assert roc_curve([1, 1], [0.2, 0.3]).shape == (0, 2)


def test_the_area_below_the_roc_is_the_auroc_though_it_is_thinned() -> None:
    curve = roc_curve(LABELS, SCORES)
    assert len(curve) <= POINTS
    area = (np.diff(curve[:, 0]) * (curve[1:, 1] + curve[:-1, 1]) / 2).sum()
    assert area == pytest.approx(auroc(LABELS, SCORES), abs=1e-4)


def test_precision_and_recall_of_either_class_by_hand() -> None:
    labels, scores = [1, 0, 1, 0, 0], [0.9, 0.8, 0.5, 0.3, 0.1]
    np.testing.assert_allclose(
        precision_recall_curve(labels, scores),
        [[0.5, 1], [0.5, 0.5], [1, 2 / 3], [1, 0.5], [1, 0.4]],
    )
    np.testing.assert_allclose(
        precision_recall_curve(labels, scores, of=0),
        [[1 / 3, 1], [2 / 3, 1], [2 / 3, 2 / 3], [1, 0.75], [1, 0.6]],
    )
    assert precision_recall_curve([1], [0.5], of=0).shape == (0, 2)


def test_a_sweep_counts_the_decisions_of_each_threshold() -> None:
    table = sweep(LABELS, SCORES, always=[0.123456])
    assert 0.123456 in table["threshold"]
    assert len(table["threshold"]) <= POINTS + 3
    assert table["threshold"] == sorted(table["threshold"])
    for at in (0, 100, len(table["threshold"]) - 1, table["threshold"].index(0.123456)):
        (tn, fp), (fn, tp) = confusion_matrix(LABELS, table["threshold"][at] <= SCORES).tolist()
        assert [table[name][at] for name in ("tn", "fp", "fn", "tp")] == [tn, fp, fn, tp]
    assert (table["tn"][0], table["fn"][0]) == (0, 0)
    assert (table["tp"][-1], table["fp"][-1]) == (0, 0)


def test_a_histogram_holds_every_row() -> None:
    edges, mismatches, matches = histogram(LABELS, SCORES)
    assert (mismatches.sum(), matches.sum()) == ((LABELS == 0).sum(), (LABELS == 1).sum())
    assert (edges[0], edges[-1], len(edges)) == (0, 1, 41)
    edges, mismatches, matches = histogram([1, 0], [0.3, -0.1])
    assert (edges[0], edges[-1]) == pytest.approx((-0.1, 0.3))
    assert histogram([1, 0], [-0.2, -0.2])[1].sum() == 1
