"""What an audit of labels is as a value; how it comes about is in test_audit_labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import InputError
from mismatch.evaluation.label_errors import LabelFinding, Share
from mismatch.jobs.label_audit import LabelAudit


def finding(rank: int | None) -> LabelFinding:
    score = None if rank is None else 0.9
    return LabelFinding(2, "red.png", "red mug", 1, rank, score, score, "", "ok", {})


def audit(**more: Any) -> LabelAudit:
    facts: dict[str, Any] = {
        "csv": "rows.csv",
        "image_base_path": "",
        "findings": [finding(1), finding(2), finding(None)],
        "share": Share(0.05, 0.03, 0.08, 0.07, 400),
        "auroc": 0.9,
        "folds": 5,
        "repeats": 2,
        "texts_apart": True,
        "unscorable": 0,
        "model_note": "",
        "written": 0,
    }
    return LabelAudit(**(facts | more))


def test_it_is_short_to_look_at_and_ranks_what_could_be_scored() -> None:
    assert repr(audit()) == "LabelAudit(csv='rows.csv', rows=400, wrong=5.0 %)"
    assert [one.rank for one in audit().ranked()] == [1, 2]
    assert [one.rank for one in audit().ranked(1)] == [1]
    assert audit().to_dict()["share"]["confident"] == 0.07


def test_what_can_not_be_trusted_is_said() -> None:
    plain = audit().summary()
    assert plain[0].startswith("rows.csv: 400 rows ranked by 10 heads (5 folds of images, 2 times)")
    assert not any(line.startswith("warning") for line in plain)
    doubtful = audit(auroc=0.6, texts_apart=False, model_note="it was fine-tuned", unscorable=1200)
    lines = doubtful.summary()
    assert [line for line in lines if line.startswith("warning: ")][-1] == (
        "warning: it was fine-tuned"
    )
    assert sum(line.startswith("warning: ") for line in lines) == 3
    assert any(line.startswith("1,200 rows could not be scored") for line in lines)


def test_shares_by_kind_and_reversed_labels_are_said() -> None:
    sure = Share(0.0, 0.0, 0.004, 0.07, 300)
    dark = Share(0.1, 0.0, 0.3, 0.07, 60, "heads guess")
    kinds = {"match": sure, "random": sure, "hard": dark}
    lines = audit(kinds=kinds, rows=900, reversed_note="are the labels reversed?").summary()
    assert "400 of 900 rows ranked" in lines[0]
    assert "warning: are the labels reversed?" in lines
    assert "random (300): 0.0 %, 0.0 to 0.4 %" in lines[-1]
    assert "hard (60): can't be told, 0.0 to 30.0 %" in lines[-1]
    plain = audit(kinds={"match": sure, "mismatch": sure}, rows=400).summary()
    assert "a column of kinds" in plain[-1]
    assert "400 rows ranked" in plain[0]
    unknown = audit(share=dark).summary()
    assert "can't be told, as heads guess" in unknown[-1]


def test_a_page_replaces_only_an_older_one(
    colour_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(colour_images)
    audit().save("page.html")
    audit().save("page.html", top=1)
    assert Path("page.html").read_text(encoding="utf-8").count("data:image/jpeg;base64,") == 1
    Path("notes.html").write_text("mine")
    with pytest.raises(InputError, match=r"`path` notes\.html is there already"):
        audit().save("notes.html")
