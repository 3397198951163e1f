"""What the routes do: requests read and checked, pairs handed to their model, answers within the
deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from mismatch.errors import ImageError, ImageRefusedError, InputError
from mismatch.runtime.predictor import Predictor
from mismatch.runtime.preprocess import PreparedImage
from mismatch.runtime.tokenize import EMPTY
from mismatch.serving.bodies import BodyReader, parse_message
from mismatch.serving.budget import current_client
from mismatch.serving.configuration import Settings
from mismatch.serving.disconnects import together
from mismatch.serving.fetching import FairFetcher, Fetcher
from mismatch.serving.forms import parse_form
from mismatch.serving.images import LARGE, ImageDecoder, from_base64
from mismatch.serving.messages import (
    Answer,
    BatchAnswer,
    BatchQuestion,
    ExplainQuestion,
    ExplanationAnswer,
    PairReference,
    Question,
)
from mismatch.serving.models import Models, Served
from mismatch.serving.reloading import Reloading
from mismatch.serving.telemetry import Metrics

__all__ = ["Service"]

FORM_FIELDS = ("image", "text", "slice_value", "model")
SHORT = 500  # characters, up to which a text is tokenized on the event loop
MAX_PIECES = 128  # pieces of a text that is scored: a second of CLIP's text tower
T = TypeVar("T")
Q = TypeVar("Q", bound=BaseModel)


class Service:
    """Models, and how requests reach them."""

    def __init__(self, settings: Settings, preloaded: Mapping[str, Predictor]) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.ready = False
        self.models = Models(settings, self.metrics, preloaded)
        self.reload = Reloading(self.models)
        self._decoder = ImageDecoder(settings)
        fetch = Fetcher(
            settings.fetch,
            settings.fetch_networks,
            seconds=settings.fetch_seconds,
            max_bytes=settings.max_image,
        )
        self._fetch = FairFetcher(fetch, settings.max_body)
        # One is tokenized at a time: it can take 0.1 s, and bodies wait for the same threads. More
        # requests than may wait for a model are not let in.
        self._bodies = BodyReader(4 * settings.queue)
        watch = self.metrics.watch
        watch(
            "mismatch_queue_pairs",
            "Pairs that wait.",
            ["model"],
            lambda: (([served.name], served.batcher.waiting) for served in self.models),
        )
        watch(
            "mismatch_model_info",
            "1 for each model.",
            ["model", "model_id"],
            lambda: (([served.name, served.model_id], 1) for served in self.models),
        )
        watch(
            "mismatch_drift_psi",
            "Population stability index.",
            ["model", "of"],
            lambda: (([name, of], index) for name, of, index in self.models.drifts()),
        )

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Load the models before the first request, again at SIGHUP, and finish what waits before
        the end.
        """
        await self.models.load()
        self.ready = True
        with self.reload.at_hangups():
            yield
        self.ready = False
        await self.reload.close()
        await self.models.close()
        await self._fetch.close()
        await asyncio.to_thread(self._decoder.close)

    def state(self) -> dict[str, Any]:
        """Return the state for /readyz."""
        limit = self.settings.drift_warning
        drifts = self.models.drifts()
        warnings = [
            f"model {name}: {'scores' if of == 'score' else 'lengths of texts'} are distributed"
            f" otherwise than the rows of its export (index {index:.2f}, {limit:g} is the limit);"
            " look at a sample, and evaluate it again"
            for name, of, index in drifts
            if index >= limit
        ]
        waiting = sum(served.batcher.waiting for served in self.models)
        return {
            "ready": self.ready,
            "waiting": waiting,
            "warnings": warnings,
            "drift": [{"model": m, "of": of, "psi": round(v, 4)} for m, of, v in drifts],
        }

    async def predict(self, request: Request) -> Answer:
        """Answer POST /v1/predict. What is wrong with the pair is a problem, but for an image that
        is damaged: that is an answer without a score.
        """
        data: bytes | None = None
        if _content_type(request) == "multipart/form-data":
            data, fields = await self._form(request)
            question = Question(
                image="",
                image_url=None,
                text=fields["text"],
                slice_value=fields.get("slice_value"),
                model=fields.get("model"),
            )
        else:
            question = await self._json(request, Question)
        served = self._served(question)
        async with self._in_time(served):
            text = await self._text(served, question.text)
            row = await self._row(
                request,
                served,
                question,
                text,
                await self._bytes(question) if data is None else data,
            )
            self._read(request, served, 1)
            [answer] = await served.answers([row])
        return answer

    async def _row(
        self, request: Request, served: Served, question: Question, text: str, data: bytes
    ) -> dict[str, Any]:
        """Return one pair, of an image's bytes and a text."""
        try:
            image = await self._prepared(request, served, data)
        except ImageRefusedError:
            raise
        except ImageError as error:
            return served.row(None, text, question.slice_value, str(error))
        return served.row(image, text, question.slice_value)

    async def predict_batch(self, request: Request) -> BatchAnswer:
        """Answer POST /v1/predict/batch. What is wrong with an image or a text is the status of its
        pairs.
        """
        question = await self._json(request, BatchQuestion)
        served = self._served(question)
        if len(question.pairs) > self.settings.max_pairs:
            raise InputError(
                f"there are {len(question.pairs):,} pairs; {self.settings.max_pairs:,} are the most"
                " of one request"
            )
        self._check_names(question)
        names = list(dict.fromkeys(pair.image for pair in question.pairs))
        async with self._in_time(served, len(names)):
            images = await self._images(request, served, question, names)
            problems = {
                name: self._text_problem(served, question.texts[name])
                for name in {pair.text for pair in question.pairs}
            }
            rows = [
                _row_of(served, question, pair, images[pair.image], problems[pair.text])
                for pair in question.pairs
            ]
            self._read(request, served, len(rows))
            answers = await served.answers(rows)
        return BatchAnswer(answers=answers)

    async def explain(self, request: Request) -> ExplanationAnswer:
        """Answer POST /v1/explain."""
        question = await self._json(request, ExplainQuestion)
        served = self._served(question)
        async with self._in_time(served):
            text = await self._text(served, question.text)
            image = await self._prepared(request, served, await self._bytes(question), pixels=True)
            self._read(request, served, 1)
            return await served.explanation(
                image, text, question.slice_value, heat_map=question.heat_map
            )

    def _served(self, question: Question | BatchQuestion) -> Served:
        return self.models.get(question.model)

    def _read(self, request: Request, served: Served, pairs: int) -> None:
        """Note that pairs are ready for their model."""
        request.scope.get("mismatch.read", lambda: None)()
        self.metrics.stage(
            served.name, "read", time.perf_counter() - request.scope["mismatch.start"]
        )
        request.scope["mismatch.log"] = {"model": served.name, "pairs": pairs}

    @asynccontextmanager
    async def _in_time(self, served: Served, pictures: int = 1) -> AsyncIterator[None]:
        """Keep a model for a request, and room for its decoded pictures; HTTPException 504 where it
        takes longer than the deadline.
        """
        try:
            with served.in_use(), served.room_for(pictures):
                async with asyncio.timeout(self.settings.deadline):
                    yield
        except TimeoutError:
            raise HTTPException(
                504, f"not scored within {self.settings.deadline:g} seconds; try again later"
            ) from None

    async def _json(self, request: Request, kind: type[Q]) -> Q:
        """Read the body as a message; HTTPException for another one."""
        if _content_type(request) not in ("application/json", ""):
            raise HTTPException(
                415,
                f"the content type {_content_type(request)[:80]!r} is not understood; send"
                " application/json",
            )
        parse = partial(parse_message, kind=kind, max_pairs=self.settings.max_pairs)
        return await self._bodies.read(request, parse)

    async def _form(self, request: Request) -> tuple[bytes, dict[str, str]]:
        """Read the image and the other fields of a form; HTTPException for another one."""
        parse = partial(
            parse_form,
            content_type=request.headers.get("content-type", ""),
            names=FORM_FIELDS,
            largest=8 * self.settings.max_text,
        )
        form = await self._bodies.read(request, parse)
        return form.file, form.fields

    async def _text(self, served: Served, text: str) -> str:
        """Return a text; InputError for one that can't be scored."""
        if problem := self._text_problem(served, text):
            raise InputError(problem)
        is_empty = served.predictor.pipeline.tokenizer.is_empty
        if len(text) < SHORT:
            is_blank = is_empty(text)
        else:
            is_blank = await served.long_texts.on_thread(current_client(), partial(is_empty, text))
        if is_blank:
            raise InputError(EMPTY)
        return text

    def _text_problem(self, served: Served, text: str) -> str | None:
        """Say why a text is not even tokenized; None where it is."""
        if len(text) > self.settings.max_text:
            return f"the text has more than {self.settings.max_text:,} characters; shorten it"
        pieces = served.predictor.pipeline.estimated_pieces(text)
        if pieces > MAX_PIECES:
            return (
                f"the text is about {pieces:,} times as long as the model reads at once; at most"
                f" {MAX_PIECES} times are scored here: shorten it"
            )
        return None

    async def _bytes(self, question: Question) -> bytes:
        """Return the image of a pair, as sent or fetched; ImageError where it can't be had."""
        if question.image is None:
            return await self._fetched(question.image_url or "")
        return await self._from_base64(question.image)

    async def _images(
        self, request: Request, served: Served, question: BatchQuestion, names: Sequence[str]
    ) -> dict[str, PreparedImage | ImageError]:
        """Return by name each of these images, decoded, or why it can't be."""
        images = await together(self._named(request, served, question, name) for name in names)
        return dict(zip(names, images, strict=True))

    async def _named(
        self, request: Request, served: Served, question: BatchQuestion, name: str
    ) -> PreparedImage | ImageError:
        try:
            if name in question.images:
                data = await self._from_base64(question.images[name])
            else:
                data = await self._fetched(question.image_urls[name])
            return await self._prepared(request, served, data)
        except ImageError as error:
            return error

    async def _prepared(
        self, request: Request, served: Served, data: bytes, *, pixels: bool = False
    ) -> PreparedImage:
        start = time.perf_counter()
        image = await self._decoder.prepared(data, served, id(request), pixels=pixels)
        self.metrics.stage(served.name, "decode", time.perf_counter() - start)
        return image

    async def _from_base64(self, text: str) -> bytes:
        """Decode base64, on a thread where it would hold up the event loop."""
        max_bytes = self.settings.max_image
        return (
            from_base64(text, max_bytes=max_bytes)
            if len(text) < LARGE
            else await asyncio.to_thread(from_base64, text, max_bytes=max_bytes)
        )

    async def _fetched(self, url: str) -> bytes:
        if not self.settings.fetch:
            raise InputError(
                "images are not fetched from addresses here; send the file itself (image), or let"
                " the service's settings allow hosts (fetch)"
            )
        start = time.perf_counter()
        data = await self._fetch(url)
        self.metrics.stage("", "fetch", time.perf_counter() - start)
        return data

    def _check_names(self, question: BatchQuestion) -> None:
        """Refuse with InputError a pair of something that wasn't sent, or an image that was sent in
        two ways.
        """
        if both := sorted(set(question.images) & set(question.image_urls)):
            raise InputError(
                f"the image {both[0][:80]!r} is among images and image_urls; send it once"
            )
        kinds: Iterable[tuple[str, Any]] = (
            ("image", question.images | question.image_urls),
            ("text", question.texts),
        )
        for kind, sent in kinds:
            for number, pair in enumerate(question.pairs):
                name = pair.image if kind == "image" else pair.text
                if name not in sent:
                    raise InputError(
                        f"pair {number} names the {kind} {name[:80]!r}, which is not among those"
                        " sent"
                    )


def _row_of(
    served: Served,
    question: BatchQuestion,
    pair: PairReference,
    image: PreparedImage | ImageError,
    problem: str | None,
) -> dict[str, Any]:
    """Return a pair of a batch; `problem`: of its text."""
    text = question.texts[pair.text] if problem is None else ""
    if isinstance(image, ImageError):
        return served.row(None, text, pair.slice_value, str(image))
    return served.row(image, text, pair.slice_value, problem)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
