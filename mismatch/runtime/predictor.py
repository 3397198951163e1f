"""Predictor: what users hold. It scores pairs with a checkpoint or a bundle, by either engine."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from mismatch.data.columns import Columns
from mismatch.data.readers.memory import row_mappings, value_text
from mismatch.errors import MisuseError
from mismatch.runtime import several
from mismatch.runtime.arguments import check_path, check_threads, decisions_in_use, review_band
from mismatch.runtime.common_space import project
from mismatch.runtime.engines import Engine, Provider, is_bundle, open_engine
from mismatch.runtime.hub_models import local_model
from mismatch.runtime.hub_push import Pushed, PushOptions, push_folder
from mismatch.runtime.languages import unread_warning
from mismatch.runtime.model_handle import EngineSettings, ModelHandle, ModelOrigin
from mismatch.runtime.pipeline import EmbeddingMemo, Pipeline, ScoredPair, scored_pair
from mismatch.runtime.predictions import Prediction, Predictions, check_table, decisive, table_like
from mismatch.runtime.preprocess import Decoder, ImageSource
from mismatch.runtime.row_pairs import (
    Pair,
    PairReader,
    PairSource,
    as_asked,
    image_name,
    image_source,
    is_live,
    rows_of,
)
from mismatch.runtime.scoring import scores_from_logits
from mismatch.runtime.slice_use import SliceUse, warn_of_value
from mismatch.runtime.text_tower import TextCounts
from mismatch.specs import LongText, ReviewBand, ScoreSpec

__all__ = ["Prediction", "Predictions", "Predictor", "Provider", "is_bundle", "load"]

logger = logging.getLogger(__name__)


class Predictor:
    """Scores pairs of images and texts. Thread-safe; a context manager that closes itself.

    One that `load` has made can be pickled and copied: the copy loads the model again. In a forked
    process a bundle is loaded again at its first use, and a checkpoint runs on one thread. Both
    raise CheckpointError where another model has taken its place.
    """

    def __init__(  # noqa: PLR0913
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
        """Make a predictor. `threshold`, `review` and `long_text` override the stored ones: a
        threshold all of them, the band and those of slices too. `batch_size` images a tower call,
        auto: as many as turn out fastest here; `workers` decoding threads. `cache`: folder of
        embeddings for `predict_pairs`, which encodes no file and no text that this model has
        encoded before. `decoder`: who decodes images in place of this process, a `DecodingPool`.
        """
        band = review_band(review)
        settings = EngineSettings.checked(batch_size, workers, long_text, cache, decoder)
        in_use = decisions_in_use(engine.score, threshold, band)
        self.threshold, self.review, self.slices = in_use
        if band is not None:
            band.check_thresholds(self.thresholds, "review")
        self._model = ModelHandle(engine, settings)
        self._score = replace(engine.score, long_text=self.pipeline.long_text)

    @property
    def pipeline(self) -> Pipeline:
        """Return what scores; InputError once the predictor is closed."""
        return self._model.pipeline

    @property
    def engine(self) -> Engine:
        """Return what runs the model."""
        return self.pipeline.engine

    @property
    def score(self) -> ScoreSpec:
        """Return how this model's logits become scores; the threshold and calibration are the
        stored ones, also where `long_text` is overridden.
        """
        return self._score

    @property
    def thresholds(self) -> list[float]:
        """Return all thresholds that pairs are decided by: that of most, and those of slices."""
        by_slice = {} if self.slices is None else self.slices.values
        return [self.threshold, *by_slice.values()]

    def threshold_for(self, slice_value: object = None) -> float:
        """Return the threshold of one value of the model's slice column, where it has one of its
        own; else that of all.
        """
        if self.slices is None:
            return self.threshold
        threshold = self.slices.threshold_of(value_text(slice_value))
        return self.threshold if threshold is None else threshold

    def predict(
        self,
        image: ImageSource,
        text: str,
        *,
        slice_value: object = None,
        counts: TextCounts | None = None,
    ) -> Prediction:
        """Score one pair. `image`: a path, encoded bytes, a PIL image or an (H, W, 3) uint8 array;
        `slice_value`: of the column by which the model has thresholds; `counts`: to which a text
        over the context is added, as `Predictions` counts those of many rows.

        Raises for an image or text that can't be used.
        """
        source = image_source(image)
        warn_of_value(self.slices, self.threshold, slice_value)
        logit = several.logit_of_pair(self.pipeline, source, text, counts)
        pair = Pair(source, text, None, image_name(image), slice_value)
        return self._prediction(pair, scored_pair(logit))

    def predict_pairs(
        self,
        rows: Any,
        *,
        image_base_path: str | Path = "",
        known: EmbeddingMemo | None = None,
        outside_images: bool | None = None,
        live: bool | None = None,
    ) -> Predictions[Prediction]:
        """Yield one prediction a row, in order, lazily, in bounded memory.

        `rows`: a table of pandas, polars, pyarrow or datasets, or an iterable of mappings. A row
        has `image_path` (relative to `image_base_path`; where that key is missing, `image`,
        anything that `predict` takes) and `text`; other keys are ignored, but for the column by
        which the model has thresholds of slices. A row that can't be scored gets a status and no
        score. `known`: what other calls have encoded, for those that stand together.

        `outside_images`: whether `image_path` may lie outside `image_base_path`, by `..`, as an
        absolute path or through a link; by default only where no base is given. False without a
        base holds paths to the working directory. A path in `image` is held alike. With a URL of a
        store, s3://bucket/images, rows name objects below it, or with `outside_images` any in
        stores of its kind.

        `live`: score rows as they come, and read them on a thread, so that one that is late holds
        up none that is there; by default where `rows` is an iterator or has no length. False: read
        4,096 rows at a time, on the caller's thread. A
        file that a row names is read some rows later: leave it as it is until its answer comes.
        """
        reader = PairReader.of(rows, image_base_path, outside_images, slices=self.slices)
        live = is_live(rows) if live is None else live
        scored = self._predict(rows_of(rows), reader, known, live)
        return Predictions((prediction for _, prediction in scored), scored.counts)

    def predict_rows(
        self,
        rows: Any,
        *,
        image_base_path: str | Path = "",
        columns: Columns | None = None,
        known: EmbeddingMemo | None = None,
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
        base = str(check_path(image_base_path, "image_base_path"))
        source = PairSource.of(rows, base, columns)
        columns = source.columns
        outside = columns is not None and not columns.inside
        reader = PairReader.of(
            source.rows, source.base, outside, slices=self.slices, columns=columns
        )
        is_best = columns is not None and columns.multi_image == "best"
        return self._predict(rows_of(source.rows), reader, known, live, is_best=is_best)

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

        `image_column`: of paths, or of images in memory; where that column is missing, `image`;
        `outside_images`: as for `predict_pairs`.
        """
        check_table(frame)  # before anything is scored
        use = SliceUse(self.slices, self.threshold)
        counted = use.counted(row_mappings(frame))
        rows = (as_asked(row, image_column, text_column) for row in counted)
        scored = self.predict_pairs(
            rows, image_base_path=image_base_path, outside_images=outside_images, live=False
        )
        predictions = list(scored)
        unread = unread_warning(self.pipeline.tokenizer, (row.text for row in predictions))
        for warning in filter(None, (use.warning(), unread)):
            logger.warning(warning)
        return table_like(frame, predictions)

    def scores(self, images: Iterable[Any], texts: Iterable[str]) -> NDArray[np.float64]:
        """Score N images and N texts → (N,) similarity scores, pair by pair; raises for the first
        pair that can't be used.
        """
        return scores_from_logits(several.logits_of_pairs(self.pipeline, images, texts), self.score)

    def score_matrix(self, images: Iterable[Any], texts: Iterable[str]) -> NDArray[np.float64]:
        """Score N images and M texts → (N, M) similarity scores, of each image with each text.

        Each is encoded once. Raises for the first image or text that can't be used.
        """
        return scores_from_logits(several.logits_of_all(self.pipeline, images, texts), self.score)

    def embed_images(self, images: Iterable[Any]) -> NDArray[np.float32]:
        """Map N images → (N, D) embeddings of length 1 in the space where the head compares images
        and texts: the higher the cosine, the higher the score.

        InputError for a bundle whose head is an adapter, which gives scores of pairs only.
        """
        return project(self.engine, several.embed_images(self.pipeline, images), "image")

    def embed_texts(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Map N texts → (N, D) embeddings of length 1, comparable with those of `embed_images`; of
        a text over the context, of its beginning.
        """
        return project(self.engine, several.embed_texts(self.pipeline, texts), "text")

    def encode_images(self, images: Iterable[Any]) -> NDArray[np.float32]:
        """Map N images → (N, image_dim) embeddings of the image tower, not normalised. Raises for
        the first one that can't be read.
        """
        return several.embed_images(self.pipeline, images)[:, : self.engine.image_dim]

    def encode_texts(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Map N texts → (N, text_dim) embeddings of the text tower, not normalised. Raises for an
        empty one, and for what is no text.

        Only the beginning of a text over the context is embedded, whatever `long_text` says.
        """
        return several.embed_texts(self.pipeline, texts)[:, : self.engine.text_dim]

    @property
    def origin(self) -> str | Path | None:
        """Return the folder or name that it was loaded by; None where it was made of an engine."""
        return None if self._model.origin is None else self._model.origin.path

    def check_folder(self, folder: str | Path) -> None:
        """Raise CheckpointError where a folder does not hold the model that was loaded."""
        if self._model.origin is not None:
            self._model.origin.check(folder)

    def push_to_hub(self, name: str, **options: Unpack[PushOptions]) -> Pushed:
        """Push the folder that it was loaded from to OWNER/NAME; see `mismatch.push`."""
        if self.origin is not None:
            self.check_folder(self.origin)
        return push_folder(self.origin, name, **options)

    def close(self) -> None:
        """Let go of the model. Calls that run go on; later ones raise InputError."""
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        model = "" if self.origin is None else f"{str(self.origin)!r}, "
        return f"<Predictor {model}{self._model.state}, threshold {self.threshold:g}>"

    def __reduce__(self) -> tuple[Any, ...]:
        model = self._model
        if model.origin is None or model.settings.decoder is not None:
            what = "made of an engine" if model.origin is None else "with a `decoder`"
            raise MisuseError(f"a predictor {what} can't be pickled or copied; load the model")
        names = ("threshold", "review", "slices", "_score")  # the folder may have others by now
        chosen = {name: getattr(self, name) for name in names}
        return _reload, (model.origin, model.settings, chosen)

    def _predict(
        self,
        rows: Iterable[Any],
        reader: PairReader,
        memo: EmbeddingMemo | None,
        live: bool,
        *,
        is_best: bool = False,
    ) -> Predictions[tuple[Any, Prediction]]:
        """Predict rows. `is_best`: of a row's images the highest score decides, not the lowest."""
        pipeline = self.pipeline
        counts = TextCounts(total=pipeline.totals)
        pending: deque[tuple[Any, list[Pair]]] = deque()

        def pairs() -> Iterator[Pair]:
            for number, row in enumerate(rows, start=1):
                row_pairs = reader.pairs(row, number)
                pending.append((row, row_pairs))
                yield from row_pairs

        def predictions() -> Generator[tuple[Any, Prediction], None, None]:
            results = pipeline.score(pairs(), memo=memo, counts=counts, live=live)
            for scored in results:
                row, row_pairs = pending.popleft()
                first = self._prediction(row_pairs[0], scored)
                if len(row_pairs) == 1:
                    yield row, first
                    continue
                others = zip(row_pairs[1:], islice(results, len(row_pairs) - 1), strict=True)
                every = [first, *(self._prediction(pair, result) for pair, result in others)]
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


def load(  # noqa: PLR0913
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
    """Open a checkpoint folder, a bundle folder, one of the hub (`OWNER/NAME`, or
    `hub:OWNER/NAME@REVISION`), or a backbone's name (zero-shot), ready to predict.

    `provider`: where it runs, auto, cpu, cuda or, for bundles, tensorrt (cuda without CUDA is an
    error, never a quiet fallback); `threads`: of the towers, by default as many as the engine
    chooses; `long_text`: what becomes of texts over the context (truncate, chunk, chunk-mean), by
    default what the model was trained for; `review`: scores that a person should look at, a
    `ReviewBand` or its two ends; `cache`: folder where `predict_pairs` keeps embeddings; `decoder`:
    what decodes images, as a `mismatch.runtime.decoding.DecodingPool`, within bounds.
    """
    review_band(review)  # what is wrong here is said before a model is loaded
    settings = EngineSettings.checked(batch_size, workers, long_text, cache, decoder)
    place = local_model(check_path(path, "model"))
    origin = ModelOrigin.of(place, provider, threads)
    engine = open_engine(place, provider, check_threads(threads))
    origin.check(place)
    predictor = Predictor(engine, threshold=threshold, review=review, **vars(settings))
    predictor._model.origin = origin
    return predictor


def _reload(origin: ModelOrigin, settings: EngineSettings, chosen: Mapping[str, Any]) -> Predictor:
    """Load the same model again as another process, or a copy, has it."""
    predictor = Predictor(origin.open(), **vars(settings))
    predictor._model.origin = origin
    for name, value in chosen.items():
        setattr(predictor, name, value)
    return predictor
