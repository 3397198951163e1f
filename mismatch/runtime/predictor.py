"""Predictor: what users hold. Scores pairs with a checkpoint or a bundle, whichever
engine runs it.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mismatch.data.columns import locate_image
from mismatch.data.confined import ConfinedFolder
from mismatch.data.rows import not_text
from mismatch.errors import CheckpointError, InputError, MissingExtraError
from mismatch.remote import Remote, located
from mismatch.runtime.cache import EmbeddingCache
from mismatch.runtime.hardware import MAX_THREADS
from mismatch.runtime.pacing import choose_batch_size
from mismatch.runtime.pipeline import Engine, Known, Pair, Pipeline, ScoredPair, scored_pair
from mismatch.runtime.preprocess import Decoder, ImageSource
from mismatch.runtime.scoring import scores_from_logits
from mismatch.runtime.tokenize import shown
from mismatch.specs import LongText, ReviewBand, ScoreSpec

__all__ = ["Prediction", "Predictor", "load"]

Provider = Literal["auto", "cpu", "cuda", "tensorrt"]


@dataclass(frozen=True)
class Prediction:
    """What mismatch says of one pair."""

    image_path: str  # as given; empty for an image that has no path
    text: str
    # probability of a match 0..1; cosine -1..1 for zero-shot; None for a row in error
    similarity_score: float | None
    threshold: float
    is_match: bool | None  # similarity_score >= threshold
    # review: a score in the review band, where a person should look
    prediction: Literal["match", "mismatch", "review", "error"]
    status: str  # "ok", or why there is no score
    logit: float | None = None  # before calibration


class Predictor:
    """Scores pairs of images and texts. Thread-safe."""

    def __init__(
        self,
        engine: Engine,
        *,
        threshold: float | None = None,
        batch_size: int | Literal["auto"] = 16,
        workers: int | None = None,
        long_text: LongText | None = None,
        cache: str | Path | None = None,
        review: ReviewBand | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        """`threshold`, `review` and `long_text` override the stored ones: a threshold all of them,
        the band and those of slices too. `batch_size` images a tower call, auto: as many as turn
        out fastest here; `workers` decoding threads; `cache`: folder of embeddings for
        `predict_pairs`, which encodes no file and no text that this model has encoded before;
        `decoder`: who decodes images in place of this process, a `DecodingPool`.
        """
        self.engine = engine
        store = None if cache is None else EmbeddingCache(cache, engine.fingerprint)
        size = choose_batch_size(engine) if batch_size == "auto" else batch_size
        self.pipeline = Pipeline(
            engine,
            batch_size=size,
            workers=workers,
            long_text=long_text,
            cache=store,
            decoder=decoder,
        )
        self._score = replace(engine.score, long_text=self.pipeline.long_text)
        self.threshold = check_threshold(engine.score, threshold)
        self.review = engine.score.review if review is None and threshold is None else review
        self.slices = engine.score.slices if threshold is None else None

    @property
    def score(self) -> ScoreSpec:
        """How this model's logits become scores; the threshold and calibration are the stored ones,
        also where `long_text` is overridden.
        """
        return self._score

    def threshold_for(self, slice_value: object = None) -> float:
        """The threshold of one value of the model's slice column, where it has one of its own; else
        that of all.
        """
        return (
            self.threshold
            if self.slices is None
            else self.slices.values.get(str(slice_value), self.threshold)
        )

    def predict(self, image: ImageSource, text: str, *, slice_value: object = None) -> Prediction:
        """One pair. `image`: a path, encoded bytes, a PIL image or an (H, W, 3) uint8 array;
        `slice_value`: of the column by which the model has thresholds.

        Raises for an image or text that can't be used.
        """
        if problem := _text_problem(text):
            raise InputError(problem)
        [embedding] = self._see([image])
        [pieces] = self.pipeline.pieces([text])
        if isinstance(pieces, InputError):
            raise pieces
        said = _stack(self.pipeline.piece_embeddings(pieces), self.engine.text_width)
        [logit] = self.pipeline.pair_logits([(embedding, list(said))])
        if isinstance(logit, InputError):
            raise logit
        return self._prediction(
            _name(image), text, scored_pair(logit), self.threshold_for(slice_value)
        )

    def predict_pairs(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        image_base_path: str | Path = "",
        known: Known | None = None,
        outside_images: bool | None = None,
    ) -> Iterator[Prediction]:
        """One prediction a row, in order, lazily, in bounded memory.

        A row has `image_path` (relative to `image_base_path`; or `image`, anything that `predict`
        takes) and `text`; other keys are ignored, but for the column by which the model has
        thresholds of slices, and `problem`: a reason why the row can't be scored. A row that can't
        be scored gets a status and no score. `known`: what other calls have encoded, for those that
        stand together.

        `outside_images`: whether `image_path` may lie outside `image_base_path`, by `..`, as an
        absolute path or through a link; by default only where no base is given. False without a
        base holds paths to the working directory. An `image` is the caller's own and may lie
        anywhere. `image_base_path` may be a URL of a store: s3://bucket/images. Then rows name
        objects below it, or with `outside_images` any in stores of its kind.
        """
        locate = _locator(image_base_path, outside_images)
        seen: deque[tuple[str, str, float]] = deque()
        column = None if self.slices is None else self.slices.column

        def pairs() -> Iterator[Pair]:
            for number, row in enumerate(rows, start=1):
                name, pair = _pair(row, number, locate)
                seen.append(
                    (
                        name,
                        pair.text,
                        self.threshold if column is None else self.threshold_for(row.get(column)),
                    )
                )
                yield pair

        for scored in self.pipeline.score(pairs(), known=known):
            name, text, threshold = seen.popleft()
            yield self._prediction(name, text, scored, threshold)

    def encode_images(self, images: Sequence[ImageSource]) -> NDArray[np.float32]:
        """N images → (N, image_dim) embeddings, not normalised. Raises for the first one that can't
        be read.
        """
        return self._see(images)[:, : self.engine.image_dim]

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """N texts → (N, text_dim) embeddings, not normalised. Raises for an empty one, and for what
        is no text.

        Of a text over the context the beginning only is embedded, whatever `long_text` says.
        """
        for text in texts:
            if problem := _text_problem(text):
                raise InputError(problem)
        embeddings = self.pipeline.texts(texts)
        for text, value in zip(texts, embeddings, strict=True):
            if isinstance(value, InputError):
                raise InputError(f"text {shown(text)!r}: {value}")
        return _stack(embeddings, self.engine.text_width)[:, : self.engine.text_dim]

    def _see(self, images: Sequence[ImageSource]) -> NDArray[np.float32]:
        """N images → (N, image_width), all that the head sees of them."""
        if len(images) == 1:  # one pair needs no threads
            return _stack([self.pipeline.image(images[0])], self.engine.image_width)
        return _stack(self.pipeline.images(images), self.engine.image_width)

    def _prediction(
        self, image_path: str, text: str, scored: ScoredPair, threshold: float
    ) -> Prediction:
        if scored.logit is None:
            return Prediction(
                image_path, text, None, threshold, None, "error", scored.problem or "no score"
            )
        score = float(scores_from_logits(scored.logit, self.score))
        is_match = score >= threshold
        said: Literal["match", "mismatch", "review"] = "match" if is_match else "mismatch"
        if self.review is not None and score in self.review:
            said = "review"
        return Prediction(image_path, text, score, threshold, is_match, said, "ok", scored.logit)


Locate = Callable[[str], Path | Remote]  # raises InputError for a path that can't be had


def _locator(base_path: str | Path, outside: bool | None) -> Locate:
    """What finds the file or object of a row's path; InputError for a path that leaves the base and
    may not.
    """
    base = located(base_path)
    folder = str(base_path)
    if isinstance(base, Remote) or outside or (outside is None and not folder):
        return partial(locate_image, base, outside=bool(outside))
    confined = ConfinedFolder(folder)

    def locate(path: str) -> Path | Remote:
        place = locate_image(base, path)
        if confined.leaves(path):
            where = folder or "the working directory"
            raise InputError(
                f"image {path!r} leaves {where}; pass outside_images=True if it may lie elsewhere"
            )
        return place

    return locate


def _pair(row: Mapping[str, Any], number: int, locate: Locate) -> tuple[str, Pair]:
    """The row's image name as given, and what the pipeline needs."""
    if "text" not in row or ("image_path" not in row and "image" not in row):
        raise InputError(
            f"row {number} has the keys {', '.join(map(str, row)) or 'none'}; image_path and text"
            " are needed"
        )
    path = row.get("image_path")
    problem = row.get("problem")
    name = str(path) if isinstance(path, (str, os.PathLike)) else ""
    if "image" in row:
        image = row["image"]
    else:
        image, problem = _located(locate, name, problem or _path_problem(path))
    text = row["text"]
    return name, Pair(image, str(text), problem or _text_problem(text))


def _located(locate: Locate, path: str, problem: str | None) -> tuple[Path | Remote, str | None]:
    """Where an image lies, and why it can't be had from there."""
    if problem is None:
        try:
            return locate(path), None
        except InputError as error:
            problem = str(error)
    return Path(path), problem


def _path_problem(path: object) -> str | None:
    if isinstance(path, (str, os.PathLike)):
        return None
    # nan: an empty cell in pandas
    missing = path is None or (isinstance(path, float) and math.isnan(path))
    return "the image_path is missing" if missing else not_text("image_path", path)


def _text_problem(text: object) -> str | None:
    return None if isinstance(text, str) else not_text("text", text)


def _name(image: ImageSource) -> str:
    return str(image) if isinstance(image, (str, Path, Remote)) else ""


def _stack(values: Iterable[NDArray[np.float32] | InputError], width: int) -> NDArray[np.float32]:
    rows = []
    for value in values:
        if isinstance(value, InputError):
            raise value
        rows.append(value)
    return np.stack(rows) if rows else np.empty((0, width), np.float32)


def check_threshold(score: ScoreSpec, threshold: float | None) -> float:
    """The threshold in use: the one given, checked, else the stored one, else the default."""
    if threshold is None:
        return score.threshold_in_use
    low = 0.0 if score.kind == "probability" else -1.0
    if not low <= threshold <= 1.0:  # also refuses nan
        raise InputError(
            f"the threshold is {threshold}; this model's scores lie between {low:g} and 1"
        )
    return float(threshold)


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
    review: ReviewBand | None = None,
    decoder: Decoder | None = None,
) -> Predictor:
    """Open a checkpoint folder, a bundle folder or a backbone's name (zero-shot), ready to predict.

    `provider`: where it runs, auto, cpu, cuda or, for bundles, tensorrt (cuda without CUDA is an
    error, never a quiet fallback); `threads`: of the towers, by default as many as the engine
    chooses; `long_text`: what becomes of texts over the context (truncate, chunk, chunk-mean), by
    default what the model was trained for; `review`: scores that a person should look at; `cache`:
    folder where `predict_pairs` keeps embeddings, so that a catalogue's next scoring encodes only
    what has changed; `decoder`: who decodes images in place of this process, as a
    `mismatch.runtime.decoding.DecodingPool` does with bounds of time and memory.
    """
    engine = _open_engine(path, provider, threads)
    return Predictor(
        engine,
        threshold=threshold,
        batch_size=batch_size,
        workers=workers,
        long_text=long_text,
        cache=cache,
        review=review,
        decoder=decoder,
    )


def _open_engine(path: str | Path, provider: Provider, threads: int | None) -> Engine:
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise InputError(f"threads is {threads}; a number from 1 to {MAX_THREADS:,} is needed")
    name = "onnx" if is_bundle(path) else "torch"
    [opener, *_] = entry_points(group="mismatch.engines", name=name) or [None]
    if opener is None:
        raise CheckpointError(f"no engine called {name} is installed; reinstall mismatch-clip")
    try:
        open_engine = opener.load()
    except ModuleNotFoundError as error:
        if name == "onnx":
            raise CheckpointError(
                f"bundle {path!s} can't be opened: {error.name} can't be imported: pip install"
                f" {error.name}"
            ) from error
        if name == "torch" and not Path(path).exists():
            raise CheckpointError(f"model folder {path!s} not found") from error
        raise MissingExtraError(f"{path!s} is not an ONNX bundle; opening it", "train") from error
    engine: Engine = open_engine(path, provider=provider, threads=threads)
    return engine


def is_bundle(path: str | Path) -> bool:
    """Whether the folder is a bundle that `mismatch export-onnx` wrote. What is no file there is
    for its reader to refuse.
    """
    return (Path(path) / "manifest.json").exists()
