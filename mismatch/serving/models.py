"""The models of a service: each with its queue, its memory of what was encoded and its watch on
drift; replaced while requests run.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image
from starlette.exceptions import HTTPException

from mismatch.data.lexicon import Lexicon
from mismatch.errors import InputError
from mismatch.evaluation.drift import Drift
from mismatch.runtime.explain import explain
from mismatch.runtime.explanation import Explanation
from mismatch.runtime.pipeline import HELD_IMAGES, Embedded, EmbeddingMemo, Pair
from mismatch.runtime.predictor import Prediction, Predictor, load
from mismatch.runtime.preprocess import PreparedImage
from mismatch.serving.batching import CLOSED, Batcher, ClosedError, FullError
from mismatch.serving.budget import FULL, Budget, current_client
from mismatch.serving.configuration import DEFAULT, Settings
from mismatch.serving.facts import model_facts
from mismatch.serving.messages import Answer, ExplanationAnswer, ModelName
from mismatch.serving.telemetry import Metrics
from mismatch.serving.turns import Turns

__all__ = ["Models", "Queue", "RememberedImage", "Served"]

Queue = Literal["pairs", "explanations"]  # where requests wait for a model
# Queues that decoded pictures, much larger than their files, may fill; one client's can fill one.
QUEUES = 3
NO_PIXELS = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class RememberedImage(PreparedImage):
    """An image that need not be decoded: it has no pixels."""

    embedding: Embedded


class Served:
    """One loaded model."""

    def __init__(
        self, name: str, predictor: Predictor, settings: Settings, metrics: Metrics
    ) -> None:
        self.name = name
        self.predictor = predictor
        self._settings = settings
        self._metrics = metrics
        self.model_id = _model_id(predictor)
        reference = predictor.score.reference
        self.drift = None if reference is None else Drift(reference, settings.drift_pairs)
        self._memo = EmbeddingMemo.empty(settings.remember)
        self._lexicon = Lexicon()
        self._facts: asyncio.Future[bytes] | None = None
        self._closing = False
        self._users = 0  # requests that hold this model
        self._unused = asyncio.Event()
        self._unused.set()
        self._turns = Turns(settings.explanations, "explanations")
        self.long_texts = Turns(4 * settings.queue, "texts")  # its tokenizer may be slow
        self._explainer = ThreadPoolExecutor(1, thread_name_prefix="mismatch-explaining")
        self._picture = 3 * predictor.engine.image_spec.size**2  # bytes of a decoded one
        room = max(settings.max_bodies, QUEUES * settings.queue * self._picture)
        self._pictures = Budget(room, settings.max_pairs * self._picture)
        self.batcher = Batcher(
            self._score,
            batch=settings.batch,
            wait=settings.wait,
            queue=settings.queue,
            max_wait=settings.max_wait,
            seen=self._seen,
            pieces=predictor.pipeline.estimated_pieces,
        )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the model for a request until the block ends, also where another replaces it."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    @contextmanager
    def room_for(self, pictures: int) -> Iterator[None]:
        """Keep room for the decoded pictures of a request until the block ends; HTTPException (503)
        where those of all, or of its client, are too many.
        """
        client = current_client()
        size = pictures * self._picture
        if not self._pictures.fits(client, size):
            raise HTTPException(503, FULL, {"retry-after": "1"})
        self._pictures.hold(client, size)
        try:
            yield
        finally:
            self._pictures.hold(client, -size)

    async def retire(self) -> None:
        """Close it once no request uses it any more."""
        await self._unused.wait()
        await self.close()
        self._release()

    async def close(self) -> None:
        """Finish what waits, and take nothing more."""
        self._closing = True
        await self.batcher.close()
        await self._turns.finished()
        await asyncio.to_thread(self._explainer.shutdown)

    def _release(self) -> None:
        """Let go of the batcher: the two hold each other, and a collection may be far."""
        self.batcher.release()

    def remembered(self, digest: bytes) -> RememberedImage | None:
        """Return an image of these bytes that was embedded before, if that is still known."""
        embedding = self._memo.images.values.get(digest)
        return None if embedding is None else RememberedImage(digest, NO_PIXELS, embedding)

    def row(
        self,
        image: PreparedImage | None,
        text: str,
        slice_value: str | None,
        problem: str | None = None,
    ) -> dict[str, Any]:
        """Return a pair as `_score` takes it; `problem`: why it can't be scored. Its keys are
        ours: a slice column may be called "image", and its value is never one.
        """
        return {"image": image, "text": text, "problem": problem, "slice_value": slice_value}

    async def answers(self, rows: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Return one answer a row, in order."""
        predictions = await self.batcher.predict(rows, current_client())
        return [self._answer(prediction) for prediction in predictions]

    def check_explanation(self, client: str, reading: Mapping[str, int]) -> None:
        """Raise FullError or ClosedError where no explanation of a client would be taken now. Those
        that are being read (`reading`) of each client come first.
        """
        if self._closing:
            raise ClosedError(CLOSED)
        self._turns.check(client, reading)

    async def explanation(
        self, image: PreparedImage, text: str, slice_value: str | None, *, heat_map: bool
    ) -> ExplanationAnswer:
        """Explain one pair; one at a time, by turns of clients. FullError where too many wait.

        One that nobody waits for any more ends at its next step.
        """
        if self._closing:
            raise ClosedError(CLOSED)
        loop = asyncio.get_running_loop()
        async with self._turns.turn(current_client()):
            unwanted = threading.Event()
            work = (image, text, slice_value, heat_map, unwanted)
            try:
                return await loop.run_in_executor(self._explainer, self._explain, *work)
            finally:
                unwanted.set()

    def _explain(
        self,
        image: PreparedImage,
        text: str,
        slice_value: str | None,
        heat_map: bool,
        unwanted: threading.Event,
    ) -> ExplanationAnswer:
        def check() -> None:
            if unwanted.is_set():
                raise CancelledError

        start = time.perf_counter()
        explanation = explain(
            self.predictor,
            image,
            text,
            heat_map=heat_map,
            lexicon=self._lexicon,
            slice_value=slice_value,
            check=check,
        )
        self._metrics.stage(self.name, "explain", time.perf_counter() - start)
        return _explanation(explanation, self.model_id)

    def _seen(self, size: int, waits: Sequence[float]) -> None:
        self._metrics.batch(self.name, size)
        for seconds in waits:
            self._metrics.stage(self.name, "queue", seconds)

    def _score(self, rows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        start = time.perf_counter()
        predictions: list[Prediction] = []
        # what is recalled for some rows, the pipeline may drop before it comes to later ones
        for first in range(0, len(rows), HELD_IMAGES):
            part = rows[first : first + HELD_IMAGES]
            self._recall(part)
            pairs = [self._pair(row) for row in part]
            predictions += self.predictor.predict_pairs(pairs, known=self._memo)
        self._metrics.stage(self.name, "score", time.perf_counter() - start)
        self._metrics.scored(self.name, predictions)
        if self.drift is not None:
            logits = [(row.logit, len(row.text)) for row in predictions if row.logit is not None]
            self.drift.add(logits)
        return predictions

    def _pair(self, row: Mapping[str, Any]) -> Pair:
        value = None if self.predictor.slices is None else row["slice_value"]
        image = NO_PIXELS if row["image"] is None else row["image"]
        return Pair(image, row["text"], row["problem"], slice_value=value)

    def _recall(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Note again what was remembered when these rows came, and may have been dropped since."""
        images = self._memo.images
        for row in rows:
            image = row["image"]
            if isinstance(image, RememberedImage) and image.digest not in images.values:
                images.add(image.digest, image.embedding)

    def _answer(self, prediction: Prediction) -> Answer:
        return Answer(
            similarity_score=prediction.similarity_score,
            threshold=prediction.threshold,
            is_match=prediction.is_match,
            prediction=prediction.prediction,
            status=prediction.status,
            model_id=self.model_id,
        )

    async def facts(self) -> bytes:
        """Return the JSON of /v1/model, which is made once: it may list many thresholds."""
        if self._facts is None or (self._facts.done() and self._facts.exception()):
            made = asyncio.to_thread(
                model_facts, self.name, self.model_id, self.predictor, self._settings
            )
            self._facts = asyncio.ensure_future(made)
        return await asyncio.shield(self._facts)


class Models:
    """All models of a service, by name."""

    def __init__(
        self, settings: Settings, metrics: Metrics, preloaded: Mapping[str, Predictor]
    ) -> None:
        """Take `preloaded`, models that are used until they are loaded again."""
        self._settings = settings
        self._metrics = metrics
        self._preloaded = preloaded
        self._served: dict[str, Served] = {}
        self._loading = asyncio.Lock()
        self._retiring = set[asyncio.Task[None]]()  # models that others have replaced

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def get(self, name: str | None) -> Served:
        """Return the model of that name, by default the first; InputError for a name that there
        isn't.
        """
        served = self._served.get(DEFAULT if name is None else name)
        if served is None:
            raise InputError(
                f"there is no model {str(name)[:80]!r}; {', '.join(self._served)} are there"
            )
        return served

    @property
    def names(self) -> list[ModelName]:
        return [ModelName(name=served.name, model_id=served.model_id) for served in self]

    def busy(
        self, queue: Queue, client: str, reading: Mapping[str, int]
    ) -> FullError | ClosedError | None:
        """Say why no model's queue would take anything of a client now, after what is being read
        (`reading`) of each client. None where one would.
        """
        error = None
        for served in self:
            try:
                if queue == "pairs":
                    served.batcher.check(client=client, reading=reading)
                else:
                    served.check_explanation(client, reading)
            except (FullError, ClosedError) as raised:
                error = raised
            else:
                return None
        return error

    async def load(self) -> list[str]:
        """Load all from where they lie and put them in the place of those that ran. Return the
        names of what is another one now.

        Requests go on with the models that they have, which are closed behind the last of them.
        Before that no others are loaded, so that two of each are in memory at most. Where one can't
        be loaded, MismatchError, and all stay as they were.
        """
        async with self._loading:
            await self.retired()
            predictors = {
                name: await asyncio.to_thread(self._open, name, path)
                for name, path in self._settings.named.items()
            }
            fresh = {
                name: Served(name, predictor, self._settings, self._metrics)
                for name, predictor in predictors.items()
            }
            self._preloaded = {}
            before = self._served
            changed = [
                name
                for name, served in fresh.items()
                if name not in before or before[name].model_id != served.model_id
            ]
            for served in fresh.values():
                served.batcher.start()
            self._served = fresh
            for served in before.values():
                task = asyncio.get_running_loop().create_task(served.retire())
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)
            return changed

    async def retired(self) -> None:
        """Wait for all models that others have replaced."""
        if self._retiring:
            await asyncio.wait(self._retiring)

    def _open(self, name: str, path: str) -> Predictor:
        if name in self._preloaded:
            return self._preloaded[name]
        return load(path, self._settings.provider, self._settings.threads)

    async def close(self) -> None:
        """Finish what waits."""
        await asyncio.gather(*(served.close() for served in self))
        await self.retired()

    def drifts(self) -> list[tuple[str, str, float]]:
        """Return model, what has drifted or not, and its index, of each."""
        return [
            (served.name, what, index)
            for served in self
            if served.drift is not None
            for what, index in served.drift.indices().items()
        ]


def _model_id(predictor: Predictor) -> str:
    """Return the id of weights and score: hex, 16 digits."""
    score = replace(predictor.score, reference=None, earlier=())  # these change no answer
    identity = json.dumps(
        [predictor.engine.fingerprint, asdict(score), predictor.threshold], sort_keys=True
    )
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _explanation(explanation: Explanation, model_id: str) -> ExplanationAnswer:
    plain = explanation.to_dict()
    picture = None
    if explanation.picture is not None:
        file = io.BytesIO()
        Image.fromarray(explanation.picture).save(file, "PNG")
        picture = base64.b64encode(file.getvalue()).decode()
    fields = {name: plain[name] for name in ExplanationAnswer.model_fields if name in plain}
    return ExplanationAnswer(**fields | {"model_id": model_id, "picture": picture})
