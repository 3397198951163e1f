"""Lines for people about an evaluation; whole outputs are in test_evaluate."""

from __future__ import annotations

from typing import Any

from mismatch.evaluation.metrics import binary_metrics
from mismatch.reports.evaluation_lines import result_lines


def report(**more: Any) -> dict[str, Any]:
    """The least that report.json says."""
    metrics = binary_metrics([0, 1, 1], [0.2, 0.7, 0.4], 0.5)
    facts = {
        "model": "m",
        "csv": "rows.csv",
        "rows": 3,
        "scored": 3,
        "unscorable": 0,
        "first_unscorable": [],
        "threshold": {"value": 0.5, "source": "default"},
        "metrics": metrics,
        "intervals": {name: [0.1, 0.9] for name in metrics},
        "bootstrap": {"level": 0.95, "resampled_by": "row", "images": 3},
        "slices": {},
        "kinds": {},
        "review": None,
        "blind": {"text_auroc": 0.5, "image_auroc": None},
    }
    return facts | more


def test_the_rows_the_threshold_and_the_figures_come_first() -> None:
    lines = list(result_lines(report(), None))
    assert lines[:2] == [
        "rows.csv: 3 rows scored by m",
        "threshold          0.5000  the default; none is stored with the model",
    ]
    assert "accuracy            0.6667  0.1000..0.9000" in lines
    assert any("AUROC of texts alone 0.5000; 0.5 is chance" in line for line in lines)


def test_rows_that_could_not_be_scored_come_last() -> None:
    failures = [{"line": line, "status": "gone"} for line in range(2, 12)]
    facts = report(rows=15, unscorable=12, first_unscorable=failures)
    lines = list(result_lines(facts, "2 texts were long"))
    assert lines[-12:-10] == [
        "\n12 of 15 rows could not be scored and are not in these figures:",
        "rows.csv:2: gone",
    ]
    assert lines[-1] == "… and 2 more"
    assert "\n2 texts were long" in lines
