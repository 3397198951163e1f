"""A model in use: opened from where it came, let go, and had again in a forked process."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mismatch.errors import CheckpointError, InputError, MachineError
from mismatch.runtime.arguments import (
    check_batch_size,
    check_decoder,
    check_long_text,
    check_path,
    check_workers,
)
from mismatch.runtime.batch_size import choose_batch_size
from mismatch.runtime.cache import EmbeddingCache
from mismatch.runtime.engines import Engine, Provider, open_engine
from mismatch.runtime.forking import has_threads, keep_alive, watch
from mismatch.runtime.pipeline import Pipeline
from mismatch.runtime.preprocess import Decoder
from mismatch.runtime.score_file import weights_digest
from mismatch.specs import LongText

__all__ = ["EngineSettings", "ModelHandle", "ModelOrigin"]


@dataclass(frozen=True)
class EngineSettings:
    """How an engine is run."""

    batch_size: int | Literal["auto"]  # images a tower call
    workers: int | None  # threads that decode images; None: one per CPU
    long_text: LongText | None  # None: what the model was trained for
    cache: str | Path | None  # folder of embeddings; None: no cache
    decoder: Decoder | None  # None: this process decodes

    @classmethod
    def checked(
        cls, batch_size: object, workers: object, long_text: object, cache: object, decoder: object
    ) -> EngineSettings:
        """Return them as they were given; InputError, by its name, for what is of a wrong type."""
        return cls(
            check_batch_size(batch_size),
            check_workers(workers),
            check_long_text(long_text),
            None if cache is None else check_path(cache, "cache"),
            check_decoder(decoder),
        )

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
class ModelOrigin:
    """Where a model came from, so that another process can load it too."""

    path: str | Path  # absolute, where it is a folder
    provider: Provider
    threads: int | None
    weights: str | None  # see `weights_digest`, before it was opened

    @classmethod
    def of(cls, path: str | Path, provider: Provider, threads: int | None) -> ModelOrigin:
        """Return where a model lies whatever the working directory; a backbone's name as it is."""
        place = Path(path).absolute() if os.path.exists(path) else path
        return cls(place, provider, threads, weights_digest(place))

    def open(self) -> Engine:
        """Load the same model again; CheckpointError where another one lies there by now."""
        self.check(self.path)
        engine = open_engine(self.path, self.provider, self.threads)
        self.check(self.path)
        return engine

    def check(self, folder: str | Path) -> None:
        """Refuse a folder that holds another model."""
        if weights_digest(folder) != self.weights:
            raise CheckpointError(
                f"{folder} holds another model than the one that was loaded from it: it was"
                " replaced since; load the model again"
            )


class ModelHandle:
    """A loaded model, until it is let go. Thread-safe."""

    def __init__(self, engine: Engine, settings: EngineSettings) -> None:
        self.settings = settings
        self.origin: ModelOrigin | None = None  # None: made of an engine that somebody else opened
        self._pipeline: Pipeline | None = settings.pipeline(engine)
        self._is_inherited = False
        self._lock = threading.Lock()
        watch(self)

    @property
    def pipeline(self) -> Pipeline:
        """Return what scores; InputError once the model was let go."""
        if self._is_inherited:
            self._adopt()
        pipeline = self._pipeline
        if pipeline is None:
            raise InputError("the predictor is closed; load the model again")
        return pipeline

    @property
    def state(self) -> str:
        """Return the engine's name, or that it is closed, for people."""
        return "closed" if self._pipeline is None else self._pipeline.engine.name

    def close(self) -> None:
        """Let go of the model. Calls that run go on."""
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

    def _adopt(self) -> None:
        """Make the model usable in this forked process."""
        with self._lock:
            pipeline = self._pipeline
            if not self._is_inherited or pipeline is None:
                return
            self._pipeline = self.settings.pipeline(self._usable(pipeline.engine))
            self._is_inherited = False

    def _usable(self, engine: Engine) -> Engine:
        if hasattr(engine, "after_fork"):
            engine.after_fork()
            return engine
        if not has_threads(engine):
            return engine
        if self.origin is None:
            raise MachineError(
                "the model was loaded before this process was forked, and its threads are not here;"
                " load it in this process"
            )
        return self.origin.open()
