"""Compare the decisions of a bundle in int8 or fp16 with those of its model, and fit its own
calibration and threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mismatch.errors import InputError
from mismatch.evaluation.calibration import fit_calibration
from mismatch.evaluation.metrics import auroc
from mismatch.evaluation.review import choose_band
from mismatch.evaluation.threshold import choose_again
from mismatch.export.int8 import Keep
from mismatch.export.parity import Outputs, decisions
from mismatch.runtime.scoring import scores_from_logits
from mismatch.specs import ScoreSpec

__all__ = ["CHOICES", "HALF", "LEAST_ROWS", "GateLimits", "LayerChoice", "Verdict", "judge"]

LEAST_ROWS = 100  # with labels, from which a calibration and a threshold are fitted again


@dataclass(frozen=True)
class LayerChoice:
    """Which layers are in lower precision."""

    name: str
    image: Keep | None  # what of the image tower stays in fp32; None: all of it
    text: Keep | None


CHOICES = (  # ever milder
    LayerChoice("both towers", "none", "none"),
    LayerChoice("both towers without their first and last blocks", "ends", "ends"),
    LayerChoice("the text tower", None, "none"),
    LayerChoice("the text tower without its first and last blocks", None, "ends"),
)
HALF = (LayerChoice("both towers", "none", "none"),)  # fp16 has one


@dataclass(frozen=True)
class GateLimits:
    """What a lower precision may cost."""

    auroc_loss: float = 0.005
    flips: float = 0.01  # share of decisions


@dataclass(frozen=True)
class Verdict:
    """What a lower precision costs on rows that both could score."""

    precision: str  # int8 or fp16
    rows: int
    # decisions (match, mismatch or review), each by its own calibration, thresholds and band
    flipped: int
    auroc: float | None  # None without labels of both kinds
    auroc_after: float | None
    refitted: bool  # whether `score` was fitted to the rows; else it is the model's
    score: ScoreSpec  # that of the lower precision
    kept_because: str | None = None  # why it is the model's; None where it was fitted

    @property
    def auroc_loss(self) -> float | None:
        """Return the loss, above 0 where the lower precision ranks worse."""
        return (
            None
            if self.auroc is None or self.auroc_after is None
            else self.auroc - self.auroc_after
        )

    def within(self, limits: GateLimits) -> bool:
        """Return whether it is good enough."""
        return self.flipped <= limits.flips * self.rows and (
            self.auroc_loss is None or self.auroc_loss <= limits.auroc_loss
        )

    def summary(self) -> str:
        """Return part of a line for people."""
        flips = (
            f"{self.flipped} of {self.rows:,} decisions flipped ({self.flipped / self.rows:.2%})"
        )
        if self.auroc is None:
            return flips
        return (
            f"AUROC {self.auroc:.4f} in fp32, {self.auroc_after:.4f} in {self.precision}; {flips}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, for parity.json."""
        return {key: value for key, value in vars(self).items() if key != "score"}


def judge(
    reference: Outputs, candidate: Outputs, labels: Sequence[int | None], precision: str = "int8"
) -> Verdict:
    """Compare decisions; `labels`: one a pair that was given to both, None where there is none.
    Both scored the same pairs.

    In int8 the calibration, the threshold and the band are fitted again to the candidate's logits:
    all of them, as each lies on the scale of the others, or none. That takes `LEAST_ROWS` labelled
    pairs of both kinds, and a score each part of which says what it was chosen for. fp16 is too
    near to need it.
    """
    score = reference.engine.score
    scored_labels = [labels[i] for i in reference.good]
    has = np.array([label is not None for label in scored_labels], bool)
    truth = np.array([label for label in scored_labels if label is not None], np.int64)
    both = 0 < truth.sum() < len(truth)
    logits = candidate.logits[has]
    before, after = (
        (float(auroc(truth, values)) for values in (reference.logits[has], logits))
        if both
        else (None, None)
    )
    own_score = score
    kept_because = _why_kept(score, precision, len(truth) if both else 0)
    if kept_because is None:
        try:
            own_score = _refitted(score, logits, truth)
        except InputError as error:  # such as a target that these rows don't reach
            kept_because = f"they can't be chosen again on these rows ({error})"
    flipped = decisions(reference, score) != decisions(candidate, own_score)
    return Verdict(
        precision,
        len(scored_labels),
        int(flipped.sum()),
        before,
        after,
        refitted=kept_because is None,
        score=own_score,
        kept_because=kept_because,
    )


def _why_kept(score: ScoreSpec, precision: str, labels: int) -> str | None:
    """Return why nothing is fitted again, before it is tried; None where it is. `labels`: how many
    rows have one, 0 without both kinds.
    """
    if precision != "int8":
        return f"{precision} is near enough to them"
    stored = (score.calibration, score.threshold, score.review, score.slices)
    if all(part is None for part in stored):
        return "the model stores nothing that was fitted"
    if labels < LEAST_ROWS:
        return f"fitting them again takes {LEAST_ROWS} rows with labels of both kinds"
    if score.slices is not None:
        return "how thresholds by slice were chosen is not stored"
    if score.review is not None and score.review.max_risk is None:
        return "how the review band was chosen is not stored"
    return None


def _refitted(
    score: ScoreSpec,
    logits: np.ndarray[Any, np.dtype[np.float64]],
    truth: np.ndarray[Any, np.dtype[np.int64]],
) -> ScoreSpec:
    """Fit each part that is there, for what it was chosen for: a calibration, then a threshold,
    then a band around it. InputError where one of them can't be.
    """
    if score.calibration is not None:
        score = replace(
            score, calibration=fit_calibration(logits, truth, kind=score.calibration.kind)
        )
    scores = scores_from_logits(logits, score)
    if score.threshold is not None:
        score = replace(score, threshold=choose_again(score.threshold, truth, scores))
    if score.review is not None and score.review.max_risk is not None:
        band = choose_band(truth, scores, score.review.max_risk, score.threshold_in_use)
        score = replace(score, review=band)
    return score
