"""Images of rows that lie on the web: many at a time with a bound for each host, tried again where
that helps, each fetched once and kept in a folder.
"""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from pathlib import Path

from mismatch.errors import ImageError, InputError, MachineError, MismatchError, without_traceback
from mismatch.io.web import NoAnswerError, Remedies, WebAnswer, WebClient
from mismatch.io.web_images import fetched_by, shown_url
from mismatch.runtime.fetched_folder import FetchedFolder, FetchedImage, default_folder, url_key
from mismatch.runtime.foreign_formats import (
    OTHER,
    foreign_format,
    heif_opener,
    image_suffix,
    is_heif,
)
from mismatch.runtime.host_turns import HostTurns

__all__ = ["FetchCounts", "FetchLimits", "ImageFetcher", "check_networks", "fetching_images"]

AHEAD = 256  # images that may wait for their turn
PAUSES = (0.5, 1.5, 4.0)  # seconds before each further try, half as long to half as long again
MAX_WAIT = 60.0  # seconds that a host may ask to wait; one that asks for more has its way
# a host of which so many images failed in a row, each tried several times, is asked once an image
TROUBLED = 8
TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}  # HTTP's statuses that may pass
NOT_MODIFIED = 304
WRONG_ADDRESS = "correct the address, or drop the row"


@dataclass(frozen=True)
class FetchLimits:
    """Bounds of what is fetched."""

    per_host: int = 32  # requests to one host at a time
    seconds: float = 30.0  # for one try
    max_bytes: int = 2**25  # of one image


@dataclass
class FetchCounts:
    """What was done."""

    fetched: int = 0  # images that came
    unchanged: int = 0  # images that a host said are still as they were
    failed: int = 0  # URLs that have no image
    requests: int = 0  # with those that were tried again


DEFAULTS = FetchLimits()
REMEDIES = Remedies(
    "download it and give its path",
    smaller="make it smaller, or download it and give its path",
    network="; pass that as one of `fetch_networks` if you trust it",
)


class ImageFetcher:
    """Has the bytes of URLs. Thread-safe; a `Fetcher` for `fetched_by`. It ends with `close`.

    An image of the folder is taken as it is, however old. A URL that failed is not tried again
    while this lives.
    """

    def __init__(
        self,
        folder: FetchedFolder,
        *,
        networks: Sequence[str] = (),
        limits: FetchLimits = DEFAULTS,
        revalidate: bool = False,
    ) -> None:
        """Make a fetcher. `networks`: private ones in which hosts may lie, as 10.0.0.0/8;
        `revalidate`: ask hosts once whether images of the folder are still theirs.
        """
        self.folder = folder
        self.counts = FetchCounts()
        self._limits = limits
        self._revalidate = revalidate
        self._client = WebClient(
            None,
            networks,
            seconds=limits.seconds,
            max_bytes=limits.max_bytes,
            remedies=REMEDIES,
            keep_connections=True,
        )
        self._hosts = HostTurns(limits.per_host)
        self._troubles: dict[str, int] = {}  # of each host, failures in a row
        self._lock = threading.Lock()
        self._running: dict[str, Future[FetchedImage]] = {}
        self._failures: dict[str, MismatchError] = {}
        self._asked: set[str] = set()  # keys of what was revalidated
        self._closing = threading.Event()
        self._room = threading.Semaphore(AHEAD)
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> ImageFetcher:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up what is under way; what has come stays in the folder."""
        self._closing.set()
        self._client.close()
        self._hosts.close()
        for key, future in list(self._running.items()):  # what had no turn any more
            self._running.pop(key, None)
            _resolve(future, MachineError("an image is not fetched any more: the run has ended"))
        for reader in self._readers:
            self._room.release()
            reader.join()
        self.folder.close()

    def read(self, url: str) -> bytes:
        """Return an image's bytes. ImageError that says why there are none; MachineError where the
        folder can't be written.
        """
        return self.image(url)[1]

    def image(self, url: str) -> tuple[FetchedImage, bytes]:
        """Return an image of the folder, and its bytes; raises as `read`."""
        key = url_key(url)
        for _ in range(2):
            kept = None if self._is_due(key) else self.folder.find(key)
            image = self._outcome(key, url) if kept is None else kept
            data = self.folder.read(image)
            if data is not None:
                return image, data
            self.folder.forget(key, image)  # gone or damaged: it is fetched again
        raise MachineError(
            f"{self.folder.path}: an image that was just fetched can't be read; look after the disk"
        )

    def entry(self, url: str) -> FetchedImage:
        """Return an image of the folder, which is not read; raises as `read`."""
        key = url_key(url)
        kept = None if self._is_due(key) else self.folder.find(key)
        if kept is not None and self.folder.has(kept.name, kept.size):
            return kept
        if kept is not None:
            self.folder.forget(key, kept)
        return self._outcome(key, url)

    def _outcome(self, key: str, url: str) -> FetchedImage:
        """Wait for a URL's image; raise an error of this call's own where there is none."""
        try:
            return self._begin(key, url).result()
        except MismatchError as error:
            raise type(error)(str(error)) from None

    def ahead(self, urls: Iterable[str]) -> None:
        """Fetch what the folder lacks, in the background and in order, a few ahead; an empty text
        is no URL. What is wrong is said when it is read.
        """
        with self._lock:
            self._readers = [reader for reader in self._readers if reader.is_alive()]
        reader = threading.Thread(
            target=self._read_ahead, args=(urls,), name="mismatch-fetch-ahead", daemon=True
        )
        self._readers.append(reader)
        reader.start()

    def _read_ahead(self, urls: Iterable[str]) -> None:
        # rows that can't be read are the main thread's to report
        with suppress(MismatchError, OSError):
            for url in urls:
                if self._closing.is_set():
                    return
                key = url_key(url)
                if not url or self._is_known(key):
                    continue
                self._room.acquire()
                future = self._begin(key, url)
                future.add_done_callback(lambda _: self._room.release())

    def _is_known(self, key: str) -> bool:
        """Return whether there is nothing to do for a URL."""
        if key in self._failures or key in self._running:
            return True
        return not self._is_due(key) and self.folder.find(key) is not None

    def _is_due(self, key: str) -> bool:
        return self._revalidate and key not in self._asked

    def _begin(self, key: str, url: str) -> Future[FetchedImage]:
        """Return what will be an image, begun now unless it is under way; of a failed URL its
        failure.
        """
        future: Future[FetchedImage] = Future()
        with self._lock:
            failure = self._failures.get(key)
            if failure is not None:
                future.set_exception(failure)
                return future
            running = self._running.get(key)
            if running is not None:
                return running
            self._running[key] = future
        task = _Task(key, url, self._client.share_of(url), future)
        try:
            self._hosts.submit(task.host, partial(self._try, task))
        except RuntimeError:  # closed
            self._fail(task, _given_up(url))
        return future

    def _try(self, task: _Task) -> None:
        """Let a URL have its image or its failure, or another try later."""
        try:
            image = self._fetched(task)
            if image is None:
                self._hosts.later(task.pause, task.host, partial(self._try, task))
                return
        except MismatchError as error:
            self._fail(task, without_traceback(error))
        except BaseException as error:  # noqa: BLE001 - who waits must learn of it
            closed = self._closing.is_set()
            why = MachineError(f"{task.name} can't be fetched: {error}")
            self._fail(task, _given_up(task.url) if closed else why)
        else:
            with self._lock:
                if self._revalidate:
                    self._asked.add(task.key)
                self._running.pop(task.key, None)
            _resolve(task.future, image)

    def _fail(self, task: _Task, error: MismatchError) -> None:
        with self._lock:
            self.counts.failed += task.key not in self._failures
            self._failures[task.key] = error
            self._running.pop(task.key, None)
        _resolve(task.future, error)

    def _fetched(self, task: _Task) -> FetchedImage | None:
        """Return the image of a URL, from the folder or its host; None where another try may get
        it, `task.pause` seconds later.
        """
        kept = self.folder.find(task.key)
        if kept is not None and not self._is_due(task.key):
            return kept
        if kept is not None and self.folder.read(kept) is None:
            self.folder.forget(task.key, kept)
            kept = None  # all of it is asked for
        try:
            answer = self._answer(task, kept)
        except ImageError as error:
            raise ImageError(f"{task.name} can't be fetched: {error}") from None
        if answer is None:
            return None
        if kept is not None and answer.status == NOT_MODIFIED:
            with self._lock:
                self.counts.unchanged += 1
            return kept
        if answer.status != 200:
            remedy = "try again later" if answer.status in TRY_AGAIN else WRONG_ADDRESS
            raise ImageError(
                f"{task.name} can't be fetched: the image's host answered {answer.status}; {remedy}"
            )
        _check(answer.data, task.name)
        image = self.folder.add(task.key, answer.data, answer.etag, answer.last_modified)
        with self._lock:
            self.counts.fetched += 1
        return image

    def _answer(self, task: _Task, kept: FetchedImage | None) -> WebAnswer | None:
        """Return what a host says, or None where another try may help; ImageError where nothing
        whole came in the last one.
        """
        with self._lock:
            self.counts.requests += 1
        answer = None
        problem = ""
        try:
            answer = self._client.get(task.url, headers={} if kept is None else _conditions(kept))
        except NoAnswerError as error:
            problem = str(error)
        if answer is not None and answer.status not in TRY_AGAIN:
            self._note(task.host, trouble=False)
            return answer
        wait = answer.retry_after if answer is not None else None
        if self._may_try_again(task, wait or 0.0):
            return None
        self._note(task.host, trouble=True)
        if answer is None:
            raise ImageError(f"{problem}; try again later")
        return answer

    def _may_try_again(self, task: _Task, wait: float) -> bool:
        """Return whether there is another try; then when is noted. `wait`: seconds that the host
        asks for.
        """
        with self._lock:
            is_troubled = self._troubles.get(task.host, 0) >= TROUBLED
        if is_troubled or task.tries >= len(PAUSES) or wait > MAX_WAIT:
            return False
        task.pause = max(wait, PAUSES[task.tries] * random.uniform(0.5, 1.5))
        task.tries += 1
        if wait:
            self._hosts.rest(task.host, wait)
        return True

    def _note(self, host: str, *, trouble: bool) -> None:
        """Note how an image of a host ended."""
        with self._lock:
            self._troubles[host] = self._troubles.get(host, 0) + 1 if trouble else 0


@dataclass
class _Task:
    """A URL that is being fetched."""

    key: str
    url: str
    host: str
    future: Future[FetchedImage]
    tries: int = 0  # that failed
    pause: float = 0.0  # seconds until the next one

    @property
    def name(self) -> str:
        return f"image '{shown_url(self.url)}'"


def _resolve(future: Future[FetchedImage], outcome: FetchedImage | MismatchError) -> None:
    with suppress(InvalidStateError):  # the fetcher was closed meanwhile
        if isinstance(outcome, FetchedImage):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)


@contextmanager
def fetching_images(
    folder: str | Path | None = None,
    networks: Sequence[str] = (),
    *,
    limits: FetchLimits = DEFAULTS,
) -> Iterator[ImageFetcher]:
    """Read images by their URLs, http or https, in all of this process until the block ends.

    `folder`: where they are kept, by default one of this user's; `networks`: private ones in which
    hosts may lie, as 10.0.0.0/8. InputError for what is no network, CheckpointError for a folder
    that holds other things.
    """
    check_networks(networks)
    place = FetchedFolder(default_folder() if folder is None else folder, "`fetch_cache`")
    fetcher = ImageFetcher(place, networks=networks, limits=limits)
    with fetcher, fetched_by(fetcher):
        yield fetcher


def check_networks(networks: Sequence[str]) -> None:
    """Refuse, by InputError, what is no network."""
    for network in networks:
        try:
            ip_network(network)
        except ValueError:
            raise InputError(
                f"`fetch_networks`: {network!r} is no network; write one as 10.0.0.0/8",
                option="fetch_networks",
            ) from None


def _conditions(image: FetchedImage) -> dict[str, str]:
    """Return headers by which a host sends an image only if it is another one than this."""
    headers = {"if-none-match": image.etag, "if-modified-since": image.last_modified}
    return {name: value for name, value in headers.items() if value.isascii() and value}


def _check(data: bytes, name: str) -> None:
    """Refuse what is known to be no image before it is kept; nothing is decoded here."""
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); replace it or drop the row")
    is_read = image_suffix(data) != OTHER and (heif_opener() is not None or not is_heif(data))
    words = None if is_read else foreign_format(io.BytesIO(data))
    if words is not None:
        raise ImageError(f"{name} is {words}")


def _given_up(url: str) -> MachineError:
    return MachineError(f"image '{shown_url(url)}' is not fetched any more: the run has ended")
