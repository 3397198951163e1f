"""Which words of the worst rows don't fit their images."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from mismatch.data.columns import resolve_image
from mismatch.data.lexicon import Lexicon
from mismatch.data.pairs import read_header, read_rows, rows_files
from mismatch.data.readers.memory import RowsLike, value_text
from mismatch.data.rows import Row
from mismatch.errors import InputError
from mismatch.jobs.explain import Explanation, explain
from mismatch.jobs.fetching import fetched_images
from mismatch.jobs.lexicon_file import read_lexicon
from mismatch.jobs.locking import lock_file, lock_folder
from mismatch.jobs.options import (
    ModelRowOptions,
    ModelRowSettings,
    RowSource,
    check_slice_value,
    isolated_decoding,
    open_predictor,
    open_rows,
)
from mismatch.jobs.output.explanation_files import (
    check_explanation_output,
    names_file,
    write_explanation,
    write_row_explanations,
)
from mismatch.jobs.results import Result
from mismatch.jobs.value_checks import check_whole_number, checked
from mismatch.progress import progress
from mismatch.runtime.languages import UnreadTexts
from mismatch.runtime.predictor import Prediction, Predictor
from mismatch.runtime.slice_use import SliceUse
from mismatch.specs import LongText

__all__ = ["ExplainRowsResult", "RowExplanation", "explain_pair", "explain_rows"]

HELD = 1000  # rows beyond twice those that are explained, after which the others are let go

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowExplanation(Result):
    """A row and its explanation.

    `line`: line of the file, counted from 1; rows in memory have their number and one.
    `explanation`: which words don't fit, and what that hangs on.
    """

    line: int
    explanation: Explanation

    def to_dict(self) -> dict[str, Any]:
        """Return it with plain JSON types only: the line, then the explanation's own names."""
        return {"line": self.line} | self.explanation.to_dict()

    def _repr_html_(self) -> str:
        return self.explanation._repr_html_()


@dataclass(frozen=True)
class ExplainRowsResult(Result):
    """The worst rows, the worst first.

    `rows`: rows that were read.
    `failed`: rows that could not be scored.
    `explanations`: those of the worst rows; none where no row is scored against its label.
    """

    rows: int
    failed: int
    explanations: tuple[RowExplanation, ...]

    def _repr_html_(self) -> str:
        return "".join(explanation._repr_html_() for explanation in self.explanations)


@checked
def explain_rows(
    model: str | Path | Predictor,
    rows: RowsLike,
    *,
    worst: int = 10,
    output: str | Path | None = None,
    no_heat_map: bool = False,
    no_lexicon: bool = False,
    lexicon: str | Path | None = None,
    threshold: float | None = None,
    long_text: LongText | None = None,
    **options: Unpack[ModelRowOptions],
) -> ExplainRowsResult:
    """Explain the worst rows: the lowest scores, or the labelled rows that lie farthest on the
    wrong side of the threshold. For one pair see `mismatch.explain`.

    `worst`: how many. `output`: NAME.json for figures, any other name is a folder for them and a
    picture each; what is there is replaced only if it is such an output. `no_heat_map`: look at
    words only, which takes one pass of an image instead of fifty. `no_lexicon`: don't try other
    words; `lexicon`: YAML with classes of words of your own. `threshold`: score from which a pair
    is a match; `long_text`: what becomes of texts over the context; by default both are the
    model's own.

    Raises InputError for rows that can't be used, and where not one could be scored.
    """
    settings = ModelRowSettings.of(options)
    check_whole_number("worst", worst, 1)
    words = _open_lexicon(lexicon, no_lexicon=no_lexicon)
    target = None if output is None else Path(output)
    if target is not None and target.suffix.lower() == ".png":
        raise InputError("a .png holds one pair; with `rows`, give `output` a folder or a .json")
    with ExitStack() as stack:
        source = stack.enter_context(open_rows(rows, settings))
        _lock_output(stack, target, [*rows_files(source.path), *_files(lexicon)])
        # a wrong file is refused before a model is loaded
        labelled = "label" in read_header(source.path, require_label=False, columns=source.columns)
        predictor = open_predictor(model, settings, threshold=threshold, long_text=long_text)
        scored = _scored(predictor, source, labelled=labelled, count=worst)
        explanations = _explained(predictor, source, scored.worst, words, heat_map=not no_heat_map)
        if target is not None:
            pairs = [(row.line, row.explanation) for row in explanations]
            write_row_explanations(target, pairs, [row.to_dict() for row in explanations])
    return ExplainRowsResult(scored.rows, scored.failed, tuple(explanations))


@checked
def explain_pair(
    model: str | Path | Predictor,
    image: str | Path,
    text: str,
    *,
    output: str | Path | None = None,
    no_heat_map: bool = False,
    no_lexicon: bool = False,
    lexicon: str | Path | None = None,
    threshold: float | None = None,
    slice_value: str | None = None,
    long_text: LongText | None = None,
    **options: Unpack[ModelRowOptions],
) -> Explanation:
    """Explain one pair, and write it: as `explain_rows` does with rows. NAME.png for `output` is a
    picture; `slice_value` is the pair's in the column by which the model has thresholds.
    """
    settings = ModelRowSettings.of(options)
    words = _open_lexicon(lexicon, no_lexicon=no_lexicon)
    target = None if output is None else Path(output)
    source = resolve_image(settings.image_base_path, str(image))
    files = [*([source] if isinstance(source, Path) else []), *_files(lexicon)]
    with ExitStack() as stack:
        _lock_output(stack, target, files)
        stack.enter_context(isolated_decoding(settings.isolate_decoding))
        stack.enter_context(fetched_images(settings.fetching))
        predictor = open_predictor(model, settings, threshold=threshold, long_text=long_text)
        check_slice_value(predictor, slice_value)
        explanation = explain(
            predictor,
            source,
            text,
            heat_map=not no_heat_map,
            lexicon=words,
            slice_value=slice_value,
        )
        if target is not None:
            write_explanation(target, explanation)
    return explanation


def _files(lexicon: str | Path | None) -> list[Path]:
    return [] if lexicon is None else [Path(lexicon)]


def _lock_output(stack: ExitStack, output: Path | None, inputs: list[Path]) -> None:
    """Refuse an output that can't be written, and keep other writers off it."""
    if output is not None:
        check_explanation_output(output, inputs)
        lock = lock_file if names_file(output) else lock_folder
        stack.enter_context(lock(output))


def _open_lexicon(lexicon: str | Path | None, *, no_lexicon: bool) -> Lexicon | None:
    """Return the words that are tried in place of others; None where none are."""
    if no_lexicon and lexicon is not None:
        raise InputError("`no_lexicon` and `lexicon` exclude each other")
    return None if no_lexicon else Lexicon(read_lexicon(lexicon))


@dataclass(frozen=True)
class _Scored:
    """All rows scored, and the worst of them."""

    rows: int
    failed: int
    worst: list[Row]


def _scored(predictor: Predictor, source: RowSource, *, labelled: bool, count: int) -> _Scored:
    """Score all rows, of which only the worst are held. InputError where none could be."""
    ranked: list[tuple[float, int, Row]] = []
    number = 0
    failed = 0
    rows = read_rows(source.path, require_label=labelled, columns=source.columns)
    predictions = predictor.predict_rows(rows, image_base_path=source.base, columns=source.columns)
    use = SliceUse(predictor.slices, predictor.threshold)
    unread = UnreadTexts(predictor.pipeline.tokenizer)
    with progress("score", unit="row") as advance:
        for row, prediction in predictions:
            number += 1
            use.add(row.columns)
            unread.add(row.text)
            failed += prediction.similarity_score is None
            wrongness = _wrongness(row, prediction, labelled=labelled)
            if wrongness is not None:
                ranked.append((-wrongness, number, row))
            if len(ranked) > 2 * count + HELD:
                ranked = _first(ranked, count)
            advance(1)
    for warning in filter(None, (use.warning(), unread.warning())):
        logger.warning(warning)
    if failed:
        logger.info(
            f"{failed:,} of {number:,} rows could not be scored; mismatch validate says why row by"
            " row"
        )
    if not number:
        raise InputError(f"{source.name}: there are no rows under the header; nothing to explain")
    if failed == number:
        raise InputError(f"{source.name}: not one of its rows could be scored")
    if not ranked:
        logger.info(f"{source.name}: no row is scored against its label; nothing to explain")
    return _Scored(number, failed, [row for _, _, row in _first(ranked, count)])


def _first(ranked: list[tuple[float, int, Row]], count: int) -> list[tuple[float, int, Row]]:
    """Return the worst, of equal ones the first."""
    return sorted(ranked, key=lambda entry: entry[:2])[:count]


def _wrongness(row: Row, prediction: Prediction, *, labelled: bool) -> float | None:
    """Return how far the score lies on the wrong side; None where it doesn't, or there is none."""
    score = prediction.similarity_score
    if score is None or (labelled and row.label is None):
        return None
    if not labelled:
        return -score
    wrong = prediction.is_match != bool(row.label)
    return abs(score - prediction.threshold) if wrong else None


def _explained(
    predictor: Predictor,
    source: RowSource,
    rows: list[Row],
    lexicon: Lexicon | None,
    *,
    heat_map: bool,
) -> list[RowExplanation]:
    explanations = []
    with progress("explain", total=len(rows), unit="row") as advance:
        for row in rows:
            explanation = explain(
                predictor,
                resolve_image(source.base, _deciding_image(predictor, row, source)),
                row.text,
                heat_map=heat_map,
                lexicon=lexicon,
                slice_value=_slice_value(predictor, row),
            )
            explanations.append(RowExplanation(row.line, explanation))
            advance(1)
    return explanations


def _slice_value(predictor: Predictor, row: Row) -> str | None:
    """Return the row's value in the column by which the model has thresholds; None where there is
    none for it.
    """
    slices = predictor.slices
    value = None if slices is None else value_text(row.columns.get(slices.column))
    return None if slices is None or slices.threshold_of(value or "") is None else value


def _deciding_image(predictor: Predictor, row: Row, source: RowSource) -> str:
    """Return the image whose score stands for the row, where it has several."""
    columns = source.columns
    images = columns.images(row.image_path)
    if len(images) == 1:
        return images[0]
    pairs = [{"image_path": name, "text": row.text} for name in images]
    # `columns` has let these images pass
    predictions = predictor.predict_pairs(pairs, image_base_path=source.base, outside_images=True)
    scores = [prediction.similarity_score or 0.0 for prediction in predictions]
    decisive = max(scores) if columns.multi_image == "best" else min(scores)
    return images[scores.index(decisive)]
