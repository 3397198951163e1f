"""What an evaluation is as a value; how it is measured is in test_evaluate."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.errors import MissingExtraError
from mismatch.evaluation.decisions import Decisions
from mismatch.jobs.evaluation_result import NOT_REPORTED, Evaluation

EMPTY: dict[str, Any] = {
    "metrics": {"accuracy": 0.75, "auroc": float("nan")},
    "model": "m",
    "scored": 4,
    "stress": None,
    "against": None,
    "review": None,
    "decisions": Decisions([1], [0.7], [0.5]),
    "errors": {"missed": [], "alarms": []},
}


def evaluation(**more: Any) -> Evaluation:
    values: dict[str, Any] = dict.fromkeys(field.name for field in fields(Evaluation))
    return Evaluation(**(values | EMPTY | more))


def test_it_is_short_to_look_at() -> None:
    assert repr(evaluation()) == "Evaluation(model='m', scored=4, accuracy=0.7500, auroc=nan)"


def test_what_was_not_asked_for_is_not_reported() -> None:
    report = evaluation().to_dict()
    assert not {"stress", "against", *NOT_REPORTED} & set(report)
    assert report["review"] is None
    assert list(evaluation(against={"model": "n"}).to_dict())[-1] == "against"


def test_a_page_needs_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mismatch.jobs.evaluation_result.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"Evaluation\.save needs the extra \[report\]"):
        evaluation().save(tmp_path / "page.html")
    assert mismatch.Evaluation is Evaluation
