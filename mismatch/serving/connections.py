"""Connections of uvicorn with bounds on the head of a request, for which it has no deadline: who sends one byte by byte would hold a connection for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["connection_class"]

MOST = 65_536  # bytes of a request's head


def connection_class(seconds: float) -> type[asyncio.Protocol]:
    """For `uvicorn.Config(http=…)`: a connection that is closed where a request's head is longer than `MOST`, or not whole `seconds` after it could begin."""
    base: Any = AutoHTTPProtocol  # httptools where it is installed, else h11

    class Connection(base):  # type: ignore[misc]
        """One client's."""

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._head = 0  # bytes so far
            self._limit: asyncio.TimerHandle | None = None
            self._await_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:  # its request is being answered
                self._forget_head()
                return
            self._head += len(data)
            self._await_head()
            if self._head > MOST:
                self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_head()
            super().connection_lost(exc)

        def _await_head(self) -> None:
            if self._limit is None:
                self._limit = self.loop.call_later(seconds, self.transport.close)

        def _forget_head(self) -> None:
            self._head = 0
            if self._limit is not None:
                self._limit.cancel()
                self._limit = None

    return Connection
