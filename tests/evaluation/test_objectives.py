"""What thresholds are chosen for: written, read, and worth what it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.evaluation.objectives import CutCounts, Objective, check_prevalence

# 10 of each, three cuts
COUNTS = CutCounts(
    np.array([8.0, 6.0, 0.0]),
    np.array([4.0, 1.0, 0.0]),
    np.array([2.0, 4.0, 10.0]),
    np.array([6.0, 9.0, 10.0]),
)


@pytest.mark.parametrize(
    ("objective", "written", "worth"),
    [
        (Objective(), "accuracy", [14 / 20, 15 / 20, 10 / 20]),
        (Objective("f1"), "f1", [16 / 22, 12 / 17, 0]),
        (Objective("balanced-accuracy"), "balanced-accuracy", [0.7, 0.75, 0.5]),
        (
            Objective("mcc"),
            "mcc",
            [(8 * 6 - 4 * 2) / (12 * 8 * 100) ** 0.5, (6 * 9 - 1 * 4) / (7 * 13 * 100) ** 0.5, 0],
        ),
        (Objective("cost", 5, 1), "cost:miss=5,alarm=1", [-22, -9, -10]),
        (Objective("precision", target=0.7), "mismatch precision>=0.7", [0.6, -np.inf, -np.inf]),
        (Objective("recall", target=0.9), "mismatch recall>=0.9", [-np.inf, 9 / 13, 0.5]),
        (
            Objective("precision", target=0.8, of="match"),
            "match precision>=0.8",
            [-np.inf, 0.6, -np.inf],
        ),
        (
            Objective("recall", target=0.8, of="match"),
            "match recall>=0.8",
            [8 / 12, -np.inf, -np.inf],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_worth(objective: Objective, written: str, worth: list[float]) -> None:
    np.testing.assert_allclose(objective.worth(COUNTS), worth)
    assert str(objective) == written
    assert Objective.parse(written) == objective


@pytest.mark.parametrize(
    "objective",
    [
        Objective(prevalence=0.03),
        Objective("cost", 5, 1, prevalence=0.5),
        Objective("precision", target=0.95, prevalence=0.001),
        Objective("recall", target=0.9, of="match", prevalence=0.97),
    ],
    ids=str,
)
def test_a_prevalence_stands_behind_what_is_written(objective: Objective) -> None:
    plain = replace(objective, prevalence=None)
    assert str(objective) == f"{plain} at prevalence {objective.prevalence:g}"
    assert Objective.parse(str(objective)) == objective
    assert objective.describe().startswith(f"{plain.describe()}, where ")


def test_worth_is_that_of_the_weighed_rows() -> None:
    """Of 20 rows 2 are mismatches: each of the 10 matches counts 1.8, each mismatch 0.2."""
    weighed = COUNTS.at_prevalence(0.1)
    assert weighed.rows.tolist() == pytest.approx([20.0] * 3)
    assert weighed.alarms == pytest.approx([(2 * 1.8 + 6 * 0.2) / 20, (4 * 1.8 + 1.8) / 20, 1.0])
    assert weighed.recall("mismatch") == pytest.approx([0.6, 0.9, 1.0])
    worth = Objective(prevalence=0.1).worth(COUNTS)
    assert worth == pytest.approx([(8 * 1.8 + 6 * 0.2) / 20, (6 * 1.8 + 1.8) / 20, 0.1])


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, 3, float("nan"), "0.03", True])
def test_what_is_no_share_of_mismatches(prevalence: Any) -> None:
    with pytest.raises(InputError, match=r"`prevalence` is .*0\.03 for three in a hundred"):
        check_prevalence(prevalence)


def test_figures_that_do_not_exist_are_nan() -> None:
    assert np.isnan(COUNTS.precision("match")[2])
    assert COUNTS.recall("match")[2] == 0
    assert COUNTS.alarms.tolist() == [8 / 20, 13 / 20, 1]


@pytest.mark.parametrize(
    "written",
    [
        "profit",
        "precision",
        "cost",
        "cost:miss=a,alarm=1",
        "mismatch precision>=x",
        "dog recall>=0.5",
        "accuracy at prevalence x",
        "accuracy at prevalence",
        "",
    ],
)
def test_what_is_not_understood(written: str) -> None:
    with pytest.raises(InputError, match=r"is unknown; one of accuracy, f1|not of 'dog'"):
        Objective.parse(written)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "luck"}, "'luck' is unknown"),
        ({"kind": "cost", "cost_miss": 0}, "both must be above 0"),
        ({"kind": "precision"}, "a target precision of 0.0"),
        ({"kind": "recall", "target": 1.5}, "a target recall of 1.5"),
        ({"kind": "recall", "target": 0.5, "of": "dog"}, "not of 'dog'"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Objective(**options)


def test_it_describes_itself() -> None:
    assert (
        Objective("precision", target=0.95).describe()
        == "precision of mismatches at least 0.95, with the most recall"
    )
    assert (
        Objective("cost", 5, 2).describe()
        == "least cost, a missed mismatch at 5 and a false alarm at 2"
    )
    assert Objective("f1").describe() == "best F1 of the matches"
