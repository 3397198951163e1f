"""Images from addresses that a client names: from allowed hosts only, at public network addresses,
within bounds of size and time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

from mismatch.errors import ImageError
from mismatch.io.web import Arrived, NoAnswerError, Remedies, WebClient, ignored
from mismatch.serving.budget import UNKNOWN, Account, current_account
from mismatch.serving.fetch_turns import FETCHES, FetchTurns

__all__ = ["Arrived", "FairFetcher", "Fetcher", "ignored"]


class Fetcher:
    """Fetches one image. Thread-safe."""

    def __init__(
        self, hosts: Sequence[str], networks: Sequence[str] = (), *, seconds: float, max_bytes: int
    ) -> None:
        """Take `hosts`: allowed ones, `*.example.com` for all below one, with `:8080` where it
        isn't the scheme's own port. `networks`: private ones in which they may lie; `max_bytes`
        of one image.
        """
        self._client = WebClient(
            hosts,
            networks,
            seconds=seconds,
            max_bytes=max_bytes,
            remedies=Remedies("send the file itself", smaller="send a smaller file"),
        )

    def __call__(self, url: str, arrived: Arrived = ignored) -> bytes:
        """Return the bytes; ImageError that says why not, and nothing of what the host answered.

        `arrived` is called with the bytes of each piece; what it raises ends the fetch.
        """
        try:
            answer = self._client.get(url, arrived=arrived)
        except NoAnswerError as error:
            raise ImageError(str(error)) from None
        if answer.status != 200:
            raise ImageError(f"the image's host answered {answer.status}")
        return answer.data

    def share_of(self, url: str) -> str:
        """Return the setting's host that allows an address, with all that lie below it; "" where
        none does.
        """
        return self._client.share_of(url)


class FairFetcher:
    """Fetches for many clients at a time, of which none can take all threads, nor can a host.

    Each piece that comes counts as held by the request that it is for, and one request gets at most
    `max_bytes` in all.
    """

    def __init__(self, fetch: Callable[[str, Arrived], bytes], max_bytes: int) -> None:
        self._fetch = fetch
        self._max_bytes = max_bytes
        self._threads = ThreadPoolExecutor(FETCHES, thread_name_prefix="mismatch-fetching")
        self._turns = FetchTurns()

    async def __call__(self, url: str) -> bytes:
        """Return the bytes; ImageError that says why not."""
        account = current_account()
        client = UNKNOWN if account is None else account.client
        host = self._fetch.share_of(url) if isinstance(self._fetch, Fetcher) else _host(url)
        await self._turns.take(client, host)
        if account is not None and account.fetched > self._max_bytes:
            self._turns.give_back(client, host)
            raise _too_much(self._max_bytes)
        count = _Count(account, self._max_bytes)
        data = await self._run(url, client, host, count)
        if count.problem is not None:
            raise count.problem
        return data

    async def close(self) -> None:
        """Wait for what is being fetched, and take nothing more."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, url: str, client: str, host: str, count: _Count) -> bytes:
        """Fetch in a thread; the turn ends with the thread, also where nobody waits any more."""
        loop = asyncio.get_running_loop()
        try:
            running = self._threads.submit(self._fetch, url, count.arrived)
        except RuntimeError:  # closed
            self._turns.give_back(client, host)
            raise

        def ended(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(self._turns.give_back, client, host)

        running.add_done_callback(ended)
        return await asyncio.wrap_future(running)


class _Count:
    """The bytes of one fetch, noted by the event loop while a thread receives them."""

    def __init__(self, account: Account | None, max_bytes: int) -> None:
        self.problem: Exception | None = None  # why no more may come
        self._account = account
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()

    def arrived(self, size: int) -> None:
        """Note `size` bytes more, from any thread. Raises what ended the fetch meanwhile."""
        if self.problem is not None:
            raise self.problem
        with suppress(RuntimeError):  # the loop has ended before
            self._loop.call_soon_threadsafe(self._note, size)

    def _note(self, size: int) -> None:
        if self._account is None or self.problem is not None:
            return
        try:
            self._account.take(size)
        except HTTPException as error:
            self.problem = error
            return
        self._account.fetched += size
        if self._account.fetched > self._max_bytes:
            self.problem = _too_much(self._max_bytes)


def _too_much(max_bytes: int) -> ImageError:
    return ImageError(
        f"the images of one request have more than {max_bytes:,} bytes; send fewer pairs"
    )


def _host(url: str) -> str:
    """Return an address's host and port; nothing where it has none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
