"""The arguments of `load` and `Predictor`, checked before anything is opened."""

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from mismatch.errors import InputError
from mismatch.runtime.hardware import MAX_THREADS
from mismatch.runtime.preprocess import Decoder
from mismatch.specs import LongText, ReviewBand, ScoreSpec, SliceThresholds

__all__ = [
    "check_batch_size",
    "check_decoder",
    "check_long_text",
    "check_path",
    "check_several",
    "check_threads",
    "check_threshold",
    "check_workers",
    "decisions_in_use",
    "review_band",
]

LARGEST_BATCH = 2**31 - 1  # images; nobody has as many, and no iterator takes any number

logger = logging.getLogger(__name__)


def check_path(path: object, option: str) -> str | Path:
    """Return a folder's path, or a name; InputError for what is neither."""
    if isinstance(path, (str, Path)):
        return path
    if isinstance(path, os.PathLike):
        return Path(path)
    raise InputError(f"`{option}` is {_brief(path)}; a path is needed", option=option)


def check_threads(threads: object) -> int | None:
    """Return the number of threads of the towers; None: the engine's own choice."""
    return None if threads is None else _whole_number(threads, "threads", 1, MAX_THREADS)


def check_workers(workers: object) -> int | None:
    """Return the number of threads that decode images; None: one per CPU."""
    return None if workers is None else _whole_number(workers, "workers", 0, MAX_THREADS)


def check_batch_size(batch_size: object) -> int | Literal["auto"]:
    """Return the number of images of a tower call, or "auto"."""
    if isinstance(batch_size, str) and batch_size == "auto":
        return "auto"
    number = _index(batch_size)
    if number is None:
        raise InputError(
            f"`batch_size` is {_brief(batch_size)}; a whole number, or 'auto', is needed",
            option="batch_size",
        )
    if not 1 <= number <= LARGEST_BATCH:
        raise InputError(
            f"the batch size is {number}; a number from 1 to {LARGEST_BATCH:,} is needed",
            option="batch_size",
        )
    return number


def decisions_in_use(
    score: ScoreSpec, threshold: float | None, band: ReviewBand | None
) -> tuple[float, ReviewBand | None, SliceThresholds | None]:
    """Return the threshold, the review band and the thresholds by slice in use: those given, else
    the stored ones.

    A `threshold` that is given holds for all rows: what else is stored is left out, which is
    logged.
    """
    value = check_threshold(score, threshold)
    if threshold is None:
        return value, band or score.review, score.slices
    if band is None and score.review is not None:
        logger.warning("`threshold` is given: the stored review band is left out")
    if score.slices is not None:
        column = score.slices.column
        logger.warning("`threshold` is given: the stored thresholds by %r are left out", column)
    return value, band, None


def check_threshold(score: ScoreSpec, threshold: object) -> float:
    """Return the threshold in use: the one given, checked, else the stored one, else the
    default.
    """
    if threshold is None:
        return score.threshold_in_use
    value = _number(threshold)
    if value is None:
        raise InputError(
            f"`threshold` is {_brief(threshold)}; a number is needed", option="threshold"
        )
    low = 0.0 if score.kind == "probability" else -1.0
    if not low <= value <= 1.0:  # also refuses nan
        raise InputError(
            f"the threshold is {value}; this model's scores lie between {low:g} and 1",
            option="threshold",
        )
    return value


def review_band(review: object, option: str = "review") -> ReviewBand | None:
    """Return scores that a person should look at: a `ReviewBand`, or its two ends."""
    if review is None or isinstance(review, ReviewBand):
        return review
    ends: list[float | None] = []
    if isinstance(review, Sequence) and not isinstance(review, (str, bytes)):
        ends = [_number(end) for end in review]
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        raise InputError(
            f"`{option}` is {_brief(review)}; a ReviewBand, or its lower and upper score, is"
            " needed",
            option=option,
        )
    return ReviewBand(ends[0], ends[1])


def check_long_text(long_text: object) -> LongText | None:
    """Return what becomes of texts over the context; None: what the model was trained for."""
    choices = get_args(LongText)
    for choice in choices:
        if isinstance(long_text, str) and long_text == choice:
            chosen: LongText = choice
            return chosen
    if long_text is None:
        return None
    raise InputError(
        f"long_text is {_brief(long_text)}; one of {', '.join(choices)} is needed",
        option="long_text",
    )


def check_decoder(decoder: Any) -> Decoder | None:
    """Return who decodes images in place of this process, if anybody does."""
    if decoder is None:
        return None
    if not callable(getattr(decoder, "picture", None)):
        raise InputError(
            f"`decoder` is {_brief(decoder)}; a DecodingPool is needed", option="decoder"
        )
    checked: Decoder = decoder
    return checked


def check_several(values: Any, what: str) -> Any:
    """Return an iterable of images or texts; InputError for a single one, which would be taken
    apart.
    """
    is_one = isinstance(values, (str, bytes, bytearray, memoryview, os.PathLike, dict))
    is_one = is_one or getattr(values, "ndim", 4) in (2, 3)  # an array of pixels, or a table
    if is_one or not hasattr(values, "__iter__") or hasattr(values, "read"):
        raise InputError(
            f"the {what} are {_brief(values)}; several are needed, a list for instance"
        )
    return values


def _whole_number(value: object, option: str, low: int, high: int) -> int:
    number = _index(value)
    if number is None or not low <= number <= high:
        raise InputError(
            f"{option} is {_brief(value)}; a number from {low} to {high:,} is needed", option=option
        )
    return number


def _index(value: object) -> int | None:
    """Return a whole number of Python's or NumPy's as an int; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def _number(value: object) -> float | None:
    """Return a number of Python's or NumPy's as a float; None for anything else."""
    if isinstance(value, (str, bytes, bool)) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _brief(value: object) -> str:
    """Return a value as messages quote it: numbers and short texts as they are, else its type."""
    if isinstance(value, (str, int, float, tuple, list)):
        text = repr(value)
        if len(text) <= 80:
            return text
    return f"a {type(value).__name__}"
