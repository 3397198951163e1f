"""One request over HTTP that trusts no address: public networks only, each redirect checked again,
within bounds of size and time.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from types import MappingProxyType
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import mismatch
from mismatch.errors import ImageError
from mismatch.io.public_addresses import is_public, without_mapping
from mismatch.io.web_connections import IdleConnections, PinnedConnection, cut_off, resolved

__all__ = ["Arrived", "NoAnswerError", "Remedies", "WebAnswer", "WebClient", "ignored"]

LONGEST = 2000  # characters of an address, also of one that another leads to
LONGEST_HOST = 253  # characters, as in the DNS
NOT_UNDERSTOOD = "the image's address can't be understood; give a URL as https://example.com/a.jpg"
REDIRECTS = 3
MOVED = (301, 302, 303, 307, 308)
PIECE = 65_536  # bytes
NAMES_KEPT = 60  # seconds that a client with lasting connections remembers a name's address
WRITTEN_IN_URLS = "!#$%&'()*+,/:;=?@[]~"  # besides letters, digits and _.-
PORTS = {"http": 80, "https": 443}
Address = IPv4Address | IPv6Address
Arrived = Callable[[int], object]  # is given the bytes of each piece
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def ignored(size: int) -> None:
    """Take no note of a piece."""


class NoAnswerError(Exception):
    """No whole answer came: the next try may get one. The message is for people."""


@dataclass(frozen=True)
class WebAnswer:
    """What a host answered, of redirects the last one."""

    status: int  # HTTP's
    data: bytes  # empty but for a status of 200
    etag: str
    last_modified: str  # as the host writes it; empty where it doesn't
    retry_after: float | None  # seconds, where the host says so


@dataclass(frozen=True)
class Remedies:
    """What people can do."""

    elsewhere: str  # instead of having an image fetched
    smaller: str  # about one that is too large
    network: str = ""  # about a network that is not allowed, behind a semicolon


class WebClient:
    """Asks for one image at a time. Thread-safe.

    A name is resolved and the connection goes to that very address, so that it can't become
    another one in between; each redirect is checked as the first address was. No proxy is used: it
    would resolve names itself.
    """

    def __init__(
        self,
        hosts: Sequence[str] | None,
        networks: Sequence[str] = (),
        *,
        seconds: float,
        max_bytes: int,
        remedies: Remedies,
        keep_connections: bool = False,
    ) -> None:
        """Make a client. `hosts`: allowed ones, `*.example.com` for all below one, with `:8080`
        where it isn't the scheme's own port; None: all. `networks`: private ones in which they may
        lie; `seconds` for an image, `max_bytes` of it; `remedies`: what errors say.
        `keep_connections`: for further requests, a name's address for a minute.
        """
        self._hosts = None if hosts is None else [host.lower() for host in hosts]
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._remedies = remedies
        self._networks = [ip_network(network) for network in networks]
        self._idle = IdleConnections() if keep_connections else None
        self._names: dict[tuple[str, int], tuple[str, float]] = {}  # address, until when it holds

    def get(
        self, url: str, *, headers: Mapping[str, str] = NO_HEADERS, arrived: Arrived = ignored
    ) -> WebAnswer:
        """Return the answer. ImageError for an address that isn't allowed or what is too large;
        NoAnswerError where none came whole.

        `arrived` is called with the bytes of each piece; what it raises ends the request.
        """
        until = time.monotonic() + self._seconds
        parts = self.checked(url)
        for _ in range(REDIRECTS + 1):
            answer = self._get(parts, until, headers, arrived)
            if isinstance(answer, WebAnswer):
                return answer
            url = _joined(url, answer)
            try:
                parts = self.checked(url)
            except ImageError:
                raise ImageError(
                    "the image's address leads on to one from which nothing is fetched;"
                    f" {self._remedies.elsewhere}"
                ) from None
        raise ImageError(
            f"the image's address leads on more than {REDIRECTS} times; give the last one"
        )

    def checked(self, url: str) -> SplitResult:
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
        if self._hosts is not None and not any(_covers(host, named) for host in self._hosts):
            raise ImageError(
                f"images are not fetched from {named[:100]!r}; {self._remedies.elsewhere}, or let"
                " the service's settings allow that host (fetch)"
            )
        return parts

    def share_of(self, url: str) -> str:
        """Return the setting's host that allows an address, with all that lie below it; "" where
        none does. Without a setting it is the host itself.
        """
        try:
            named = _named(self.checked(url))
        except ImageError:
            return ""
        if self._hosts is None:
            return named
        return next(allowed for allowed in self._hosts if _covers(allowed, named))

    def close(self) -> None:
        """Let go of connections that wait, and cut those in use: their requests fail."""
        if self._idle is not None:
            self._idle.close()

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        """Return the certificates that this machine trusts; reading them takes ten milliseconds."""
        return ssl.create_default_context()

    def _address(self, host: str, port: int, until: float) -> str:
        """Return where the name leads; ImageError where any of its addresses is not allowed."""
        address, expires = self._names.get((host, port), ("", 0.0))
        if expires > time.monotonic():
            return address
        try:
            addresses = set(map(ip_address, resolved(host, port, until)))
        except TimeoutError:
            raise NoAnswerError(
                f"the image's host {host[:100]!r} was not found within {self._seconds:g} seconds"
            ) from None
        except (OSError, ValueError, UnicodeError):
            raise NoAnswerError(f"the image's host {host[:100]!r} is not known") from None
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise ImageError(
                f"the image's host {host[:100]!r} lies in a network from which nothing is"
                f" fetched{self._remedies.network}"
            )
        chosen = str(min(addresses, key=lambda address: (address.version, address)))
        if self._idle is not None:
            self._names[host, port] = chosen, time.monotonic() + NAMES_KEPT
        return chosen

    def _allowed(self, address: Address) -> bool:
        real = without_mapping(address)
        return is_public(real) or any(real in network for network in self._networks)

    def _get(
        self, parts: SplitResult, until: float, headers: Mapping[str, str], arrived: Arrived
    ) -> WebAnswer | str:
        """Return the answer, or where it leads on."""
        host = str(parts.hostname)
        port = parts.port or PORTS[parts.scheme]
        place = (parts.scheme, host, port)
        connection = None if self._idle is None else self._idle.take(place)
        if connection is not None:
            connection.begin(until)
            with suppress(NoAnswerError):  # the host may have closed it: a new one tells
                return self._asked(connection, parts, headers, arrived)
        connection = PinnedConnection(
            host,
            port,
            self._address(host, port, until),
            trust=self._trust if parts.scheme == "https" else None,
            until=until,
        )
        return self._asked(connection, parts, headers, arrived)

    def _asked(
        self,
        connection: PinnedConnection,
        parts: SplitResult,
        headers: Mapping[str, str],
        arrived: Arrived,
    ) -> WebAnswer | str:
        """Ask over a connection, which is kept or closed then."""
        is_kept = False
        try:
            with self._in_use(connection), cut_off(connection):
                answer = self._exchanged(connection, parts, headers, arrived)
                # cut off; without a length, what came would look whole
                if time.monotonic() >= connection.until:
                    raise TimeoutError
            is_kept = connection.is_whole
            return answer
        except ImageError:
            raise
        # a reset, a timeout, a certificate, a line of the host's that is none
        except (OSError, http.client.HTTPException, ValueError):
            late = time.monotonic() >= connection.until
            raise NoAnswerError(
                "the image could not be"
                f" fetched{f' within {self._seconds:g} seconds' if late else ' from its host'}"
            ) from None
        finally:
            if is_kept and self._idle is not None:
                self._idle.put((parts.scheme, connection.host, connection.port), connection)
            else:
                connection.close()

    @contextmanager
    def _in_use(self, connection: PinnedConnection) -> Iterator[None]:
        """Let `close` cut the connection meanwhile."""
        if self._idle is None:
            yield
            return
        with self._idle.in_use(connection):
            yield

    def _exchanged(
        self,
        connection: PinnedConnection,
        parts: SplitResult,
        headers: Mapping[str, str],
        arrived: Arrived,
    ) -> WebAnswer | str:
        path = _encoded(parts.path or "/") + (f"?{_encoded(parts.query)}" if parts.query else "")
        fixed = {
            "user-agent": f"mismatch/{mismatch.__version__}",
            "accept": "image/*",
            "connection": "close" if self._idle is None else "keep-alive",
        }
        connection.is_whole = False
        connection.request("GET", path, headers={**headers, **fixed})
        with connection.getresponse() as response:
            if response.status in MOVED:
                return _location(response)
            data = self._body(response, arrived) if response.status == 200 else b""
            if self._idle is not None and response.length is not None and response.length <= PIECE:
                response.read()  # of a page that says why there is no image
            connection.is_whole = response.isclosed() and not response.will_close
            return WebAnswer(
                status=response.status,
                data=data,
                etag=response.headers.get("etag", ""),
                last_modified=response.headers.get("last-modified", ""),
                retry_after=_seconds(response.headers.get("retry-after", "")),
            )

    def _body(self, response: http.client.HTTPResponse, arrived: Arrived) -> bytes:
        pieces = []
        size = 0
        while piece := response.read(PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > self._max_bytes:
                raise ImageError(
                    f"the image has more than {self._max_bytes:,} bytes; {self._remedies.smaller}"
                )
            arrived(len(piece))
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(pieces)


def _encoded(part: str) -> str:
    """Return a path or a query with blanks, and other letters than ASCII's, as %-escapes."""
    is_written = part.isascii() and part.isprintable() and " " not in part
    return part if is_written else quote(part, safe=WRITTEN_IN_URLS)


def _location(response: http.client.HTTPResponse) -> str:
    """Return where a redirect leads; ImageError where it doesn't say."""
    location = response.headers.get("location")
    if not location:
        raise ImageError(f"the image's host answered {response.status} without an address")
    return str(location)


def _seconds(words: str) -> float | None:
    """Return how long a host asks to wait: a number of seconds, or until a date."""
    if words.strip().isdecimal():
        return float(words[:10])
    try:
        return max(0.0, parsedate_to_datetime(words).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _named(parts: SplitResult) -> str:
    """Return the host as the settings name it: with its port where that isn't the scheme's own."""
    host = (parts.hostname or "").lower()
    is_usual = parts.port in (None, PORTS.get(parts.scheme))
    return host if is_usual else f"{host}:{parts.port}"


def _covers(allowed: str, named: str) -> bool:
    """Return whether one of the setting's hosts allows this one."""
    below = allowed.startswith("*.") and named.endswith(allowed[1:])
    return named == allowed or below


def _joined(url: str, location: str) -> str:
    """Return where a redirect leads; ImageError where that is no address."""
    try:
        return urljoin(url, location)
    except ValueError:
        raise ImageError(NOT_UNDERSTOOD) from None
