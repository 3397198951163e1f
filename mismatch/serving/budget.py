"""Bytes that requests hold in memory: one budget for all of them, and which request
holds how many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import IPv6Address, ip_address

from starlette.exceptions import HTTPException

__all__ = [
    "FULL",
    "RETRY",
    "SMALL",
    "Account",
    "Budget",
    "client_of",
    "current_account",
    "current_client",
]

SMALL = 2**20  # bytes of a request that may also use what is kept back from large ones
KEPT_BACK = 4  # one part of so many, for small requests
SHARES = 2  # one client may hold one part of so many of what all, or all large requests, may
CLIENT_NETWORK = 64  # bits of an IPv6 address that stand for one client
FULL = (
    "the requests that are being answered hold all the memory that they, or those of one client,"
    " may; try again in a moment"
)
RETRY = {"retry-after": "1", "connection": "close"}
UNKNOWN = "unknown"  # the client of a socket without addresses

_CURRENT: ContextVar[Account | None] = ContextVar("mismatch_account", default=None)


class Budget:
    """The bytes that one service's requests hold; used by its event loop alone."""

    def __init__(self, total: int, largest: int) -> None:
        """Take `total`, bytes of all requests, and `largest`, bytes of one, that always has room
        when alone.
        """
        self._total = total
        self._for_large = max(total - total // KEPT_BACK, largest)
        self._for_clients_large = max(self._for_large // SHARES, largest)
        self._for_client = max(total // SHARES, min(largest, SMALL))
        self._clients = Counter[str]()  # bytes that each holds
        self.held = 0  # bytes

    def fits(self, client: str, size: int, held: int = 0) -> bool:
        """Return whether a client's request that holds `held` bytes could hold `size` in all."""
        others = self.held - held  # what all other requests hold
        own_others = self._clients[client] - held
        if size <= SMALL:
            return own_others + size <= self._for_client and others + size <= self._total
        return own_others + size <= self._for_clients_large and others + size <= self._for_large

    def hold(self, client: str, size: int) -> None:
        """Note `size` bytes more of a client; less, where it is negative."""
        self.held += size
        self._clients[client] += size
        if not self._clients[client]:
            del self._clients[client]

    @contextmanager
    def account(self, client: str) -> Iterator[Account]:
        """Yield what one request holds, given back at the end; `current_account` finds it
        meanwhile.
        """
        account = Account(self, client)
        token = _CURRENT.set(account)
        try:
            yield account
        finally:
            _CURRENT.reset(token)
            account.closed = True
            self.hold(client, -account.size)


class Account:
    """What one request holds."""

    def __init__(self, budget: Budget, client: str) -> None:
        self._budget = budget
        self.client = client
        self.size = 0  # bytes
        self.fetched = 0  # bytes of images from addresses, which are part of `size`
        self.closed = False  # the request has ended, and nothing more would be given back

    def take(self, size: int) -> None:
        """Hold `size` bytes more; HTTPException (503) where all, or this client's, are too many,
        or the request has ended.
        """
        if self.closed or not self._budget.fits(self.client, self.size + size, self.size):
            raise HTTPException(503, FULL, RETRY)
        self._budget.hold(self.client, size)
        self.size += size


def current_account() -> Account | None:
    """Return the account of the request that is being answered here; None outside of one."""
    return _CURRENT.get()


def current_client() -> str:
    """Return the client whose request is being answered here; `UNKNOWN` outside of one."""
    account = _CURRENT.get()
    return UNKNOWN if account is None else account.client


def client_of(address: str | None) -> str:
    """Return the client that an address stands for: of IPv6 its network, of which one client has
    all.
    """
    try:
        ip = ip_address(address or "")
    except ValueError:
        return address or UNKNOWN
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return f"{IPv6Address(int(ip) >> CLIENT_NETWORK << CLIENT_NETWORK)}/{CLIENT_NETWORK}"
