"""Choose the score from which a pair counts as a match, and say how good it will be
on other rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import ceil, exp, lgamma, log, log1p
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError
from mismatch.evaluation.bootstrap import LEVEL, RESAMPLES, Interval, percentiles, resamples_of
from mismatch.evaluation.metrics import checked
from mismatch.evaluation.objectives import FIGURES, NAMES, CutCounts, Objective
from mismatch.evaluation.prevalence import independent, with_rare_alarms
from mismatch.specs import Threshold

__all__ = [
    "FIGURES",
    "OBJECTIVES",
    "Cuts",
    "choose_again",
    "choose_threshold",
    "describe_objective",
    "expected_figures",
    "limit_missed",
    "now",
    "threshold_table",
]

Floats = NDArray[np.float64]
OBJECTIVES = NAMES
MISSED = "missed mismatches<="  # begins the objective of `limit_missed`


class Cuts:
    """The rows' scores, sorted, and every threshold that tells some of them apart: below all,
    between neighbours, above all.
    """

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        truth, values = checked(labels, scores)
        self.matches = int((truth == 1).sum())
        self.mismatches = int((truth == 0).sum())
        if not self.matches or not self.mismatches:
            raise InputError(
                f"a threshold needs both matches and mismatches; there are {self.matches} and"
                f" {self.mismatches}"
            )
        self.truth = truth
        self.distinct, place = np.unique(values, return_inverse=True)  # (K,) ascending, (N,)
        self.place = truth * len(self.distinct) + place  # (N,) 0..2K: of mismatches, of matches

    def per_score(self, rows: NDArray[np.int64] | None = None) -> tuple[Floats, Floats]:
        """Count how many matches and mismatches have each distinct score, (K,) each; `rows`:
        numbers of the rows that count, with repeats.
        """
        place = self.place if rows is None else self.place[rows]
        counts = np.bincount(place, minlength=2 * len(self.distinct)).astype(np.float64)
        return counts[len(self.distinct) :], counts[: len(self.distinct)]

    def choose(self, objective: Objective, rows: NDArray[np.int64] | None = None) -> float:
        """Choose the best threshold: midway between neighbouring scores, in the widest gap among
        equals. nan where no cut reaches a target.
        """
        matches, mismatches = self.per_score(rows)
        there = matches + mismatches > 0
        scores = self.distinct[there]
        counts = _counts(matches[there], mismatches[there])
        worth = objective.worth(counts)
        if not np.isfinite(worth.max()):
            return float("nan")
        edges = np.concatenate(
            [scores[:1], _between(scores[:-1], scores[1:]), [np.nextafter(scores[-1], np.inf)]]
        )
        gaps = np.concatenate([[0.0], np.diff(scores), [0.0]])
        best = np.flatnonzero(worth >= worth.max() - 1e-12)
        return float(edges[best[np.argmax(gaps[best])]])

    def counts(self, thresholds: ArrayLike, rows: NDArray[np.int64] | None = None) -> CutCounts:
        """Return what each of the thresholds, (T,), does to the rows."""
        whole = _counts(*self.per_score(rows))
        positions = np.searchsorted(self.distinct, np.asarray(thresholds, np.float64), side="left")
        return CutCounts(*(np.asarray(values)[positions] for values in vars(whole).values()))

    def counts_at(self, threshold: float, rows: NDArray[np.int64]) -> tuple[float, ...]:
        """Return what one threshold does to the rows: the four fields of CutCounts."""
        matches, mismatches = self.per_score(rows)
        cut = int(np.searchsorted(self.distinct, threshold, side="left"))
        above = (matches[cut:].sum(), mismatches[cut:].sum())
        below = (matches[:cut].sum(), mismatches[:cut].sum())
        return (*above, *below)


def _counts(matches: Floats, mismatches: Floats) -> CutCounts:
    """Map (K,) of each distinct score, ascending → of K + 1 cuts; cut k lies below score k."""
    passed, missed = (
        np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]]) for values in (matches, mismatches)
    )
    return CutCounts(passed, missed, matches.sum() - passed, mismatches.sum() - missed)


def choose_threshold(
    labels: ArrayLike, scores: ArrayLike, objective: str | Objective = "accuracy"
) -> Threshold:
    """Map (N,) labels, (N,) scores → the threshold that is best for the objective; midway between
    neighbouring scores, in the widest gap among equals.

    InputError for an unknown objective, unless both labels occur, and where no threshold reaches a
    target.
    """
    wanted = Objective.parse(objective) if isinstance(objective, str) else objective
    cuts = Cuts(labels, scores)
    value = cuts.choose(wanted)
    if np.isnan(value):
        counts = cuts.counts(cuts.distinct).at_prevalence(wanted.prevalence)
        best = float(
            np.nanmax(
                (counts.precision if wanted.kind == "precision" else counts.recall)(wanted.of)
            )
        )
        raise InputError(
            f"no threshold reaches {wanted.describe().partition(',')[0]} on these"
            f" {len(cuts.truth):,} rows{_weighed(wanted.prevalence)}; the best is {best:.3f}"
        )
    return Threshold(value, str(wanted), len(cuts.truth), now())


def _weighed(prevalence: float | None) -> str:
    if prevalence is None:
        return ""
    return f", weighed so that {100 * prevalence:g} % are mismatches"


def now() -> str:
    """Return the time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _between(lower: Floats, upper: Floats) -> Floats:
    """Return what lies midway, and above `lower` even where no number lies between the two."""
    middle = lower + (upper - lower) / 2
    return np.where(middle > lower, middle, upper)


def expected_figures(  # noqa: PLR0913
    labels: ArrayLike,
    scores: ArrayLike,
    objective: Objective | None,
    *,
    threshold: float | None = None,
    prevalence: float | None = None,
    groups: ArrayLike | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return of each of FIGURES where it will lie, with this `level`, on as many other rows of the
    same kind, weighed so that `prevalence` of them are mismatches. An interval holds the figure of
    these rows too.

    In each resample a threshold is chosen again by the `objective`, or is the given `threshold`,
    and used on a second, independent resample. How far the figure on the second is from that on the
    first is how far new rows are from these. That holds the chance of both samples, and the choice,
    which looks better on its own rows than on others. `groups` (N,): rows of one group, such as an
    image, are drawn together.
    """
    cuts = Cuts(labels, scores)
    here = threshold if objective is None else cuts.choose(objective)
    if here is None or np.isnan(here):
        return dict.fromkeys(FIGURES, Interval(float("nan"), float("nan")))
    seen = cuts.counts([here]).at_prevalence(prevalence)
    first: list[tuple[float, ...]] = []
    second: list[tuple[float, ...]] = []
    drawn = resamples_of(len(cuts.truth), resamples=2 * resamples, seed=seed, groups=groups)
    for chosen_on, used_on in zip(drawn, drawn, strict=True):
        some = cuts.truth[chosen_on]
        if not 0 < some.sum() < len(some):
            continue
        value = here if objective is None else cuts.choose(objective, chosen_on)
        if not np.isnan(value):
            first.append(cuts.counts_at(value, chosen_on))
            second.append(cuts.counts_at(value, used_on))
    before, after = (
        CutCounts(*np.array(counts).reshape(-1, 4).T).at_prevalence(prevalence)
        for counts in (first, second)
    )
    intervals = {
        name: _moved(float(figure(seen)[0]), percentiles(figure(after) - figure(before), level))
        for name, figure in FIGURES.items()
    }
    if prevalence is None:
        return intervals
    trials = independent(cuts.truth, groups)
    return with_rare_alarms(intervals, cuts.counts([here]), prevalence, trials, level)


def _moved(figure: float, by: Interval) -> Interval:
    moved = Interval(*(float(np.clip(figure + end, 0, 1)) for end in by))
    return moved.with_value(figure)


def threshold_table(
    labels: ArrayLike,
    scores: ArrayLike,
    thresholds: Sequence[float] | None = None,
    *,
    prevalence: float | None = None,
) -> list[dict[str, Any]]:
    """Return a line for each threshold, with FIGURES, of rows weighed so that `prevalence` of them
    are mismatches. The default is a grid from the lowest to the highest score in steps of a round
    number, about twenty.
    """
    cuts = Cuts(labels, scores)
    wanted = (
        _grid(float(cuts.distinct[0]), float(cuts.distinct[-1]))
        if thresholds is None
        else list(thresholds)
    )
    counts = cuts.counts(wanted).at_prevalence(prevalence)
    columns = {name: figure(counts) for name, figure in FIGURES.items()}
    return [
        {"threshold": value, **{name: float(column[i]) for name, column in columns.items()}}
        for i, value in enumerate(wanted)
    ]


def _grid(low: float, high: float) -> list[float]:
    step = next(
        (step for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05) if (high - low) / step <= 25), 0.1
    )
    return [round(i * step, 6) for i in range(ceil(low / step), int(high / step) + 1)] or [low]


def limit_missed(
    labels: ArrayLike,
    scores: ArrayLike,
    share: float,
    confidence: float,
    groups: ArrayLike | None = None,
) -> Threshold:
    """Return the lowest threshold at which, with this `confidence` over the choice of the rows, at
    most this `share` of all mismatches passes as matches.

    It holds for any scores, if the mismatches here are drawn independently from those to come. It
    is a one-sided tolerance limit (Wilks, 1941), as learn then test (Angelopoulos et al., 2021)
    gives for this risk. `groups` (N,): mismatches of one group, such as an image, are no
    independent ones; they count once, by the highest score. InputError where the mismatches are too
    few to promise it.
    """
    if not (0 < share < 1 and 0 < confidence < 1):
        raise InputError(
            f"a share of {share} missed mismatches with confidence {confidence} is asked for; both"
            " must lie between 0 and 1"
        )
    rows = np.size(labels)
    if groups is not None:
        labels, scores = _one_of_each(np.asarray(labels), np.asarray(scores), np.asarray(groups))
    cuts = Cuts(labels, scores)
    allowed = _allowed(cuts.mismatches, share, 1 - confidence)
    if allowed < 0:
        needed = ceil(log(1 - confidence) / log1p(-share))
        what = f"at most {share:g} of mismatches missed, with confidence {confidence:g}"
        raise InputError(
            f"{what}, can't be promised from {cuts.mismatches:,} mismatches"
            f"{' of different images' if len(cuts.truth) < rows else ''}; {needed:,} are needed"
        )
    _, mismatches = cuts.per_score()
    missed = np.concatenate([np.cumsum(mismatches[::-1])[::-1], [0.0]])  # (K + 1,) at each cut
    cut = int(np.argmax(missed <= allowed))
    scores_here = cuts.distinct
    above = np.nextafter(scores_here[-1], np.inf) if cut == len(scores_here) else scores_here[cut]
    value = (
        above
        if cut in (0, len(scores_here))
        else _between(scores_here[cut - 1 : cut], scores_here[cut : cut + 1])[0]
    )
    return Threshold(float(value), f"{MISSED}{share:g} with confidence {confidence:g}", rows, now())


def _one_of_each(
    labels: NDArray[Any], scores: NDArray[Any], groups: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return all matches, and of each group's mismatches the one with the highest score."""
    wrong = np.flatnonzero(labels == 0)
    wrong = wrong[np.argsort(-scores[wrong], kind="stable")]
    _, first = np.unique(groups[wrong], return_index=True)
    kept = np.sort(np.concatenate([np.flatnonzero(labels != 0), wrong[first]]))
    return labels[kept], scores[kept]


def choose_again(
    stored: Threshold,
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    prevalence: float | None = None,
    groups: ArrayLike | None = None,
) -> Threshold:
    """Choose a threshold for other scores, by what the stored one was chosen for. InputError as for
    the first choice, and for one that was given by hand. `prevalence`: another one than then.
    `groups` (N,): see `limit_missed`.
    """
    if stored.objective.startswith(MISSED):
        try:
            share, confidence = map(float, _missed_parts(stored.objective))
        except ValueError:
            raise InputError(f"its objective {stored.objective!r} can't be read") from None
        return limit_missed(labels, scores, share, confidence, groups)
    objective = Objective.parse(stored.objective)
    if prevalence is not None:
        objective = replace(objective, prevalence=prevalence)
    return choose_threshold(labels, scores, objective)


def describe_objective(objective: str) -> str:
    """Return what a stored threshold was chosen for, in words. InputError for others."""
    if objective.startswith(MISSED):
        share, confidence = _missed_parts(objective)
        return f"at most {share} of all mismatches pass, with confidence {confidence}"
    return Objective.parse(objective).describe()


def _missed_parts(objective: str) -> tuple[str, str]:
    """Return the share and the confidence, as `limit_missed` has written them."""
    share, _, confidence = objective.removeprefix(MISSED).partition(" with confidence ")
    return share, confidence


def _allowed(count: int, share: float, doubt: float) -> int:
    """Return the largest k with P(Binomial(count, share) <= k) <= doubt; -1 where there is none."""
    total = 0.0
    for k in range(count + 1):
        total += exp(
            lgamma(count + 1)
            - lgamma(k + 1)
            - lgamma(count - k + 1)
            + k * log(share)
            + (count - k) * log1p(-share)
        )
        if total > doubt:
            return k - 1
    return count
