"""Connections of uvicorn: bounds on a request's head, no upgrades, and answers that are read.

uvicorn has no deadline for a head: who sends one byte by byte would hold a connection
permanently. With httptools it also takes the body of a request that offers an upgrade for the
next request; h11 does not.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["MOST", "Connection", "connection_class"]

MOST = 65_536  # bytes of a request's head
LINGER = 2.0  # seconds in which a client may read its answer while it still sends
UPGRADING = (b"upgrade", b"http2-settings")  # headers that are as good as absent


class Connection(H11Protocol):
    """One client's.

    It is closed where a request's head is longer than `MOST`, or not whole `head_seconds` after it
    could begin.
    """

    head_seconds = 10.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._head = 0  # bytes so far
        self._limit: asyncio.TimerHandle | None = None
        lingering: Any = _Lingering(transport, self._is_sending)
        super().connection_made(lingering)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # what follows a request that is refused
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:  # it is being answered
            self._forget_head()
            return
        self._head += len(data)
        self._await_head()
        if self._head > MOST:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Say so where no answer has begun; behind one, only the connection can end."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _is_sending(self) -> bool:
        """Whether the client may not have sent all of a body."""
        return self.conn.their_state is h11.SEND_BODY

    def _should_upgrade(self) -> bool:
        """Never: the request is answered as if it had not offered to (RFC 9110, 7.8)."""
        self.headers[:] = [header for header in self.headers if header[0] not in UPGRADING]
        return False

    def _await_head(self) -> None:
        if self._limit is None:
            self._limit = self.loop.call_later(self.head_seconds, self.transport.close)

    def _forget_head(self) -> None:
        self._head = 0
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


def connection_class(seconds: float) -> type[asyncio.Protocol]:
    """For `uvicorn.Config(http=…)`: connections whose clients have so long for a head."""
    return type("Connection", (Connection,), {"head_seconds": seconds})


class _Lingering:
    """A transport that is closed in two steps where the client still sends.

    A socket that is closed with bytes unread resets the connection, and the client loses an answer
    that it has not read yet. So the answer's end is said first, and what comes is thrown away.
    """

    def __init__(self, transport: Any, is_sending: Any) -> None:
        self._transport = transport
        self._is_sending = is_sending
        self._is_closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._is_closed or bool(self._transport.is_closing())

    def close(self) -> None:
        """Close it now, or soon."""
        if self.is_closing():
            return
        self._is_closed = True
        if not (self._is_sending() and self._transport.can_write_eof()):
            self._transport.close()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        asyncio.get_running_loop().call_later(LINGER, self._transport.close)
