"""mismatch.data.audit.report: what was found, for people and for programs."""

from __future__ import annotations

from collections import Counter

from mismatch.data.audit.findings import Finding
from mismatch.data.audit.problems import ProblemGroup
from mismatch.data.audit.report import Audit, FileAudit


def file_audit(path: str = "train.csv") -> FileAudit:
    file = FileAudit(
        path,
        rows=10,
        labels=Counter({1: 6, 0: 2}),
        texts=9,
        images={"a.png": [2, 3]},
        bad_images=1,
        blind={"texts": 0.52, "images": None},
        bad_lines={2, 3},
        warnings=["odd"],
        findings=[Finding("markup", "1 text holds HTML", 1, [4])],
    )
    file.set_problems([ProblemGroup("empty", 3, [(2, "the text is empty")])])
    return file


def test_the_lines_of_a_file() -> None:
    assert list(file_audit().lines()) == [
        "train.csv",
        "  rows      10, 2 can't be used",
        "  labels    0 (mismatch): 2 (25.0%), 1 (match): 6 (75.0%), neither: 2",
        "  images    1 distinct, 1 can't be used",
        "  texts     9 distinct",
        "  blind     texts 0.52 (AUROC with which these alone tell the labels; 0.5 is best)",
        "  problems  3: 3 rows with an empty field",
        "train.csv:2: the text is empty",
        "train.csv: … and 2 more rows with an empty field",
        "warning: train.csv: odd",
        "warning: train.csv: 1 text holds HTML",
    ]


def test_a_fault_of_the_file_makes_all_rows_unusable() -> None:
    file = file_audit()
    file.faults.append((1, "column 'text' is missing"))
    assert file.unusable == 10


def test_all_files_together() -> None:
    good = FileAudit("val.csv", rows=5, labels=Counter({1: 5}))
    audit = Audit([good], [])
    assert (audit.ok, audit.doubtful) == (True, False)
    assert audit.verdict() == "fit to train on: 5 rows, no problems"
    both = Audit([file_audit(), good], ["few rows"], leaks={(0, 1): {"b.png", "a.png"}})
    assert (both.ok, both.doubtful) == (False, True)
    assert list(both.lines())[-2:] == [
        "warning: few rows",
        "not fit to train on: 3 problems, 2 of 15 rows can't be used",
    ]
    found = both.to_dict()
    assert found["leaks"] == [{"files": ["train.csv", "val.csv"], "images": ["a.png", "b.png"]}]
    assert [file["unusable_rows"] for file in found["files"]] == [2, 0]
