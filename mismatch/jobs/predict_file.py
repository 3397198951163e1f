"""Scores of many rows: from a file, a table or a folder of images into one file, or into parts that
actors of a Ray cluster write.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Unpack

from mismatch.data.readers.memory import RowsLike
from mismatch.errors import InputError
from mismatch.io.outputs import check_cache
from mismatch.jobs.locking import lock_file
from mismatch.jobs.long_texts import long_texts_note
from mismatch.jobs.options import (
    ModelRowOptions,
    ModelRowSettings,
)
from mismatch.jobs.output.prediction_file import STDOUT, PredictionFile, Sink
from mismatch.jobs.prediction_rows import (
    PredictionRows,
    Shard,
    all_rows_failed,
    open_prediction_rows,
)
from mismatch.jobs.prediction_run import BLOCK_ROWS, Cluster, PredictSettings, run_settings
from mismatch.jobs.results import Result
from mismatch.jobs.scored_windows import Entry, RunCounts, Window, kept_columns, scored_windows
from mismatch.jobs.value_checks import check_whole_number, checked
from mismatch.progress import Advance, progress
from mismatch.runtime.hub_models import pinned_model
from mismatch.runtime.languages import UnreadTexts
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.slice_use import SliceUse
from mismatch.specs import LongText, ReviewBand

__all__ = ["PredictFileResult", "predict_file"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictFileResult(Result):
    """How many rows were scored, and where their scores are.

    `output`: file, folder or URL, as given; "-": standard output.
    `rows`: rows of the input, those of an earlier run that was continued among them.
    `scored`: rows with a score; the others have a status that says why they have none.
    `failed`: rows - scored.
    `written`: rows of the output: all, or with `top` so many.
    `long_texts`: texts that were longer than the model's context.
    `parts`: files in a folder; None where the output is one file.
    `top`: how many rows were asked for, those of the lowest scores; None for all.
    `notes`: sentences: images without a title, how long texts were scored.
    """

    output: str
    rows: int
    scored: int
    failed: int
    written: int
    long_texts: int
    parts: int | None
    notes: tuple[str, ...]
    top: int | None = None

    def summary(self) -> list[str]:
        """Return the lines of the command: `1,176 rows scored → scores.csv; 24 could not be: see
        their status`, then the notes.
        """
        line = f"{self.scored:,} rows scored"
        if self.top is not None:
            line += f", the {self.written:,} lowest"
        if self.output != STDOUT:
            line += f" → {self.output}"
        if self.parts is not None:
            line += f", {self.parts:,} parts"
        if self.failed:
            line += f"; {self.failed:,} could not be: see their status"
        return [line, *self.notes]


@dataclass(frozen=True)
class Order:
    """Which rows are written, and in what order."""

    sort: Literal["score"] | None
    top: int | None

    def __post_init__(self) -> None:
        if self.sort not in (None, "score"):
            raise InputError(f"`sort` is {self.sort!r}; 'score' or None is needed", option="sort")
        if self.top is not None:
            check_whole_number("top", self.top, 1)

    @property
    def ranked(self) -> bool:
        """Return whether the order is not that of the input."""
        return self.sort is not None or self.top is not None


@checked
def predict_file(
    model: str | Path | Predictor,
    rows: RowsLike | None,
    output: str | Path,
    *,
    images: str | Path | None = None,
    titles: str | Path | None = None,
    resume: bool = False,
    cache: str | Path | None = None,
    shard: str | None = None,
    sort: Literal["score"] | None = None,
    top: int | None = None,
    threshold: float | None = None,
    review_band: ReviewBand | None = None,
    long_text: LongText | None = None,
    engine: Literal["local", "ray"] = "local",
    actors: int | None = None,
    ray_address: str | None = None,
    block_rows: int = BLOCK_ROWS,
    safe_csv: bool = False,
    keep_columns: bool = False,
    **options: Unpack[ModelRowOptions],
) -> PredictFileResult:
    """Score rows, or a folder of images with titles, into a table; memory stays bounded.

    `output`: NAME.tsv is TSV, NAME.jsonl JSON lines, NAME.parquet Parquet, any other name CSV
    (the ending of another format, such as .xlsx, is refused); "-" is CSV on standard output. It
    takes its name at the end. What is there is replaced only if it is such a table, with no columns
    but those of the rows.

    `rows`: None with `images`, a folder; then `titles` is a CSV image_path,text or lines NAME, tab,
    TITLE, and without it the title of a/b.jpg is what a/b.txt says. `resume`: go on with an output
    that was cut short; it ends the same to the byte. `cache`: folder of embeddings; only what it
    lacks is encoded. `shard`: "2/4" scores every fourth row, from the second on. `sort`: lowest
    score first; `top`: only so many of them, which implies it. `threshold`: score from which a pair
    is a match; `review_band`: scores that a person should look at; `long_text`: what becomes of
    texts over the context; by default all are the model's own. `engine`: "ray" writes a folder, or
    URL, of Parquet parts of `block_rows` rows; `actors` of them work at once, on the cluster at
    `ray_address`. `safe_csv`: no cell is a formula of a spreadsheet. `keep_columns`: copy the
    input's other columns behind the scores.

    Raises InputError for rows that can't be read, for options that don't go together, and where not
    one row could be scored; CheckpointError for an output that can't be written.
    """
    reading = ModelRowSettings.of(options)
    order = Order(sort, top)
    cluster = Cluster(actors, ray_address, block_rows)
    _check_engine(engine, order, cluster, safe_csv=safe_csv)
    settings = PredictSettings(
        model=reading,
        threshold=threshold,
        review_band=review_band,
        long_text=long_text,
        cache=cache,
        shard=None if shard is None else Shard.parse(shard),
        keep_columns=keep_columns,
        resume=resume,
        isolate_decoding=reading.isolate_decoding,
        fetching=reading.fetching,
    )
    with open_prediction_rows(rows, images, titles, reading, whole_header=keep_columns) as source:
        if engine == "local":
            result = _predict(model, source, output, settings, order, safe_csv=safe_csv)
        else:
            result = _predict_on_ray(model, source, output, settings, cluster)
    if result.failed and not result.scored:
        for line in result.summary():
            logger.info(line)
        raise all_rows_failed(source, result.failed)
    return result


def _check_engine(engine: str, order: Order, cluster: Cluster, *, safe_csv: bool) -> None:
    """Raise InputError for options that don't go with the engine."""
    if engine not in ("local", "ray"):
        raise InputError(f"`engine` is {engine!r}; local or ray is needed")
    if engine == "local":
        options = cluster.changed_options()
        if options:
            names = ", ".join(f"`{name}`" for name in options)
            verb = "go" if len(options) > 1 else "goes"
            raise InputError(f"{names} {verb} with `engine='ray'`")
    elif order.ranked or safe_csv:
        raise InputError(
            "`sort`, `top` and `safe_csv` go with `engine='local'`; ray writes parts of Parquet in"
            " the rows' order"
        )


def _predict(
    model: str | Path | Predictor,
    source: PredictionRows,
    output: str | Path,
    settings: PredictSettings,
    order: Order,
    *,
    safe_csv: bool,
) -> PredictFileResult:
    """Score all rows in this process, into one file."""
    copied = list(kept_columns(source.header).values())
    if output != STDOUT:
        check_cache(settings.cache, [("`output`", Path(output))])
    file = PredictionFile.of(output, source.files, safe=safe_csv, copied=copied)
    if settings.resume:
        _check_resumable(file, order)
    with ExitStack() as stack:
        if file.name != STDOUT:
            stack.enter_context(lock_file(file.name))
        predictor = settings.open(model)
        sink = stack.enter_context(_sink(file, predictor, source, settings, order))
        unread = UnreadTexts(predictor.pipeline.tokenizer)
        _score(predictor, source, settings, order, sink, unread)
    counts = sink.counts
    long_texts = long_texts_note(predictor, counts.long_texts)
    use = SliceUse(predictor.slices, predictor.threshold, counts.rows, counts.sliced)
    for warning in filter(None, (use.warning(), unread.warning())):
        logger.warning(warning)
    return PredictFileResult(
        output=file.name,
        rows=counts.rows,
        scored=counts.rows - counts.failed,
        failed=counts.failed,
        written=counts.rows if order.top is None else min(order.top, counts.rows),
        long_texts=counts.long_texts,
        parts=None,
        notes=(*source.notes(), *([long_texts] if long_texts else [])),
        top=order.top,
    )


def _check_resumable(file: PredictionFile, order: Order) -> None:
    if order.ranked:
        raise InputError(
            "with `sort` or `top` nothing is written before the end, so there is nothing to"
            " resume; `cache` keeps what is encoded"
        )
    if file.kind == "parquet":
        raise InputError(
            "`resume` goes with CSV and JSON lines; Parquet is written whole, and `cache` keeps"
            " what is encoded"
        )
    if not file.is_plain:
        raise InputError("`resume` needs an `output` that is a file")


def _sink(
    file: PredictionFile,
    predictor: Predictor,
    source: PredictionRows,
    settings: PredictSettings,
    order: Order,
) -> AbstractContextManager[Sink]:
    """Return where the rows go: a file that can be continued wherever that is possible."""
    kept = settings.kept(source)
    names = list(kept.values())
    if order.ranked or file.kind == "parquet" or not file.is_plain:
        return file.open(names)
    run = run_settings(predictor, source, settings, kept, file.format)
    run["the rows"] = [source.digest()]
    return file.open_resumable(names, run, resume=settings.resume)


def _score(
    predictor: Predictor,
    source: PredictionRows,
    settings: PredictSettings,
    order: Order,
    sink: Sink,
    unread: UnreadTexts,
) -> None:
    """Score rows into a sink, a window at a time; those that it has are not looked at again."""
    rows = islice(settings.rows(source), sink.counts.rows, None)
    windows = scored_windows(predictor, rows, source, list(settings.kept(source)), unread)
    with progress("predict", unit="row") as advance:
        if order.ranked:
            sink.write(_lowest(_entries(windows, sink.counts, advance), order.top))
            return
        for window in windows:
            advance(len(window.entries))
            sink.counts.add(window)
            sink.write(window.entries)


def _entries(windows: Iterable[Window], counts: RunCounts, advance: Advance) -> Iterator[Entry]:
    """Yield the entries of all windows, and count them."""
    for window in windows:
        advance(len(window.entries))
        counts.add(window)
        yield from window.entries


def _lowest(entries: Iterable[Entry], top: int | None) -> list[Entry]:
    """Return the `top` lowest scores, of which no more are held, or all; ties in the order of the
    rows, rows without a score behind the others.
    """
    if top is None:
        return sorted(entries, key=_suspicion)
    return heapq.nsmallest(top, entries, key=_suspicion)


def _suspicion(entry: Entry) -> tuple[bool, float]:
    score = entry.prediction.similarity_score
    return score is None, score or 0.0


def _predict_on_ray(
    model: str | Path | Predictor,
    source: PredictionRows,
    output: str | Path,
    settings: PredictSettings,
    cluster: Cluster,
) -> PredictFileResult:
    """Score all rows on actors, into a folder of parts."""
    from mismatch.jobs.predict_on_ray import predict_on_ray

    if isinstance(model, Predictor):
        raise InputError(
            "`engine='ray'` loads the model on each machine; pass its folder, or FAMILY:MODEL"
        )
    outcome = predict_on_ray(pinned_model(model), source, output, settings, cluster)
    counts = outcome.counts
    return PredictFileResult(
        output=str(output),
        rows=counts.rows,
        scored=counts.rows - counts.failed,
        failed=counts.failed,
        written=counts.rows,
        long_texts=counts.long_texts,
        parts=outcome.parts,
        notes=(*source.notes(), *([outcome.long_texts] if outcome.long_texts else [])),
    )
