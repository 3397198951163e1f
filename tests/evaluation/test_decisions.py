"""Which rows were decided wrongly, and which of them most surely."""

from __future__ import annotations

from mismatch.evaluation.decisions import MAX_ERRORS_SHOWN, Decisions, WrongRow, worst_rows


def rows(labels: list[int], scores: list[float]) -> list[WrongRow]:
    return [
        WrongRow(line, f"{line}.png", "red", label, score, 0.5)
        for line, (label, score) in enumerate(zip(labels, scores, strict=True), start=2)
    ]


def test_the_worst_errors_are_the_surest_ones() -> None:
    worst = worst_rows(rows([0, 0, 0, 1, 1, 1], [0.6, 0.9, 0.2, 0.4, 0.1, 0.8]))
    assert [(row.line, row.score) for row in worst["missed"]] == [(3, 0.9), (2, 0.6)]
    assert [(row.line, row.score) for row in worst["alarms"]] == [(6, 0.1), (5, 0.4)]
    assert len(worst_rows(rows([0] * 40, [0.9] * 40))["missed"]) == MAX_ERRORS_SHOWN


def test_a_score_at_the_threshold_is_a_match() -> None:
    missed, right = rows([0, 1], [0.5, 0.5])
    assert (missed.kind, right.kind) == ("missed", None)
    assert Decisions([0, 1], [0.5, 0.5], [0.5, 0.5]).labels == [0, 1]
