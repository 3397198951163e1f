"""Names of figures, and numbers as people read them, for all that shows an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mismatch.io.text import plural

__all__ = [
    "FIGURES",
    "SHARES",
    "bounds",
    "heading",
    "number",
    "origin",
    "percent",
    "percents",
    "signed",
]

FIGURES = {  # key in metrics → for people
    "accuracy": "accuracy",
    "auroc": "auroc",
    "average_precision": "average precision",
    "mcc": "mcc",
    "log_loss": "log loss",
    "brier": "brier score",
    "ece": "calibration error",
}
CLASSES = {"match": "", "mismatch": "mismatch_"}  # as shown → how their keys begin
SHARES = {
    f"{prefix}{name}": f"{label}: {word}"
    for label, prefix in CLASSES.items()
    for name, word in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))
}


def heading(name: str) -> str:
    """Return the name of a figure as a title begins."""
    words = (FIGURES | SHARES)[name]
    return words.upper() if name in ("auroc", "mcc") else words[:1].upper() + words[1:]


def origin(threshold: Mapping[str, Any]) -> str:
    """Return where a threshold came from."""
    if threshold["source"] == "flag":
        return "given by `threshold`"
    if threshold["source"] == "default":
        return "the default; none is stored with the model"
    by = ""
    if threshold.get("slices"):
        rows = threshold.get("sliced_rows")
        by = f"; thresholds by {threshold['slices']} of their own"
        by += "" if rows is None else f" for {plural(rows, 'row')}"
    objective = threshold["objective"]
    # accuracy, f1, …; else a cost or a target, which says itself what it is
    if not any(mark in objective for mark in ":<>"):
        objective = f"best {objective}"
    date = threshold["date"][:10]
    return f"stored with the model: {objective} on {threshold['rows']:,} rows, {date}{by}"


def number(value: float | None) -> str:
    """Return four decimals, or a dash."""
    return f"{value:.4f}" if value is not None and value == value else "–     "


def percent(value: float | None) -> str:
    """Return `93.1 %`, or a dash."""
    return f"{100 * value:.1f} %" if value is not None and value == value else "–"


def signed(value: float) -> str:
    """Return `+0.123`, or a dash."""
    return f"{value:+.3f}" if value == value else "–"


def bounds(interval: Sequence[float] | None, digits: int = 4) -> str:
    """Return `0.9034..0.9339`, or nothing."""
    if interval is None or interval[0] != interval[0]:
        return ""
    low, high = interval
    return f"{low:.{digits}f}..{high:.{digits}f}"


def percents(interval: Sequence[float]) -> str:
    """Return `90.3..93.4`, or nothing."""
    low, high = interval
    return "" if low != low else f"{100 * low:.1f}..{100 * high:.1f}"
