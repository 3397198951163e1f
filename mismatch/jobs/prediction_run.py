"""One run over many rows: how they are scored and written, and what its output depends on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mismatch.data.rows import Row
from mismatch.io.remote import is_url
from mismatch.jobs.fetching import NO_FETCHING, FetchOptions
from mismatch.jobs.options import ModelSettings, open_predictor
from mismatch.jobs.output.run_record import option_key
from mismatch.jobs.prediction_rows import PredictionRows, Shard
from mismatch.jobs.scored_windows import kept_columns
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.preprocess import Decoder
from mismatch.specs import LongText, ReviewBand

if TYPE_CHECKING:
    from mismatch.runtime.pipeline import Engine

__all__ = ["BLOCK_ROWS", "Cluster", "PredictSettings", "run_settings"]

BLOCK_ROWS = 4096  # rows of a part: what a lost actor costs


@dataclass(frozen=True)
class PredictSettings:
    """How rows are scored and written."""

    model: ModelSettings
    threshold: float | None
    review_band: ReviewBand | None
    long_text: LongText | None
    cache: str | Path | None
    shard: Shard | None
    keep_columns: bool
    resume: bool
    isolate_decoding: bool
    fetching: FetchOptions = NO_FETCHING

    def open(self, model: str | Path | Predictor, decoder: Decoder | None = None) -> Predictor:
        """Return the model, ready to predict."""
        return open_predictor(
            model,
            self.model,
            threshold=self.threshold,
            review_band=self.review_band,
            long_text=self.long_text,
            cache=self.cache,
            decoder=decoder,
        )

    def kept(self, source: PredictionRows) -> dict[str, str]:
        """Return the input's columns that are copied → their names in the output."""
        return kept_columns(source.header) if self.keep_columns else {}

    def rows(self, source: PredictionRows) -> Iterator[Row]:
        """Return the rows of the shard."""
        return source.read() if self.shard is None else self.shard.of(source.read())


@dataclass(frozen=True)
class Cluster:
    """Actors of a Ray cluster."""

    actors: int | None  # so many work at once; None: all that have room
    address: str | None  # auto or HOST:PORT; None: one on this machine, for this run
    block_rows: int  # rows of a part

    def changed_options(self) -> list[str]:
        """Return the options that are not as by default."""
        is_changed = {
            "actors": self.actors is not None,
            "ray_address": self.address is not None,
            "block_rows": self.block_rows != BLOCK_ROWS,
        }
        return [name for name, changed in is_changed.items() if changed]


def run_settings(
    predictor: Predictor,
    source: PredictionRows,
    settings: PredictSettings,
    kept: dict[str, str],
    kind: str,
) -> dict[str, Any]:
    """Return all that the bytes of the output depend on but the rows, by a name for people."""
    engine = predictor.engine
    described = engine.describe()
    return {
        "the model": [engine.fingerprint, _head_digest(engine), asdict(engine.score)],
        "the engine": {name: value for name, value in described.items() if name != "threads"},
        "the images' folder": _images_folder(source.base),
        option_key("threshold"): predictor.threshold,
        option_key("review_band"): predictor.review and asdict(predictor.review),
        option_key("long_text"): predictor.pipeline.long_text,
        option_key("batch_size"): "any" if engine.independent else predictor.pipeline.batch_size,
        option_key("shard"): str(settings.shard or "none"),
        option_key("keep_columns"): list(kept.items()),
        "the format": kind,
        **({} if predictor.slices is None else {"slices' thresholds": asdict(predictor.slices)}),
        **_image_settings(source, settings),
    }


def _images_folder(base: str) -> str:
    """Return where relative image paths lead, whatever the working directory is next time."""
    if is_url(base):
        return base
    return os.path.abspath(base) if base else f"the working directory {Path.cwd()}"


def _image_settings(source: PredictionRows, settings: PredictSettings) -> dict[str, bool]:
    """Return what decides which images can be used, where it is not as by default: earlier versions
    did not write it.
    """
    is_set = {
        "allow_outside_images": bool(source.base) and not source.columns.inside,
        "isolate_decoding": settings.isolate_decoding,
        "fetch_images": settings.fetching.fetch_images,
    }
    return {option_key(name): True for name, value in is_set.items() if value}


def _head_digest(engine: Engine) -> str:
    """Return a digest of the head, which the fingerprint leaves out: a hash of what it says of a
    few fixed embeddings.
    """
    random = np.random.default_rng(0)
    images = random.standard_normal((8, engine.image_width)).astype(np.float32)
    texts = random.standard_normal((8, engine.text_width)).astype(np.float32)
    logits = np.ascontiguousarray(engine.logits(images, texts))
    return hashlib.sha256(logits.tobytes()).hexdigest()
