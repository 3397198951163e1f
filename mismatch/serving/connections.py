"""Connections of uvicorn: bounds on a request's head, no upgrades, and answers that are read.

uvicorn has no deadline for a head: who sends one byte by byte would hold a connection
permanently; nor has it one for an answer that its client doesn't read. With httptools it also
takes the body of a request that offers an upgrade for the next request; h11 does not.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from mismatch.serving.budget import UNKNOWN, client_of
from mismatch.serving.listening import Connections

__all__ = ["MAX_HEAD_BYTES", "MAX_HEAD_LINES", "Connection", "connection_class"]

MAX_HEAD_BYTES = 65_536  # bytes of a request's head
MAX_HEAD_LINES = 128  # lines of a request's head: h11 takes 3 µs for each
LINGER = 2.0  # seconds in which a client may read its answer while it still sends
LEAVING = 5.0  # seconds in which an answer has to be taken once the service stops
UPGRADING = (b"upgrade", b"http2-settings")  # headers that are as good as absent
RESET = struct.pack("ii", 1, 0)  # a linger time of 0 s: the kernel keeps nothing either
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection:"
    b" close\r\n\r\n"
)


class Connection(H11Protocol):
    """One client's connection.

    It is closed where a request's head is longer than `MAX_HEAD_BYTES`, or not whole `head_seconds`
    after it could begin; where an answer is not taken `answer_seconds` after it was written; and at
    once where there are too many. Requests behind an answer that is not taken wait for that.
    """

    head_seconds = 10.0
    answer_seconds = 30.0
    others = Connections(1000)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Parser(h11.SERVER, MAX_HEAD_BYTES)
        self._name = UNKNOWN  # the client's
        self._head_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._is_untaken = False  # whether an answer is complete, but its client has not taken it
        self._has_ended = False  # whether the client sends nothing more
        self._is_leaving = False  # whether the service stops
        self._is_lost = False
        self._application: Any = self.app
        self.app = self._answer
        self._answered: Scope | None = None  # the last request of which the work has ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        lingering: Any = _Lingering(transport, self._is_sending)
        super().connection_made(lingering)
        self._name = client_of(self.client[0] if self.client else None)
        lingering.set_write_buffer_limits(high=0)  # `resume_writing` then means: all is taken
        if self.others.admit(self, self._name):
            self._await_head()
            return
        lingering.write(REFUSAL)
        self._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        self._forget_answer()
        super().connection_lost(exc)
        self._is_lost = True
        self._release()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application answer a request, with an end of its own where the server stops."""
        try:
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            self.transport.close()  # what is written already is sent first
        finally:
            self._answered = scope
            self._release()

    def _release(self) -> None:
        """Count the connection no longer, once it has ended and nothing is done for it."""
        is_working = self.cycle is not None and self.cycle.scope is not self._answered
        if self._is_lost and not is_working:
            self.others.discard(self, self._name)

    def is_idle(self) -> bool:
        """Return whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def drop(self) -> None:
        """End the connection now, and throw away what its client has not taken."""
        line = self.transport.get_extra_info("socket")
        with suppress(AttributeError, OSError):  # no TCP, or closed already
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._abort()

    def _abort(self) -> None:
        self.connections.discard(self)
        self.transport.abort()

    def shutdown(self) -> None:
        """End it as soon as what it has asked for is answered, and the answer taken."""
        self._is_leaving = True
        if self.flow.write_paused:
            self._forget_answer()
            self._await_answer()
        if not self.transport.is_closing():
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # what follows a request that is refused
        super().data_received(data)
        if self.is_idle() and not self._is_untaken:
            self._await_head()
        else:
            self._forget_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Note that the client sends nothing more; what it has asked for until now is answered."""
        self._has_ended = True
        return self._has_more_to_answer()

    def handle_events(self) -> None:
        """Read what has come, unless an answer is not yet taken: then nothing more is."""
        if self.flow.write_paused:
            self.flow.pause_reading()
        else:
            super().handle_events()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_answer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_answer()
        if self.transport.is_closing():
            return
        if self._is_untaken:
            self._is_untaken = False
            self.on_response_complete()
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self.handle_events()

    def on_response_complete(self) -> None:
        if self.flow.write_paused and not self.transport.is_closing():
            self._is_untaken = True
            return
        super().on_response_complete()
        if self._has_ended and not self._has_more_to_answer():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Say so where no answer has begun; behind one, only the connection can end."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _has_more_to_answer(self) -> bool:
        """Return whether a whole request is not yet answered, or its answer not taken."""
        is_whole = not self.is_idle() and not self.cycle.more_body
        return is_whole or self._is_untaken

    def _is_sending(self) -> bool:
        """Return whether the client may not have sent all of a body."""
        return self.conn.their_state is h11.SEND_BODY

    def _should_upgrade(self) -> bool:
        """Refuse always: the request is answered as if it had not offered to (RFC 9110, 7.8)."""
        self.headers[:] = [header for header in self.headers if header[0] not in UPGRADING]
        return False

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _await_answer(self) -> None:
        seconds = self.answer_seconds
        if self._is_leaving:
            seconds = min(seconds, LEAVING)
        self._answer_timer = self.loop.call_later(seconds, self.drop)

    def _forget_answer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None


def connection_class(head: float, answer: float, others: Connections) -> type[asyncio.Protocol]:
    """Make the class for `uvicorn.Config(http=…)`: connections of one server, next to its others.

    `head`, `answer`: seconds in which a client sends a request's head, and takes an answer.
    """
    bounds = {"head_seconds": head, "answer_seconds": answer, "others": others}
    return type("Connection", (Connection,), bounds)


class _Parser(h11.Connection):
    """h11's, which bounds a head's bytes only while it isn't whole, and its lines never."""

    def next_event(self) -> Any:
        if self.their_state is not h11.IDLE:
            return super().next_event()
        before, _ = self.trailing_data
        if before.count(b"\n", 0, _end_of_head(before)) > MAX_HEAD_LINES:
            raise h11.RemoteProtocolError("the head has too many lines", error_status_hint=431)
        event = super().next_event()
        after, _ = self.trailing_data
        if isinstance(event, h11.Request) and len(before) - len(after) > MAX_HEAD_BYTES:
            raise h11.RemoteProtocolError("the head is too long", error_status_hint=431)
        return event


def _end_of_head(data: bytes) -> int:
    """Return where the empty line begins that ends a head; the length where it has not come."""
    ends = [data.find(mark) for mark in (b"\n\r\n", b"\n\n")]
    return min((end + 1 for end in ends if end >= 0), default=len(data))


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
