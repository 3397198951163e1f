"""mismatch.explain_rows: the worst rows from Python, without a word on standard output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mismatch
from mismatch.errors import InputError
from mismatch.runtime.predictor import Predictor

ROWS = [
    {"image_path": "red.png", "text": "red shirt"},
    {"image_path": "red.png", "text": "blue shirt"},
    {"image_path": "gone.png", "text": "red"},
    {"image_path": "blue.png", "text": "blue bag"},
]


@pytest.fixture
def model(colour_engine: Any, colour_images: Path, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """The numpy engine, in the folder of its images."""
    monkeypatch.chdir(colour_images)
    return Predictor(colour_engine())


def test_the_worst_rows_of_a_path_mappings_and_a_frame(
    model: Predictor, write_rows: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pandas = pytest.importorskip("pandas")
    path = write_rows(Path("rows.csv"), [ROWS[0], *(row.values() for row in ROWS)])
    found = mismatch.explain_rows(model, path, worst=1, no_heat_map=True, output="out")
    assert isinstance(found, mismatch.ExplainRowsResult)
    assert (found.rows, found.failed) == (4, 1)
    [row] = found.explanations
    assert isinstance(row, mismatch.RowExplanation)
    assert (row.line, [word.text for word in row.explanation.named]) == (3, ["blue"])
    data = json.loads(Path("out/explanations.json").read_text())
    assert data == json.loads(json.dumps(found.to_dict()["explanations"]))
    assert data[0]["line"] == 3
    for rows in (pandas.DataFrame(ROWS), iter(ROWS)):
        again = mismatch.explain_rows(model, rows, worst=1, no_heat_map=True)
        assert [one.explanation for one in again.explanations] == [row.explanation]
    assert capsys.readouterr() == ("", "")


def test_where_no_row_is_wrong_the_log_says_so(
    model: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        found = mismatch.explain_rows(model, [ROWS[0] | {"label": 1}], no_heat_map=True)
    assert found.explanations == ()
    assert "nothing to explain" in caplog.text


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (ROWS, {"heat_map": False}, "no option 'heat_map'"),
        (ROWS, {"worst": 0}, "`worst` is 0"),
        (ROWS, {"output": "one.png"}, "a .png holds one pair; with `rows`"),
        (ROWS, {"no_lexicon": True, "lexicon": "a.yaml"}, "exclude each other"),
        (ROWS[2:3], {}, "not one of its rows could be scored"),
    ],
)
def test_what_is_refused(model: Predictor, rows: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        mismatch.explain_rows(model, rows, **options)
