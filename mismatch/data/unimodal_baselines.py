"""Blind baselines: how well the text alone, or the image alone, tells the label. Above chance, a
model could learn the labels without comparing the two.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mismatch.errors import InputError, MissingExtraError
from mismatch.words import word_spans

__all__ = [
    "LEAST_ROWS",
    "Telltale",
    "blind_image_auroc",
    "blind_pair_auroc",
    "blind_text_auroc",
    "telltales",
]

LEAST_ROWS = 100  # the baselines say nothing of fewer
MAX_BASELINE_ROWS = 50_000  # more are not looked at, as they change nothing
LEAST_USES = 10  # a word that is named has them
FEATURES = 2**18  # hashed words and pairs of words


class Telltale(NamedTuple):
    """A word that gives the label away."""

    word: str
    rows: int  # that hold it
    mismatches: float  # their share, 0..1


def blind_text_auroc(
    texts: Sequence[str],
    labels: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """Return the cross-validated AUROC, 0..1, of a linear model that sees words and pairs of words.
    0.5: texts say nothing of the labels, as it should be.

    `groups`: the rows' images, each in one fold; by default the texts. A fold's model sees none of
    the fold's texts: a text that is a match in one row and a mismatch in the next would else be
    learnt by heart, the wrong way round, and so would an edited text next to its image's own.
    MissingExtraError without scikit-learn, InputError for labels of one kind.
    """
    plain = [text.strip().lower() for text in texts]
    return _cross_validated(
        lambda rows: _words([texts[row] for row in rows]),
        labels,
        groups or plain,
        plain,
        folds,
        seed,
        "liblinear",
    )


def blind_pair_auroc(
    texts: Sequence[str], made: Sequence[str], images: Sequence[Hashable]
) -> float | None:
    """Return how well the texts made for rows can be told from the rows' own `texts`, as
    `blind_text_auroc` does; None of fewer than LEAST_ROWS texts. `images`: each row's.
    """
    if len(texts) + len(made) < LEAST_ROWS:
        return None
    labels = [1] * len(texts) + [0] * len(made)
    return blind_text_auroc([*texts, *made], labels, [*images, *images])


def blind_image_auroc(
    features: NDArray[Any],
    labels: ArrayLike,
    groups: Sequence[Hashable],
    *,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """Return what `blind_text_auroc` does, of a linear model that sees `features` (N, D) of the
    images; rows of one of the `groups`, the images, are in one fold.
    """

    def standardised(rows: NDArray[np.int64]) -> NDArray[Any]:
        part = np.asarray(features[rows], np.float64)
        scaled: NDArray[Any] = (part - part.mean(0)) / (part.std(0) + 1e-9)
        return scaled

    return _cross_validated(standardised, labels, groups, groups, folds, seed, "lbfgs")


def telltales(texts: Sequence[str], labels: ArrayLike, *, count: int = 5) -> list[Telltale]:
    """Return the words that say most about the label, the most telling first. Only words in at
    least ten rows count, by how far their share of mismatches is from the whole's, in standard
    errors.
    """
    truth = np.asarray(labels)
    holds: dict[str, list[int]] = {}
    for text, label in zip(texts, truth, strict=True):
        plain = text.lower()
        for word in {plain[start:end] for start, end in word_spans(plain)}:
            uses = holds.setdefault(word, [0, 0])
            uses[int(label == 0)] += 1
    whole = float((truth == 0).mean())
    telltales = []
    for word, (matches, mismatches) in holds.items():
        rows = matches + mismatches
        if rows >= LEAST_USES:
            error = (whole * (1 - whole) / rows) ** 0.5 or 1.0
            telltales.append(
                (-abs(mismatches / rows - whole) / error, Telltale(word, rows, mismatches / rows))
            )
    return [telltale for _, telltale in sorted(telltales)[:count]]


def _cross_validated(
    features: Callable[[NDArray[np.int64]], Any],
    labels: ArrayLike,
    groups: Sequence[Hashable],
    items: Sequence[Hashable],
    folds: int,
    seed: int,
    solver: str,
) -> float:
    """Return the AUROC of a model of `features` of rows; `groups` stay in one fold, whose model
    sees no row with an item of the fold. `solver`: liblinear for sparse features, lbfgs for dense
    ones, at which the other is twenty times as slow.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise MissingExtraError("a blind baseline", "audit") from error
    truth = np.asarray(labels, np.int64)
    random = np.random.default_rng(seed)
    rows = (
        np.arange(len(truth))
        if len(truth) <= MAX_BASELINE_ROWS
        else np.sort(random.choice(len(truth), MAX_BASELINE_ROWS, replace=False))
    )
    truth = truth[rows]
    if not 0 < truth.sum() < len(truth):
        raise InputError("a blind baseline needs rows of both labels")
    # (N,) each
    group, item = (_numbered([values[row] for row in rows]) for values in (groups, items))
    fold = random.permutation(group.max() + 1)[group] % folds  # (N,)
    seen = features(rows)
    scores = np.zeros(len(rows))
    for part in range(folds):
        inside = fold == part
        outside = ~inside & ~np.isin(item, item[inside])
        if inside.any() and 0 < truth[outside].sum() < outside.sum():
            model = LogisticRegression(solver=solver, max_iter=1000).fit(
                seen[outside], truth[outside]
            )
            scores[inside] = model.decision_function(seen[inside]) - _prior(truth[outside])
    return float(roc_auc_score(truth, scores))


def _numbered(values: Sequence[Hashable]) -> NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def _prior(truth: NDArray[np.int64]) -> float:
    """Log odds of a match among the rows that a fold's model saw: without them, folds with few
    matches would be told by their model's lean the other way.
    """
    share = float(truth.mean())
    return float(np.log(share / (1 - share)))


def _words(texts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        analyzer=_words_and_pairs, n_features=FEATURES, alternate_sign=False, norm="l2"
    ).transform(texts)


def _words_and_pairs(text: str) -> list[str]:
    """Return the words of a text of any script as they are spelt, and each two neighbours."""
    plain = text.lower()
    words = [plain[start:end] for start, end in word_spans(plain)]
    return [*words, *(f"{first} {second}" for first, second in pairwise(words))]
