"""Predictor: what users hold. Scores pairs with a checkpoint or a bundle, whichever engine runs
it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, Protocol, Self, overload

import numpy as np
from numpy.typing import NDArray

from mismatch.data.columns import Columns
from mismatch.data.pairs import read_rows
from mismatch.data.row_files import row_mappings
from mismatch.data.rows import Row
from mismatch.errors import InputError, MachineError, MisuseError
from mismatch.remote import Remote
from mismatch.runtime.arguments import (
    check_batch_size,
    check_decoder,
    check_long_text,
    check_path,
    check_several,
    check_threads,
    check_threshold,
    check_workers,
    review_band,
)
from mismatch.runtime.cache import EmbeddingCache
from mismatch.runtime.common_space import logit_matrix, project
from mismatch.runtime.engines import Engine, Provider, is_bundle, open_engine
from mismatch.runtime.forking import has_threads, keep_alive, watch
from mismatch.runtime.pacing import choose_batch_size
from mismatch.runtime.pipeline import Known, Pipeline, ScoredPair, scored_pair
from mismatch.runtime.predictions import Prediction, Predictions, decisive, table_like
from mismatch.runtime.preprocess import Decoder, ImageSource
from mismatch.runtime.row_pairs import (
    Pair,
    PairReader,
    image_name,
    image_source,
    locator,
    rows_of,
    text_problem,
)
from mismatch.runtime.scoring import scores_from_logits
from mismatch.runtime.text_tower import TextCounts
from mismatch.runtime.tokenize import shown
from mismatch.specs import LongText, ReviewBand, ScoreSpec

__all__ = ["Prediction", "Predictions", "Predictor", "Provider", "is_bundle", "load"]


class RowFile(Protocol):
    """A file of rows, and how it is read: a `RowSource` of the jobs."""

    @property
    def path(self) -> Path | Remote: ...

    @property
    def base(self) -> str: ...

    @property
    def columns(self) -> Columns: ...


@dataclass(frozen=True)
class _Settings:
    """How an engine is run."""

    batch_size: int | Literal["auto"]
    workers: int | None
    long_text: LongText | None
    cache: str | Path | None
    decoder: Decoder | None

    def pipeline(self, engine: Engine) -> Pipeline:
        """Return a pipeline over an engine."""
        size = choose_batch_size(engine) if self.batch_size == "auto" else self.batch_size
        return Pipeline(
            engine,
            batch_size=size,
            workers=self.workers,
            long_text=self.long_text,
            cache=None if self.cache is None else EmbeddingCache(self.cache, engine.fingerprint),
            decoder=self.decoder,
        )


@dataclass(frozen=True)
class _Origin:
    """Where a model came from, so that another process can load it too."""

    path: str | Path  # absolute, where it is a folder
    provider: Provider
    threads: int | None

    def open(self) -> Engine:
        """Load the model."""
        return open_engine(self.path, self.provider, self.threads)


class Predictor:
    """Scores pairs of images and texts. Thread-safe; a context manager that closes itself.

    One that `load` has made can be pickled and copied: the copy loads the model again. In a forked
    process a bundle is loaded again at its first use, and a checkpoint runs on one thread.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        threshold: float | None = None,
        batch_size: int | Literal["auto"] = 16,
        workers: int | None = None,
        long_text: LongText | None = None,
        cache: str | Path | None = None,
        review: ReviewBand | tuple[float, float] | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        """`threshold`, `review` and `long_text` override the stored ones: a threshold all of them,
        the band and those of slices too. `batch_size` images a tower call, auto: as many as turn
        out fastest here; `workers` decoding threads; `cache`: folder of embeddings for
        `predict_pairs`, which encodes no file and no text that this model has encoded before;
        `decoder`: who decodes images in place of this process, a `DecodingPool`.
        """
        band = review_band(review)
        self._settings = _Settings(
            check_batch_size(batch_size),
            check_workers(workers),
            check_long_text(long_text),
            None if cache is None else check_path(cache, "cache"),
            check_decoder(decoder),
        )
        self.threshold = check_threshold(engine.score, threshold)
        self.review = engine.score.review if band is None and threshold is None else band
        self.slices = engine.score.slices if threshold is None else None
        self._pipeline: Pipeline | None = self._settings.pipeline(engine)
        self._score = replace(engine.score, long_text=self._pipeline.long_text)
        self._origin: _Origin | None = None
        self._is_inherited = False
        self._lock = threading.Lock()
        watch(self)

    @property
    def pipeline(self) -> Pipeline:
        """What scores; InputError once the predictor is closed."""
        if self._is_inherited:
            self._adopt()
        pipeline = self._pipeline
        if pipeline is None:
            raise InputError("the predictor is closed; load the model again")
        return pipeline

    @property
    def engine(self) -> Engine:
        """What runs the model."""
        return self.pipeline.engine

    @property
    def score(self) -> ScoreSpec:
        """How this model's logits become scores; the threshold and calibration are the stored ones,
        also where `long_text` is overridden.
        """
        return self._score

    def threshold_for(self, slice_value: object = None) -> float:
        """Return the threshold of one value of the model's slice column, where it has one of its
        own; else that of all.
        """
        if self.slices is None:
            return self.threshold
        return self.slices.values.get(str(slice_value), self.threshold)

    def predict(self, image: ImageSource, text: str, *, slice_value: object = None) -> Prediction:
        """Score one pair. `image`: a path, encoded bytes, a PIL image or an (H, W, 3) uint8 array;
        `slice_value`: of the column by which the model has thresholds.

        Raises for an image or text that can't be used.
        """
        pipeline = self.pipeline
        source = image_source(image)
        problem = text_problem(text)
        if problem is not None:
            raise InputError(problem)
        [embedding] = _stack([pipeline.image(source)], self.engine.image_width)
        [pieces] = pipeline.pieces([text])
        if isinstance(pieces, InputError):
            raise pieces
        embedded = _stack(pipeline.piece_embeddings(pieces), self.engine.text_width)
        [logit] = pipeline.pair_logits([(embedding, list(embedded))])
        if isinstance(logit, InputError):
            raise logit
        pair = Pair(source, text, None, image_name(image), slice_value)
        return self._prediction(pair, scored_pair(logit))

    def predict_pairs(
        self,
        rows: Any,
        *,
        image_base_path: str | Path = "",
        known: Known | None = None,
        outside_images: bool | None = None,
        live: bool | None = None,
    ) -> Predictions[Prediction]:
        """Yield one prediction a row, in order, lazily, in bounded memory.

        `rows`: a table of pandas, polars, pyarrow or datasets, or an iterable of mappings. A row
        has `image_path` (relative to `image_base_path`; or `image`, anything that `predict` takes)
        and `text`; other keys are ignored, but for the column by which the model has thresholds of
        slices. A row that can't be scored gets a status and no score. `known`: what other calls
        have encoded, for those that stand together.

        `outside_images`: whether `image_path` may lie outside `image_base_path`, by `..`, as an
        absolute path or through a link; by default only where no base is given. False without a
        base holds paths to the working directory. An `image` is the caller's own and may lie
        anywhere. `image_base_path` may be a URL of a store: s3://bucket/images. Then rows name
        objects below it, or with `outside_images` any in stores of its kind.

        `live`: score rows as they come, and read them on a thread, so that one that is late holds
        up none that is there; by default where `rows` is an iterator or has no length. False: read
        4,096 rows at a time, on the caller's thread.
        """
        reader = self._reader(image_base_path, outside_images, rows)
        scored = self._predict(rows_of(rows), reader, known, _is_live(rows, live))
        return Predictions((one for _, one in scored), scored.counts)

    @overload
    def predict_rows(
        self,
        rows: Iterable[Row] | RowFile | str | Path,
        *,
        image_base_path: str | Path = "",
        columns: Columns | None = None,
        known: Known | None = None,
        live: bool = False,
    ) -> Predictions[tuple[Row, Prediction]]: ...

    @overload
    def predict_rows(
        self,
        rows: Any,
        *,
        image_base_path: str | Path = "",
        columns: Columns | None = None,
        known: Known | None = None,
        live: bool = False,
    ) -> Predictions[tuple[Any, Prediction]]: ...

    def predict_rows(
        self,
        rows: Any,
        *,
        image_base_path: str | Path = "",
        columns: Columns | None = None,
        known: Known | None = None,
        live: bool = False,
    ) -> Predictions[tuple[Any, Prediction]]:
        """Yield each row with its prediction, in order, lazily, in bounded memory.

        `rows`: a file's path, a source of rows with `path`, `base` and `columns`, an iterable of
        `Row`s, or anything that `predict_pairs` takes. `columns`: how its columns are read; images
        then lie below `columns.inside`, or anywhere where that is empty, and without `columns`
        below `image_base_path`. `known` and `live`: as for `predict_pairs`.

        A `Row` of several images has the prediction of that one whose score decides
        (`Columns.multi_image`: best, the highest; all, the lowest), under the paths as the row has
        them. If one of them can't be scored, the row can't: its status names the image.
        """
        if isinstance(rows, (str, Path, Remote)):
            columns = Columns() if columns is None else columns
            rows = read_rows(rows, require_label=False, columns=columns)
        elif hasattr(rows, "path") and hasattr(rows, "columns") and hasattr(rows, "base"):
            image_base_path = image_base_path or rows.base
            columns = rows.columns if columns is None else columns
            rows = read_rows(rows.path, require_label=False, columns=columns)
        outside = columns is not None and not columns.inside
        reader = self._reader(image_base_path, outside, rows, columns)
        is_best = columns is not None and columns.multi_image == "best"
        return self._predict(rows_of(rows), reader, known, live, is_best=is_best)

    def predict_frame(
        self,
        frame: Any,
        *,
        image_base_path: str | Path = "",
        image_column: str = "image_path",
        text_column: str = "text",
        outside_images: bool | None = None,
    ) -> Any:
        """Return the predictions of a table of pandas, polars, pyarrow or datasets, as a table of
        the same kind: similarity_score, threshold, is_match, prediction, status and logit of each
        row, in order; of pandas with the frame's own index, so that `frame.join` fits.

        `image_column`: of paths, or of images in memory; `image` where that is missing;
        `outside_images`: as for `predict_pairs`.
        """
        table_like(frame, [])  # refuses another kind before anything is scored
        rows = (_asked(row, image_column, text_column) for row in row_mappings(frame))
        predictions = self.predict_pairs(
            rows, image_base_path=image_base_path, outside_images=outside_images, live=False
        )
        return table_like(frame, list(predictions))

    def scores(self, images: Iterable[Any], texts: Iterable[str]) -> NDArray[np.float64]:
        """N images and N texts → (N,) similarity scores, pair by pair.

        Raises for the first pair that can't be used.
        """
        chosen = list(check_several(texts, "texts"))
        sources = list(self._sources(images))
        if len(sources) != len(chosen):
            raise InputError(
                f"there are {len(sources):,} images and {len(chosen):,} texts; as many of both are"
                " needed, and score_matrix takes each with each"
            )
        pairs = [
            Pair(source, text, text_problem(text))
            for source, text in zip(sources, chosen, strict=True)
        ]
        logits = np.empty(len(pairs))
        for i, scored in enumerate(self.pipeline.score(pairs)):
            if scored.logit is None:
                raise InputError(f"pair {i + 1}: {scored.problem}")
            logits[i] = scored.logit
        return scores_from_logits(logits, self.score)

    def score_matrix(self, images: Iterable[Any], texts: Iterable[str]) -> NDArray[np.float64]:
        """N images and M texts → (N, M) similarity scores, of each image with each text.

        Each is encoded once. Raises for the first image or text that can't be used.
        """
        chosen = _texts(texts)
        pipeline = self.pipeline
        split = []
        for text, pieces in zip(chosen, pipeline.pieces(chosen), strict=True):
            if isinstance(pieces, InputError):
                raise InputError(f"text {shown(text)!r}: {pieces}")
            split.append(pieces)
        every = list(chain.from_iterable(split))
        embedded = _stack(pipeline.piece_embeddings(every), self.engine.text_width)
        counts = [len(pieces) for pieces in split]
        logits = logit_matrix(pipeline, self._embedded(images), embedded, counts)
        return scores_from_logits(logits, self.score)

    def embed_images(self, images: Iterable[Any]) -> NDArray[np.float32]:
        """N images → (N, D) embeddings of length 1 in the space where the head compares images and
        texts: the higher the cosine, the higher the score.

        InputError for a bundle whose head is an adapter, which gives scores of pairs only.
        """
        return project(self.engine, self._embedded(images), "image")

    def embed_texts(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """N texts → (N, D) embeddings of length 1, comparable with those of `embed_images`; of a
        text over the context, of its beginning.
        """
        return project(self.engine, self._embedded_texts(texts), "text")

    def encode_images(self, images: Iterable[Any]) -> NDArray[np.float32]:
        """N images → (N, image_dim) embeddings of the image tower, not normalised. Raises for the
        first one that can't be read.
        """
        return self._embedded(images)[:, : self.engine.image_dim]

    def encode_texts(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """N texts → (N, text_dim) embeddings of the text tower, not normalised. Raises for an empty
        one, and for what is no text.

        Of a text over the context the beginning only is embedded, whatever `long_text` says.
        """
        return self._embedded_texts(texts)[:, : self.engine.text_dim]

    def close(self) -> None:
        """Let go of the model. Calls that run go on; later ones raise InputError."""
        self._pipeline = None
        self._is_inherited = False

    def after_fork(self) -> None:
        """Take note that this process was forked from the one that loaded the model."""
        pipeline = self._pipeline
        if pipeline is None:
            return
        self._is_inherited = True
        self._lock = threading.Lock()
        if has_threads(pipeline.engine):
            keep_alive(pipeline.engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        pipeline = self._pipeline
        model = "" if self._origin is None else f"{str(self._origin.path)!r}, "
        state = "closed" if pipeline is None else pipeline.engine.name
        return f"<Predictor {model}{state}, threshold {self.threshold:g}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None:
            raise MisuseError(
                "a predictor that was made of an engine can't be pickled or copied; make it with"
                " mismatch.load, or make another one there"
            )
        if self._settings.decoder is not None:
            raise MisuseError(
                "a predictor with a `decoder` can't be pickled or copied; load the model there with"
                " a decoder of its own"
            )
        chosen = {"threshold": self.threshold, "review": self.review, "slices": self.slices}
        return _reload, (self._origin, self._settings, chosen)

    def _adopt(self) -> None:
        """Make the model usable in this forked process."""
        with self._lock:
            pipeline = self._pipeline
            if not self._is_inherited or pipeline is None:
                return
            engine = pipeline.engine
            if hasattr(engine, "after_fork"):
                engine.after_fork()
            elif has_threads(engine):
                if self._origin is None:
                    raise MachineError(
                        "the model was loaded before this process was forked, and its threads are"
                        " not here; load it in this process"
                    )
                engine = self._origin.open()
            self._pipeline = self._settings.pipeline(engine)
            self._is_inherited = False

    def _reader(
        self,
        base: str | Path,
        outside: bool | None,
        rows: object,
        columns: Columns | None = None,
    ) -> PairReader:
        return PairReader(
            locator(check_path(base, "image_base_path"), outside),
            slice_column=None if self.slices is None else self.slices.column,
            columns=columns,
            copy=not isinstance(rows, (list, tuple)),  # which nobody changes while they are read
        )

    def _predict(
        self,
        rows: Iterable[Any],
        reader: PairReader,
        known: Known | None,
        live: bool,
        *,
        is_best: bool = False,
    ) -> Predictions[tuple[Any, Prediction]]:
        """`is_best`: of a row's images the highest score decides, not the lowest."""
        counts = TextCounts()
        pipeline = self.pipeline
        pending: deque[tuple[Any, list[Pair]]] = deque()

        def pairs() -> Iterator[Pair]:
            for number, row in enumerate(rows, start=1):
                found = reader.pairs(row, number)
                pending.append((row, found))
                yield from found

        def predictions() -> Generator[tuple[Any, Prediction], None, None]:
            results = pipeline.score(pairs(), known=known, counts=counts, live=live)
            for scored in results:
                row, own = pending.popleft()
                first = self._prediction(own[0], scored)
                if len(own) == 1:
                    yield row, first
                    continue
                others = zip(own[1:], islice(results, len(own) - 1), strict=True)
                every = [first, *(self._prediction(pair, one) for pair, one in others)]
                yield row, decisive(every, best=is_best, image_path=row.image_path)

        return Predictions(predictions(), counts)

    def _prediction(self, pair: Pair, scored: ScoredPair) -> Prediction:
        threshold = self.threshold_for(pair.slice_value)
        if scored.logit is None:
            status = scored.problem or "no score"
            return Prediction(pair.name, pair.text, None, threshold, None, "error", status)
        score = float(scores_from_logits(scored.logit, self.score))
        is_match = score >= threshold
        kind: Literal["match", "mismatch", "review"] = "match" if is_match else "mismatch"
        if self.review is not None and score in self.review:
            kind = "review"
        return Prediction(
            pair.name, pair.text, score, threshold, is_match, kind, "ok", scored.logit
        )

    def _sources(self, images: Iterable[Any]) -> Iterator[ImageSource]:
        is_stable = isinstance(images, (list, tuple))
        for image in check_several(images, "images"):
            yield image_source(image, copy=not is_stable)

    def _embedded(self, images: Iterable[Any]) -> NDArray[np.float32]:
        """N images → (N, image_width), all that the head sees of them."""
        pipeline = self.pipeline
        if isinstance(images, (list, tuple)) and len(images) == 1:  # needs no threads
            embedded: Iterable[Any] = [pipeline.image(image_source(images[0]))]
        else:
            embedded = pipeline.images(self._sources(images))
        return _stack(embedded, self.engine.image_width)

    def _embedded_texts(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """N texts → (N, text_width), all that the head sees of them."""
        chosen = _texts(texts)
        embeddings = self.pipeline.texts(chosen)
        for text, value in zip(chosen, embeddings, strict=True):
            if isinstance(value, InputError):
                raise InputError(f"text {shown(text)!r}: {value}")
        return _stack(embeddings, self.engine.text_width)


def _is_live(rows: object, live: bool | None) -> bool:
    """Return whether rows are scored as they come: what has no length may be late."""
    return not hasattr(rows, "__len__") if live is None else live


def _asked(row: Mapping[str, Any], image_column: str, text_column: str) -> dict[str, Any]:
    """Return a row with the columns that are asked for as `image_path` or `image`, and `text`."""
    asked = dict(row)
    if image_column in row:
        image = asked.pop(image_column)
        asked.pop("image", None)
        in_memory = isinstance(image, (bytes, bytearray, Mapping)) or hasattr(image, "__array__")
        in_memory = in_memory and not isinstance(image, np.generic)
        asked["image" if in_memory else "image_path"] = image
    if text_column != "text" and text_column in row:
        asked["text"] = row[text_column]
    return asked


def _texts(texts: Iterable[Any]) -> list[str]:
    """Return texts as a list, in the order in which they stand; InputError for what is none."""
    chosen = list(check_several(texts, "texts"))
    for text in chosen:
        problem = text_problem(text)
        if problem is not None:
            raise InputError(problem)
    return chosen


def _stack(values: Iterable[NDArray[np.float32] | InputError], width: int) -> NDArray[np.float32]:
    rows = []
    for value in values:
        if isinstance(value, InputError):
            raise value
        rows.append(value)
    return np.stack(rows) if rows else np.empty((0, width), np.float32)


def load(
    path: str | Path,
    provider: Provider = "auto",
    threads: int | None = None,
    *,
    threshold: float | None = None,
    batch_size: int | Literal["auto"] = 16,
    workers: int | None = None,
    long_text: LongText | None = None,
    cache: str | Path | None = None,
    review: ReviewBand | tuple[float, float] | None = None,
    decoder: Decoder | None = None,
) -> Predictor:
    """Open a checkpoint folder, a bundle folder or a backbone's name (zero-shot), ready to predict.

    `provider`: where it runs, auto, cpu, cuda or, for bundles, tensorrt (cuda without CUDA is an
    error, never a quiet fallback); `threads`: of the towers, by default as many as the engine
    chooses; `long_text`: what becomes of texts over the context (truncate, chunk, chunk-mean), by
    default what the model was trained for; `review`: scores that a person should look at, a
    `ReviewBand` or its two ends; `cache`: folder where `predict_pairs` keeps embeddings, so that a
    catalogue's next scoring encodes only what has changed; `decoder`: who decodes images in place
    of this process, as a `mismatch.runtime.decoding.DecodingPool` does with bounds of time and
    memory.
    """
    review_band(review)  # what is wrong here is said before a model is loaded
    check_batch_size(batch_size)
    check_workers(workers)
    check_long_text(long_text)
    check_decoder(decoder)
    if cache is not None:
        check_path(cache, "cache")
    place = check_path(path, "model")
    engine = open_engine(place, provider, check_threads(threads))
    predictor = Predictor(
        engine,
        threshold=threshold,
        batch_size=batch_size,
        workers=workers,
        long_text=long_text,
        cache=cache,
        review=review,
        decoder=decoder,
    )
    predictor._origin = _Origin(_absolute(place), provider, threads)
    return predictor


def _absolute(path: str | Path) -> str | Path:
    """Return where a folder lies whatever the working directory; a backbone's name as it is."""
    return Path(path).absolute() if Path(path).exists() else path


def _reload(origin: _Origin, settings: _Settings, chosen: Mapping[str, Any]) -> Predictor:
    """Load a model again as another process, or a copy, has it."""
    predictor = load(
        origin.path,
        origin.provider,
        origin.threads,
        batch_size=settings.batch_size,
        workers=settings.workers,
        long_text=settings.long_text,
        cache=settings.cache,
    )
    for name, value in chosen.items():
        setattr(predictor, name, value)
    return predictor
