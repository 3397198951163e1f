"""Compare the decisions of a bundle in int8 or fp16 with those of its model, and fit its own
calibration and threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mismatch.errors import InputError
from mismatch.evaluation.calibration import fit_calibration
from mismatch.evaluation.metrics import auroc
from mismatch.evaluation.threshold import choose_again
from mismatch.export.int8 import Keep
from mismatch.export.parity import Outputs
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
    flipped: int  # decisions, each by its own calibration and threshold
    auroc: float | None  # None without labels of both kinds
    auroc_after: float | None
    refitted: bool
    score: ScoreSpec  # that of the lower precision

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

    In int8, with `LEAST_ROWS` labelled pairs of both kinds, the model's calibration and threshold
    are fitted again to the candidate's logits. fp16 is too near to need that.
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
    refit = precision == "int8" and bool(both) and len(truth) >= LEAST_ROWS
    candidate_score = _refitted(score, logits, truth) if refit else score
    decisions = [
        scores_from_logits(outputs.logits, spec) >= spec.threshold_in_use
        for outputs, spec in ((reference, score), (candidate, candidate_score))
    ]
    return Verdict(
        precision,
        len(scored_labels),
        int((decisions[0] != decisions[1]).sum()),
        before,
        after,
        refitted=refit,
        score=candidate_score,
    )


def _refitted(
    score: ScoreSpec,
    logits: np.ndarray[Any, np.dtype[np.float64]],
    truth: np.ndarray[Any, np.dtype[np.int64]],
) -> ScoreSpec:
    """Fit a calibration where there was one, and a threshold likewise."""
    if score.calibration is not None:
        score = replace(
            score, calibration=fit_calibration(logits, truth, kind=score.calibration.kind)
        )
    if score.threshold is not None:
        # a target that these rows don't reach, or a threshold that was given by hand: it stays
        with suppress(InputError):
            score = replace(
                score,
                threshold=choose_again(score.threshold, truth, scores_from_logits(logits, score)),
            )
    return score
