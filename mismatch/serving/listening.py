"""The server behind `mismatch serve`: how many connections it accepts, and of whom.

It also logs what fails in the event loop, as sockets that can't be accepted.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import uvicorn
from starlette.types import ASGIApp

from mismatch.serving.budget import UNKNOWN
from mismatch.serving.configuration import Settings
from mismatch.serving.telemetry import log

__all__ = ["Connections", "LoopFaults", "Server", "connections_within_limits", "url_of"]

ACCEPTED = 32  # connections that are accepted in one go, before any of them is counted
BACKLOG = 2048  # connections that the kernel keeps until they are accepted
RESERVED = 256  # files for all but connections: what is just accepted, fetches, models, pipes
INTERVAL = 1.0  # seconds between two lines of the log about the event loop's faults


class Idle(Protocol):
    """What `Connections` asks of a connection."""

    def is_idle(self) -> bool:
        """Return whether no request of it is being answered."""

    def drop(self) -> None:
        """End it at once."""


class Connections:
    """Open connections, by client. Used by one event loop alone.

    Where there is no room for a new one, one that is idle makes room: among the client's own where
    it has its share of them, which is half, and else of the client with the most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = max(1, limit // 2)  # what one client may have
        self._clients: dict[str, dict[Idle, None]] = {}  # each one's, the oldest first
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def admit(self, connection: Idle, client: str) -> bool:
        """Count a new connection; False where there is no room for it."""
        connections = self._clients.get(client, {})
        if client != UNKNOWN and len(connections) >= self._share:
            has_room = self._make_room([client])
        elif self._count >= self._limit:
            by_size = sorted(self._clients, key=lambda name: -len(self._clients[name]))
            has_room = self._make_room(by_size)
        else:
            has_room = True
        if has_room:
            self._clients.setdefault(client, {})[connection] = None
            self._count += 1
        return has_room

    def discard(self, connection: Idle, client: str) -> None:
        """Forget one that has ended, or was never admitted."""
        connections = self._clients.get(client, {})
        if connection not in connections:
            return
        del connections[connection]
        self._count -= 1
        if not connections:
            del self._clients[client]

    def _make_room(self, clients: list[str]) -> bool:
        """End the oldest idle connection of the first client that has one."""
        for client in clients:
            for connection in self._clients[client]:
                if connection.is_idle():
                    self.discard(connection, client)
                    connection.drop()
                    return True
        return False


class LoopFaults:
    """The event loop's handler of what no task waits for, as of sockets that can't be accepted.

    It logs one line in `INTERVAL` at most, and how many others there were.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._next = 0.0  # when a line may be logged again
        self._unlogged = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        now = self._now()
        if now < self._next:
            self._unlogged += 1
            return
        self._next = now + INTERVAL
        error = context.get("exception")
        line = {"message": str(context.get("message")), "error": str(error), "more": self._unlogged}
        self._unlogged = 0
        is_bug = isinstance(error, Exception) and not isinstance(error, OSError)
        log.error(line, exc_info=error if is_bug else None)


class Server(uvicorn.Server):
    """uvicorn, with bounds on its connections."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        host: str,
        port: int,
        on_started: Callable[[str], object] = lambda url: None,
        **options: Any,
    ) -> None:
        """Take `on_started`, which receives the URL once connections are accepted, and `options`,
        further ones of `uvicorn.Config`.
        """
        # This import needs h11, which only servers have.
        from mismatch.serving.connections import connection_class

        limit = connections_within_limits(settings.connections)
        kind: Any = connection_class(
            settings.header_deadline, settings.deadline, Connections(limit)
        )
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=kind,
            ws="none",
            backlog=ACCEPTED,  # asyncio's number of connections in one go, too
            # Connections have their bounds. This one would count the work of all clients together.
            limit_concurrency=None,
            proxy_headers=False,  # they say who the client is, and any client can send them
            access_log=False,
            server_header=False,
            log_config=None,
            **options,
        )
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(LoopFaults())
        await super().startup(sockets)
        for server in getattr(self, "servers", []):  # none where it could not listen
            for listening in server.sockets:
                with listening.dup() as copy:
                    copy.listen(BACKLOG)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            self._on_started(url_of(self.config.host, port))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what was accepted, or cut it short where a second Ctrl-C says so.

        uvicorn itself then leaves requests and the application to the end of the event loop, which
        cancels all of them at once, and logs their traces.
        """
        await super().shutdown(sockets)
        if self.force_exit:
            for task in self.server_state.tasks:
                task.cancel()
            await self.lifespan.shutdown()


def url_of(host: str, port: int) -> str:
    """Return the URL of a service; an IPv6 address stands in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def connections_within_limits(wanted: int) -> int:
    """Return how many connections of those wanted may be open, next to all other files.

    The soft limit of open files is raised for them as far as the hard one allows.
    """
    if sys.platform == "win32":  # it has no such limit
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (OSError, ValueError):  # not allowed
        raised = soft
    limit = max(1, min(wanted, max(raised - RESERVED, raised // 2)))
    if limit < wanted:
        reason = f"the limit of open files is {raised}"
        result = f"{limit} connections are accepted at a time, not {wanted}"
        log.warning({"message": f"{reason}, so {result}; raise it (ulimit -n)"})
    return limit
