"""What a predictor answers: a prediction, and an iterator of them that knows what it counted."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Generic, Literal, TypeVar

from mismatch.errors import InputError, MisuseError
from mismatch.runtime.text_tower import TextCounts

__all__ = ["Prediction", "Predictions", "check_table", "decisive", "table_like"]

T = TypeVar("T")
FIELDS = ("similarity_score", "threshold", "is_match", "prediction", "status", "logit")


@dataclass(frozen=True)
class Prediction:
    """What mismatch says of one pair.

    `image_path`: as given; empty for an image that has no path.
    `text`: as given.
    `similarity_score`: probability of a match 0..1; cosine -1..1 for zero-shot; None for a row in
        error.
    `threshold`: similarity_score from which the pair is a match; probability 0..1, or cosine -1..1
        for zero-shot.
    `is_match`: similarity_score >= threshold; None for a row in error.
    `prediction`: match, mismatch, review (a score in the review band, where a person should look)
        or error.
    `status`: "ok", or why there is no score.
    `logit`: what the head says, before calibration; any number; None for a row in error.
    """

    image_path: str
    text: str
    similarity_score: float | None
    threshold: float
    is_match: bool | None
    prediction: Literal["match", "mismatch", "review", "error"]
    status: str
    logit: float | None = None

    def __bool__(self) -> bool:
        raise MisuseError(
            "a prediction is neither true nor false; ask for its `.is_match`, which is None for a"
            " row in error"
        )


class Predictions(Iterator[T], Generic[T]):
    """Predictions in the rows' order, made as they are asked for.

    `counts`: long texts and truncated ones among the rows that were scored so far; all of them
    once the last prediction was given.
    """

    def __init__(self, source: Generator[T, None, None], counts: TextCounts) -> None:
        self._source = source
        self.counts = counts

    def __iter__(self) -> Predictions[T]:
        return self

    def __next__(self) -> T:
        return next(self._source)

    def close(self) -> None:
        """Read no further row."""
        self._source.close()


def decisive(predictions: Sequence[Prediction], *, best: bool, image_path: str) -> Prediction:
    """Return the prediction that stands for a row of several images: of the highest score, or of
    the lowest, or of the first image that can't be scored.

    `image_path`: all of them, as the row has them.
    """
    for prediction in predictions:
        if prediction.similarity_score is None:
            return replace(prediction, image_path=image_path)
    choose = max if best else min
    chosen = choose(
        predictions,
        key=lambda prediction: (prediction.similarity_score or 0.0, prediction.logit or 0.0),
    )
    return replace(chosen, image_path=image_path)


def check_table(frame: Any) -> None:
    """Refuse what is no table of pandas, polars, pyarrow or datasets: InputError."""
    if _library(frame) is None:
        raise InputError(
            f"the frame is a {type(frame).__name__}; a table of pandas, polars, pyarrow or datasets"
            " is needed, and predict_pairs takes any other rows"
        )


def table_like(frame: Any, predictions: Sequence[Prediction]) -> Any:
    """Return predictions as a table of the kind of `frame`; of pandas with the frame's own index.

    InputError for a table of another kind.
    """
    check_table(frame)
    values = {name: [getattr(prediction, name) for prediction in predictions] for name in FIELDS}
    library = _library(frame)
    if library == "pandas":
        return _pandas_frame(frame, values)
    if library == "polars":
        return import_module("polars").DataFrame(values, strict=False)
    if library == "pyarrow":
        return import_module("pyarrow").table(values)
    return type(frame).from_dict(values)


def _library(frame: object) -> str | None:
    """Return which library a table is of, as its methods tell."""
    methods = {
        "pandas": ("itertuples", "index"),
        "polars": ("iter_rows", "schema"),
        "pyarrow": ("to_batches", "column_names"),
        "datasets": ("cast_column", "from_dict"),
    }
    for library, names in methods.items():
        if all(hasattr(frame, name) for name in names):
            return library
    return None


def _pandas_frame(frame: Any, values: dict[str, list[Any]]) -> Any:
    pandas = import_module("pandas")
    kinds = {
        "similarity_score": "float64",
        "threshold": "float64",
        "is_match": "boolean",  # it has a value for rows in error
        "logit": "float64",
    }
    columns = {
        name: pandas.array(column, dtype=kinds[name]) if name == "is_match" else column
        for name, column in values.items()
    }
    table = pandas.DataFrame(columns, index=frame.index)
    return table.astype({name: kind for name, kind in kinds.items() if name != "is_match"})
