"""What the routes do: requests read and checked, pairs handed to their model, answers within the deadline."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from mismatch.errors import ImageError, InputError, MismatchError
from mismatch.runtime.predictor import Predictor
from mismatch.serving.bodies import LARGE, read_message
from mismatch.serving.configuration import Settings
from mismatch.serving.fetching import FairFetcher, Fetcher
from mismatch.serving.forms import read_form
from mismatch.serving.images import checked_image, from_base64
from mismatch.serving.messages import Answer, BatchAnswer, BatchQuestion, ExplainQuestion, ExplanationAnswer, Question
from mismatch.serving.models import Models, Served
from mismatch.serving.telemetry import Metrics, log

__all__ = ["Service"]

FORM_FIELDS = ("image", "text", "slice_value", "model")
T = TypeVar("T")
Q = TypeVar("Q", bound=BaseModel)


class Service:
    """Models, and how requests reach them."""

    def __init__(self, settings: Settings, given: Mapping[str, Predictor]) -> None:
        self.settings, self.metrics, self.ready = settings, Metrics(), False
        self.models = Models(settings, self.metrics, given)
        fetch = Fetcher(settings.fetch, settings.fetch_networks, seconds=settings.fetch_seconds, most=settings.max_image)
        self._fetch = FairFetcher(fetch, settings.max_body)
        self._tasks: set[asyncio.Task[Any]] = set()
        watch = self.metrics.watch
        watch("mismatch_queue_pairs", "Pairs that wait.", ["model"], lambda: (([one.name], one.batcher.waiting) for one in self.models))
        watch("mismatch_model_info", "1 for each model.", ["model", "model_id"], lambda: (([one.name, one.model_id], 1) for one in self.models))
        watch("mismatch_drift_psi", "Population stability index.", ["model", "of"], lambda: (([name, of], index) for name, of, index in self.models.drifts()))

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Load the models before the first request, load them anew at SIGHUP, and finish what waits before the end."""
        await self.models.load()
        self.ready = True
        with self._hangups():
            yield
        self.ready = False
        await self.models.close()
        await self._fetch.close()

    @contextmanager
    def _hangups(self) -> Iterator[None]:
        """SIGHUP loads the models anew, where signals can be had: in the main thread."""
        loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
            yield
            return
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    def _hang_up(self) -> None:
        async def quietly() -> None:
            with suppress(HTTPException):  # the log has said why
                await self.reload()

        task = asyncio.get_running_loop().create_task(quietly())
        self._tasks.add(task)  # the loop itself would let it be collected
        task.add_done_callback(self._tasks.discard)

    async def reload(self) -> list[str]:
        """Load all models anew; the names of those whose answers are other ones now. HTTPException where one can't be: then all stay."""
        try:
            changed = await self.models.load()
        except MismatchError as error:
            log.error({"message": "a model could not be loaded anew; all stay as they are", "error": str(error)})
            raise HTTPException(500, "a model could not be loaded anew, the log says why; all stay as they are") from None
        log.info({"message": "loaded anew", "models": {one.name: one.model_id for one in self.models}, "changed": changed})
        return changed

    def state(self) -> dict[str, Any]:
        """For /readyz."""
        limit = self.settings.drift_warning
        drifts = self.models.drifts()
        warnings = [
            f"model {name}: {'scores' if of == 'score' else 'lengths of texts'} are distributed otherwise than the rows of its export (index {index:.2f}, "
            f"{limit:g} is the limit); look at a sample, and evaluate it anew"
            for name, of, index in drifts
            if index >= limit
        ]
        waiting = sum(one.batcher.waiting for one in self.models)
        return {"ready": self.ready, "waiting": waiting, "warnings": warnings, "drift": [{"model": m, "of": of, "psi": round(v, 4)} for m, of, v in drifts]}

    async def predict(self, request: Request) -> Answer:
        """For POST /v1/predict."""
        if _content_type(request) == "multipart/form-data":
            image, fields = await self._form(request)
            question = Question(image="", image_url=None, text=fields["text"], slice_value=fields.get("slice_value"), model=fields.get("model"))
            served = self._served(question)
        else:
            question = await self._json(request, Question)
            served = self._served(question)
            image = await self._image(question)
        row = served.row(image, self._text(question.text), question.slice_value)
        self._read(request, served, 1)
        [answer] = await self._in_time(served.answers([row]))
        return answer

    async def predict_batch(self, request: Request) -> BatchAnswer:
        """For POST /v1/predict/batch."""
        question = await self._json(request, BatchQuestion)
        served = self._served(question)
        if len(question.pairs) > self.settings.max_pairs:
            raise InputError(f"there are {len(question.pairs):,} pairs; {self.settings.max_pairs:,} are the most of one request")
        self._check_names(question)
        images = await self._images(question)
        texts = {name: self._text(question.texts[name]) for name in dict.fromkeys(pair.text for pair in question.pairs)}
        rows = [served.row(images[pair.image], texts[pair.text], pair.slice_value) for pair in question.pairs]
        self._read(request, served, len(rows))
        return BatchAnswer(answers=await self._in_time(served.answers(rows)))

    async def explain(self, request: Request) -> ExplanationAnswer:
        """For POST /v1/explain."""
        question = await self._json(request, ExplainQuestion)
        served = self._served(question)
        image = await self._image(question)
        self._read(request, served, 1)
        work = served.explanation(image, self._text(question.text), question.slice_value, heat_map=question.heat_map)
        try:
            return await self._in_time(work)
        except ImageError as error:
            raise ImageError(str(error).removeprefix("the image given as bytes ")) from None

    def _served(self, question: Question | BatchQuestion) -> Served:
        return self.models.get(question.model)

    def _read(self, request: Request, served: Served, pairs: int) -> None:
        """Pairs are ready for their model."""
        request.scope.get("mismatch.read", lambda: None)()
        self.metrics.stage(served.name, "read", time.perf_counter() - request.scope["mismatch.start"])
        request.scope["mismatch.log"] = {"model": served.name, "pairs": pairs}

    async def _in_time(self, work: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(work, self.settings.deadline)
        except TimeoutError:
            raise HTTPException(504, f"not scored within {self.settings.deadline:g} seconds; try again later") from None

    async def _json(self, request: Request, kind: type[Q]) -> Q:
        """The body as a message; HTTPException for another one."""
        if _content_type(request) not in ("application/json", ""):
            raise HTTPException(415, f"the content type {_content_type(request)[:80]!r} is not understood; send application/json")
        return await read_message(request, kind, self.settings.max_pairs)

    async def _form(self, request: Request) -> tuple[bytes, dict[str, str]]:
        """The image and the other fields of a form; HTTPException for another one."""
        form = await read_form(request, FORM_FIELDS, 8 * self.settings.max_text)
        return self._usable(form.file), form.fields

    def _text(self, text: str) -> str:
        """InputError for a text that can't be scored."""
        if not text.strip():
            raise InputError("the text is empty")
        if len(text) > self.settings.max_text:
            raise InputError(f"the text has more than {self.settings.max_text:,} characters; shorten it")
        return text

    def _usable(self, data: bytes) -> bytes:
        """Bytes that may be decoded."""
        return checked_image(data, most=self.settings.max_image, pixels=self.settings.max_pixels)

    def _decoded(self, text: str) -> bytes:
        return self._usable(from_base64(text, most=self.settings.max_image))

    async def _image(self, question: Question) -> bytes:
        if question.image is None:
            return await self._fetched(question.image_url or "")
        return await _beside_if_large(self._decoded, question.image)

    async def _images(self, question: BatchQuestion) -> dict[str, bytes]:
        """By name, each that a pair has."""
        found: dict[str, bytes] = {}
        for name in dict.fromkeys(pair.image for pair in question.pairs):
            if name in question.images:
                with _named(name):
                    found[name] = await _beside_if_large(self._decoded, question.images[name])
        wanted = [name for name in dict.fromkeys(pair.image for pair in question.pairs) if name not in found]
        fetched = await asyncio.gather(*(self._fetched(question.image_urls[name]) for name in wanted), return_exceptions=True)
        for name, value in zip(wanted, fetched, strict=True):
            with _named(name):
                if isinstance(value, BaseException):
                    raise value
                found[name] = value
        return found

    async def _fetched(self, url: str) -> bytes:
        if not self.settings.fetch:
            raise InputError("images are not fetched from addresses here; send the file itself (image), or let the service's settings allow hosts (fetch)")
        start = time.perf_counter()
        data = await self._fetch(url)
        self.metrics.stage("", "fetch", time.perf_counter() - start)
        return self._usable(data)

    def _check_names(self, question: BatchQuestion) -> None:
        """InputError for a pair of something that wasn't sent, or an image that was sent in two ways."""
        if both := sorted(set(question.images) & set(question.image_urls)):
            raise InputError(f"the image {both[0][:80]!r} is among images and image_urls; send it once")
        kinds: Iterable[tuple[str, Any]] = (("image", question.images | question.image_urls), ("text", question.texts))
        for kind, known in kinds:
            for number, pair in enumerate(question.pairs):
                name = pair.image if kind == "image" else pair.text
                if name not in known:
                    raise InputError(f"pair {number} names the {kind} {name[:80]!r}, which is not among those sent")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What is wrong with an image, with its name."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"image {name[:80]!r}: {error}") from None


async def _beside_if_large(work: Any, text: str) -> bytes:
    """Beside the event loop where it would hold it up."""
    return work(text) if len(text) < LARGE else await asyncio.to_thread(work, text)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
