"""Images from addresses that a client names: from allowed hosts only, at public network addresses,
within bounds of size and time.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from starlette.exceptions import HTTPException

import mismatch
from mismatch.errors import ImageError
from mismatch.serving.budget import UNKNOWN, Account, current_account
from mismatch.serving.fetch_turns import FETCHES, FetchTurns
from mismatch.serving.public_addresses import is_public, without_mapping

__all__ = ["Arrived", "FairFetcher", "Fetcher", "ignored"]

LONGEST = 2000  # characters of an address, also of one that another leads to
LONGEST_HOST = 253  # characters, as in the DNS
LEADS_AWAY = (
    "the image's address leads on to one from which nothing is fetched; send the file itself"
)
NOT_UNDERSTOOD = "the image's address can't be understood; give a URL as https://example.com/a.jpg"
REDIRECTS = 3
MOVED = (301, 302, 303, 307, 308)
PIECE = 65_536  # bytes
WRITTEN_IN_URLS = "!#$%&'()*+,/:;=?@[]~"  # besides letters, digits and _.-
PORTS = {"http": 80, "https": 443}
Address = IPv4Address | IPv6Address
Arrived = Callable[[int], object]  # is given the bytes of each piece


def ignored(size: int) -> None:
    """Take no note of a piece."""


class Fetcher:
    """Fetches one image. Thread-safe.

    A name is resolved once and the connection goes to that very address, so that it can't become
    another one in between; each redirect is checked as the first address was.
    """

    def __init__(
        self, hosts: Sequence[str], networks: Sequence[str] = (), *, seconds: float, max_bytes: int
    ) -> None:
        """Take `hosts`: allowed ones, `*.example.com` for all below one, with `:8080` where it
        isn't the scheme's own port. `networks`: private ones in which they may lie; `max_bytes`
        of one image.
        """
        self._hosts = [host.lower() for host in hosts]
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._networks = [ip_network(network) for network in networks]

    def __call__(self, url: str, arrived: Arrived = ignored) -> bytes:
        """Return the bytes; ImageError that says why not, and nothing of what the host answered.

        `arrived` is called with the bytes of each piece; what it raises ends the fetch.
        """
        until = time.monotonic() + self._seconds
        parts = self._checked(url)
        for _ in range(REDIRECTS + 1):
            data_or_location = self._get(parts, until, arrived)
            if isinstance(data_or_location, bytes):
                return data_or_location
            url = _joined(url, data_or_location)
            try:
                parts = self._checked(url)
            except ImageError:
                raise ImageError(LEADS_AWAY) from None
        raise ImageError(
            f"the image's address leads on more than {REDIRECTS} times; give the last one"
        )

    def _checked(self, url: str) -> SplitResult:
        """Return an address in its parts; ImageError for one that isn't allowed."""
        if len(url) > LONGEST:
            raise ImageError(f"the image's address has more than {LONGEST:,} characters")
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            named = _named(parts)
        except ValueError:
            raise ImageError(NOT_UNDERSTOOD) from None
        if parts.scheme not in PORTS or not host or len(host) > LONGEST_HOST:
            raise ImageError(
                "the image's address is no URL of http or https; give one as"
                " https://example.com/a.jpg"
            )
        if parts.username is not None or parts.password is not None:
            raise ImageError("the image's address holds a user's name; give one without")
        if not any(_covers(allowed, named) for allowed in self._hosts):
            raise ImageError(
                f"images are not fetched from {named[:100]!r}; send the file itself, or let the"
                " service's settings allow that host (fetch)"
            )
        return parts

    def share_of(self, url: str) -> str:
        """Return the setting's host that allows an address, with all that lie below it; "" where
        none does.
        """
        try:
            named = _named(self._checked(url))
        except ImageError:
            return ""
        return next(allowed for allowed in self._hosts if _covers(allowed, named))

    def _address(self, host: str, port: int, until: float) -> str:
        """Return where the name leads; ImageError where any of its addresses is not allowed."""
        try:
            addresses = set(map(ip_address, _resolved(host, port, until)))
        except TimeoutError:
            raise ImageError(
                f"the image's host {host[:100]!r} was not found within {self._seconds:g} seconds"
            ) from None
        except (OSError, ValueError, UnicodeError):
            raise ImageError(f"the image's host {host[:100]!r} is not known") from None
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise ImageError(
                f"the image's host {host[:100]!r} lies in a network from which nothing is fetched"
            )
        return str(min(addresses, key=lambda address: (address.version, address)))

    def _allowed(self, address: Address) -> bool:
        real = without_mapping(address)
        return is_public(real) or any(real in network for network in self._networks)

    def _get(self, parts: SplitResult, until: float, arrived: Arrived) -> bytes | str:
        """Return the body, or where it leads on."""
        host = str(parts.hostname)
        port = parts.port or PORTS[parts.scheme]
        connection = _Pinned(
            host,
            port,
            self._address(host, port, until),
            secure=parts.scheme == "https",
            until=until,
        )
        path = _encoded(parts.path or "/") + (f"?{_encoded(parts.query)}" if parts.query else "")
        try:
            with _cut_off(connection, until):
                connection.request(
                    "GET",
                    path,
                    headers={
                        "user-agent": f"mismatch/{mismatch.__version__}",
                        "accept": "image/*",
                        "connection": "close",
                    },
                )
                with connection.getresponse() as response:
                    if response.status in MOVED:
                        return _location(response)
                    if response.status != 200:
                        raise ImageError(f"the image's host answered {response.status}")
                    data = self._body(response, arrived)
                # cut off; without a length, what came would look whole
                if time.monotonic() >= until:
                    raise TimeoutError
                return data
        except ImageError:
            raise
        # a reset, a timeout, a certificate, a line of the host's that is none, a path with blanks
        except (OSError, http.client.HTTPException, ValueError):
            late = time.monotonic() >= until
            raise ImageError(
                "the image could not be"
                f" fetched{f' within {self._seconds:g} seconds' if late else ' from its host'}"
            ) from None
        finally:
            connection.close()

    def _body(self, response: http.client.HTTPResponse, arrived: Arrived) -> bytes:
        pieces = []
        size = 0
        while piece := response.read(PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > self._max_bytes:
                raise ImageError(
                    f"the image has more than {self._max_bytes:,} bytes; send a smaller file"
                )
            arrived(len(piece))
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(pieces)


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


def _encoded(part: str) -> str:
    """Return a path or a query with other letters than ASCII's as %-escapes."""
    return part if part.isascii() else quote(part, safe=WRITTEN_IN_URLS)


def _location(response: http.client.HTTPResponse) -> str:
    """Return where a redirect leads; ImageError where it doesn't say."""
    location = response.headers.get("location")
    if not location:
        raise ImageError(f"the image's host answered {response.status} without an address")
    return str(location)


def _named(parts: SplitResult) -> str:
    """Return the host as the settings name it: with its port where that isn't the scheme's own."""
    host = (parts.hostname or "").lower()
    is_usual = parts.port in (None, PORTS.get(parts.scheme))
    return host if is_usual else f"{host}:{parts.port}"


def _covers(allowed: str, named: str) -> bool:
    """Return whether one of the setting's hosts allows this one."""
    below = allowed.startswith("*.") and named.endswith(allowed[1:])
    return named == allowed or below


def _host(url: str) -> str:
    """Return an address's host and port; nothing where it has none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _joined(url: str, location: str) -> str:
    """Return where a redirect leads; ImageError where that is no address."""
    try:
        return urljoin(url, location)
    except ValueError:
        raise ImageError(NOT_UNDERSTOOD) from None


def _resolved(host: str, port: int, until: float) -> list[str]:
    """Return the addresses of a name; TimeoutError at `until`.

    The operating system's resolver has no limit that a caller may set, so it runs in a thread of
    its own, which is left behind where it takes longer.
    """
    answer: Future[list[str]] = Future()

    def resolve() -> None:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.set_result([str(entry[4][0]) for entry in entries])
        except (OSError, ValueError, UnicodeError) as error:
            answer.set_exception(error)

    threading.Thread(target=resolve, name="mismatch-resolving", daemon=True).start()
    return answer.result(max(0.0, until - time.monotonic()))


class _Pinned(http.client.HTTPConnection):
    """A connection to a given network address, that speaks to the host by its name."""

    def __init__(self, host: str, port: int, address: str, *, secure: bool, until: float) -> None:
        super().__init__(host, port)
        self._address = address
        self._secure = secure
        self._until = until
        # the socket, which http.client forgets where the host says that it closes the connection
        self.line: socket.socket | None = None

    def connect(self) -> None:
        self.sock = socket.create_connection(
            (self._address, self.port), timeout=max(0.01, self._until - time.monotonic())
        )
        if self._secure:
            self.sock = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self.host
            )
        self.line = self.sock
        # `_cut_off` may have come before there was a line to cut
        if time.monotonic() >= self._until:
            self.sock.close()
            raise TimeoutError


@contextmanager
def _cut_off(connection: _Pinned, until: float) -> Iterator[None]:
    """Cut the host's line at `until`, however slowly it sends; a socket's own timeout begins again
    with each byte.
    """

    def cut() -> None:
        with suppress(OSError):  # closed already
            if connection.line is not None:
                connection.line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, until - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
