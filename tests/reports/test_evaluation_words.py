"""How figures are written for people; whole outputs are in test_evaluate."""

from __future__ import annotations

import pytest

from mismatch.evaluation.metrics import binary_metrics
from mismatch.reports.evaluation_words import (
    FIGURES,
    SHARES,
    bounds,
    number,
    origin,
    percent,
    percents,
)

NAN = float("nan")


def test_numbers() -> None:
    assert [number(0.12345), number(NAN), number(None)] == ["0.1235", "–     ", "–     "]
    assert [percent(0.9312), percent(NAN), percent(None)] == ["93.1 %", "–", "–"]
    assert [bounds([0.1, 0.2]), bounds([0.1, 0.2], 1), bounds([NAN, NAN]), bounds(None)] == [
        "0.1000..0.2000",
        "0.1..0.2",
        "",
        "",
    ]
    assert [percents([0.1, 0.234]), percents([NAN, NAN])] == ["10.0..23.4", ""]


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        ({"source": "flag"}, "given by `threshold`"),
        ({"source": "default"}, "the default; none is stored with the model"),
        (
            {
                "source": "stored",
                "objective": "mismatch precision>=0.95",
                "rows": 90,
                "date": "2026-03-04T05",
            },
            "stored with the model: mismatch precision>=0.95 on 90 rows, 2026-03-04",
        ),
        (
            {"source": "stored", "objective": "f1", "rows": 1234, "date": "2026-03-04T05"},
            "stored with the model: best f1 on 1,234 rows, 2026-03-04",
        ),
    ],
)
def test_the_origin_of_a_threshold(threshold: dict[str, object], words: str) -> None:
    assert origin(threshold) == words


def test_every_figure_has_a_name() -> None:
    found = binary_metrics([0, 1], [0.2, 0.7], 0.5)
    assert set(FIGURES) | set(SHARES) == set(found) - {"rows", "threshold", "confusion_matrix"}
