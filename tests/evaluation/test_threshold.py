"""The chosen threshold is as good as the best of all cuts, and lies in the middle of the widest gap
among equals.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from mismatch.errors import InputError
from mismatch.evaluation.metrics import binary_metrics
from mismatch.evaluation.objectives import Objective
from mismatch.evaluation.threshold import (
    FIGURES,
    MISSED,
    OBJECTIVES,
    choose_again,
    choose_threshold,
    describe_objective,
    expected_figures,
    limit_missed,
    threshold_table,
)
from mismatch.specs import Threshold
from tests.support.paths import WHOLE

# 300 draws of each objective take a tenth of a minute; a whole run takes all three
DRAWN = ("recall", "precision", "accuracy") if WHOLE else ("recall",)
OBJECTIVE = {
    "precision": Objective("precision", target=0.95),
    "recall": Objective("recall", target=0.9),
    "accuracy": Objective(),
}


def worth(labels: np.ndarray, scores: np.ndarray, threshold: float, objective: str) -> float:
    metrics = binary_metrics(labels, scores, threshold)
    return float(
        (metrics["recall"] + metrics["mismatch_recall"]) / 2
        if objective == "balanced-accuracy"
        else metrics[objective]
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(15))
def test_no_cut_is_better(objective: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.append(rng.random(50) < 0.3, [False, True]).astype(int)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    scores = scores.round(1) if seed % 2 else scores  # many ties, or few
    chosen = choose_threshold(labels, scores, objective)
    cuts = [
        *np.unique(scores),
        np.nextafter(scores.max(), 2),
        *((np.unique(scores)[1:] + np.unique(scores)[:-1]) / 2),
    ]
    best = max(worth(labels, scores, cut, objective) for cut in cuts)
    assert worth(labels, scores, chosen.value, objective) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "value"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], 0.4),  # midway
        ([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.9], 0.6),  # 0.15 is as good, its gap narrower
        ([0, 1, 0, 1], [0.0, 0.7, 0.8, 0.9], 0.35),
        ([1, 0], [0.2, 0.8], 0.2),  # all matches or none: the lower one
    ],
)
def test_where_it_lies(labels: list[int], scores: list[float], value: float) -> None:
    assert choose_threshold(labels, scores).value == pytest.approx(value)


@pytest.mark.parametrize("low", [0.1, 0.3, 0.5, float(np.nextafter(0.5, 1)), 0.7])
def test_neighbours_without_a_number_between_them_are_still_told_apart(low: float) -> None:
    high = float(np.nextafter(low, 1))
    chosen = choose_threshold([0, 1], [low, high])
    assert low < chosen.value <= high


def test_it_records_what_it_was_chosen_on() -> None:
    chosen = choose_threshold([0, 0, 1], [0.1, 0.2, 0.6], "f1")
    assert (chosen.objective, chosen.rows) == ("f1", 3)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(chosen.date)).total_seconds()) < 60


@pytest.mark.parametrize(
    ("labels", "scores", "objective", "words"),
    [
        ([1, 1], [0.1, 0.2], "accuracy", "there are 2 and 0"),
        ([0, 0], [0.1, 0.2], "f1", "there are 0 and 2"),
        (
            [0, 1],
            [0.1, 0.2],
            "profit",
            "'profit' is unknown; one of accuracy, f1, balanced-accuracy",
        ),
        ([0, 1], [0.1, float("nan")], "accuracy", "nan"),
        ([], [], "accuracy", "at least one"),
    ],
)
def test_what_it_refuses(
    labels: list[int], scores: list[float], objective: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        choose_threshold(labels, scores, objective)


def drawn(rows: int, seed: int, gap: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores that overlap."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.5).astype(int)
    return labels, 1 / (1 + np.exp(-rng.normal(gap * (labels - 0.5), 1)))


@pytest.mark.parametrize(
    "objective",
    [
        Objective("precision", target=0.9),
        Objective("recall", target=0.9),
        Objective("precision", target=0.9, of="match"),
        Objective("cost", 10, 1),
    ],
)
def test_targets_are_reached_and_no_other_cut_is_better(objective: Objective) -> None:
    labels, scores = drawn(2_000, 0, 3.0)
    chosen = choose_threshold(labels, scores, objective)
    assert chosen.objective == str(objective)
    [line] = threshold_table(labels, scores, [chosen.value])
    lines = threshold_table(labels, scores, list(np.quantile(scores, np.linspace(0, 1, 400))))
    if objective.kind == "cost":
        costs = [
            10 * (1 - one["mismatch_recall"]) * (labels == 0).sum()
            + (1 - one["match_recall"]) * labels.sum()
            for one in (line, *lines)
        ]
        assert costs[0] == pytest.approx(min(costs))
        assert chosen.value > 0.6, "a missed mismatch costs more, so fewer pairs pass"
    else:
        name, other = (
            f"{objective.of}_{objective.kind}",
            f"{objective.of}_{'recall' if objective.kind == 'precision' else 'precision'}",
        )
        assert line[name] >= 0.9
        assert line[other] >= max(one[other] for one in lines if one[name] >= 0.9) - 1e-12


def test_a_target_out_of_reach_is_refused_with_the_best() -> None:
    with pytest.raises(
        InputError,
        match=(
            r"no threshold reaches precision of mismatches at least 0\.9 on these 4 rows; the best"
            r" is 0\.500"
        ),
    ):
        choose_threshold([1, 0, 1, 0], [0.1, 0.2, 0.3, 0.4], Objective("precision", target=0.9))


def test_a_threshold_is_chosen_again_for_other_scores() -> None:
    labels, scores = drawn(1_000, 1)
    for first in (
        choose_threshold(labels, scores, "mcc"),
        choose_threshold(labels, scores, Objective("recall", target=0.8)),
        limit_missed(labels, scores, 0.1, 0.9),
    ):
        again = choose_again(first, labels, scores**2)
        assert again.objective == first.objective
        assert ((scores >= first.value) == (scores**2 >= again.value)).all()
    with pytest.raises(InputError, match="'by hand' is unknown"):
        choose_again(Threshold(0.5, "by hand", 0, ""), labels, scores)
    broken = Threshold(0.5, f"{MISSED}some with confidence 0.9", 0, "")
    with pytest.raises(InputError, match="can't be read"):
        choose_again(broken, labels, scores)


def test_missed_mismatches_are_bounded_as_often_as_it_says() -> None:
    """In at least nine of ten draws of the rows, at most a tenth of all mismatches lie above the
    threshold, and not many less than that.
    """
    missed = []
    for seed in range(300):
        labels, scores = drawn(400, seed)
        value = limit_missed(labels, scores, 0.1, 0.9).value
        # the true share, as logits of mismatches are normal around -1
        missed.append(1 - _normal(np.log(value / (1 - value)) + 1))
    kept = np.mean(np.array(missed) <= 0.1)
    assert 0.88 <= kept <= 0.97
    assert np.mean(missed) > 0.06, "no stricter than it has to be"


def test_missed_mismatches_of_one_image_count_once() -> None:
    """Sixty images with ten mismatches each, which all pass or all don't: the promise is of images,
    and rows alone would break it in a third of the draws.
    """
    missed: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scores = np.repeat(rng.normal(-1, 1, 60), 10) + rng.normal(0, 0.01, 600)
        images = np.repeat(np.arange(60), 10)
        labels = [0] * 600 + [1] * 60
        everything = 1 / (1 + np.exp(-np.concatenate([scores, rng.normal(1, 1, 60)])))
        groups = np.concatenate([images, np.arange(60)])
        for grouped in (True, False):
            value = limit_missed(labels, everything, 0.1, 0.9, groups if grouped else None).value
            missed[grouped].append(1 - _normal(np.log(value / (1 - value)) + 1))
    assert np.mean(np.array(missed[True]) <= 0.1) >= 0.88
    assert np.mean(np.array(missed[False]) <= 0.1) < 0.75


def test_few_images_promise_nothing_though_they_have_many_rows() -> None:
    labels, scores = [0] * 40 + [1] * 20, np.linspace(0, 1, 60)
    with pytest.raises(InputError, match=r"from 20 mismatches of different images; 29 are"):
        limit_missed(labels, scores, 0.1, 0.95, [*range(20), *range(20), *range(20)])


def _normal(z: float) -> float:
    return 0.5 * (1 + math.erf(z / 2**0.5))


def test_too_few_mismatches_promise_nothing() -> None:
    labels, scores = [0] * 20 + [1] * 20, list(np.linspace(0, 1, 40))
    with pytest.raises(InputError, match=r"can't be promised from 20 mismatches; 29 are needed"):
        limit_missed(labels, scores, 0.1, 0.95)
    assert limit_missed(
        [0] * 29 + [1] * 20, np.linspace(0, 1, 49), 0.1, 0.95
    ).value == pytest.approx(28.5 / 48)


@pytest.mark.parametrize(("share", "confidence"), [(0, 0.9), (1, 0.9), (0.1, 0), (0.1, 1)])
def test_promises_of_nothing_are_refused(share: float, confidence: float) -> None:
    with pytest.raises(InputError, match="both must lie between 0 and 1"):
        limit_missed([0, 1], [0.1, 0.9], share, confidence)


def test_the_table_is_a_grid_of_a_round_step() -> None:
    labels, scores = drawn(500, 2)
    lines = threshold_table(labels, scores)
    assert 10 <= len(lines) <= 26
    assert {round(line["threshold"] / 0.05, 6) % 1 for line in lines} == {0.0}
    for line in lines[::5]:
        metrics = binary_metrics(labels, scores, line["threshold"])
        for name in ("accuracy", "mismatch_precision", "mismatch_recall", "mismatch_f1"):
            assert line[name] == pytest.approx(metrics[name])
        assert line["match_precision"] == pytest.approx(metrics["precision"])
        assert line["alarm_rate"] == pytest.approx(float((scores < line["threshold"]).mean()))
    cosines = threshold_table([0, 1, 1], [0.21, 0.25, 0.3])
    assert [line["threshold"] for line in cosines][:2] == [0.21, 0.215]


def covered(objective: Objective, repeats: int, level: float, rows: int = 700) -> dict[str, float]:
    """How often a figure on new rows lies in the interval that the rows before it gave."""
    hits = dict.fromkeys(FIGURES, 0)
    for seed in range(repeats):
        labels, scores = drawn(rows, 2 * seed, 3.0)
        value = choose_threshold(labels, scores, objective).value
        bounds = expected_figures(labels, scores, objective, level=level, resamples=200, seed=seed)
        [line] = threshold_table(*drawn(rows, 2 * seed + 1, 3.0), [value])
        for name in FIGURES:
            hits[name] += bounds[name].low <= line[name] <= bounds[name].high
    return {name: count / repeats for name, count in hits.items()}


@pytest.mark.parametrize("objective", [Objective("precision", target=0.95), Objective()], ids=str)
def test_intervals_hold_on_new_rows(objective: Objective) -> None:
    """80 % intervals, 100 draws: four standard errors of the count are 16 points."""
    for name, share in covered(objective, 100, 0.8).items():
        assert 0.64 <= share <= 0.96, name


@pytest.mark.slow
@pytest.mark.parametrize("objective", [OBJECTIVE[name] for name in DRAWN], ids=str)
def test_the_coverage_is_the_level_within_five_points(objective: Objective) -> None:
    repeats = 300 if WHOLE else 150
    for name, share in covered(objective, repeats, 0.9).items():
        assert share == pytest.approx(0.9, abs=0.05 if WHOLE else 0.07), name


@pytest.mark.slow
@pytest.mark.skipif(not WHOLE, reason="WHOLE=1 splits the same scores again")
def test_the_coverage_over_resplits_of_the_same_scores() -> None:
    """Two hundred times half of the rows choose a threshold for precision 0.95 and say where it
    will lie on the other half.
    """
    labels, scores = drawn(2_812, 1, 3.0)
    wanted, random = Objective("precision", target=0.95), np.random.default_rng(1)
    hits = dict.fromkeys(FIGURES, 0)
    for seed in range(200):
        half = random.permutation(len(labels)) < len(labels) // 2
        value = choose_threshold(labels[half], scores[half], wanted).value
        bounds = expected_figures(
            labels[half], scores[half], wanted, level=0.9, resamples=200, seed=seed
        )
        [line] = threshold_table(labels[~half], scores[~half], [value])
        for name in FIGURES:
            hits[name] += bounds[name].low <= line[name] <= bounds[name].high
    for name, count in hits.items():
        assert count / 200 == pytest.approx(0.9, abs=0.05), name


def test_a_given_threshold_has_intervals_without_a_choice() -> None:
    labels, scores = drawn(1_000, 3)
    chosen, given = (
        expected_figures(labels, scores, objective, threshold=0.5, resamples=300)
        for objective in (Objective(), None)
    )
    accuracy = float(((scores >= 0.5) == labels).mean())
    assert given["accuracy"].low < accuracy < given["accuracy"].high
    assert chosen["accuracy"] != given["accuracy"]
    assert np.isnan(expected_figures(labels, scores, None)["accuracy"].low)


def test_an_objective_is_described_from_what_is_stored() -> None:
    chosen = limit_missed([0] * 60 + [1] * 60, np.arange(120) / 120, 0.1, 0.95)
    assert describe_objective(chosen.objective) == (
        "at most 0.1 of all mismatches pass, with confidence 0.95"
    )
    for objective in (Objective("f1"), Objective("precision", target=0.95)):
        assert describe_objective(str(objective)) == objective.describe()
    with pytest.raises(InputError, match="unknown"):
        describe_objective("by hand")
