"""Which Host and Origin headers are served, so that no other site's page asks in a reader's name.

A page of another site can let its own name lead to this machine (DNS rebinding). Such a name has
a dot and is none of ours; a browser never sends an address or a bare name for it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

__all__ = ["HOST_NAME", "Hosts"]

HOST_NAME = re.compile(r"\*|(?:\*\.)?[\w.-]{1,253}", re.ASCII)  # names of the setting `hosts`
HEADER = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[\w.-]{1,254})(?::(\d{0,5}))?", re.ASCII)
PORTS = {"http": "80", "https": "443"}
FROM_HERE = ("same-origin", "none")  # values of Sec-Fetch-Site, which no page can set


class Hosts:
    """Judges the headers of requests by the names of a service."""

    def __init__(self, names: Sequence[str], origins: Sequence[str]) -> None:
        """Take `names`: further ones, `*.example.com` for all below one, `*` for any."""
        self._names = {name.lower() for name in names} | {socket.gethostname().lower()}
        self._origins = set(origins)

    def serves(self, headers: Headers) -> bool:
        """Return whether the one Host header is an address or a name of the service's; true without
        one.

        Served are addresses, names without a dot, those below localhost, the machine's own, and
        the settings'.
        """
        hosts = headers.getlist("host")
        if not hosts:
            return True  # HTTP/1.0, which no browser speaks
        name, _ = _split(hosts[0])
        if len(hosts) > 1 or not name:
            return False
        if _is_address(name) or "." not in name or name.endswith(".localhost"):
            return True
        return any(_covers(ours, name) for ours in self._names)

    def allows(self, headers: Headers) -> bool:
        """Return whether a request that changes or costs something is from no other site's page."""
        origin = headers.get("origin")
        if origin is not None and not self._origins.isdisjoint((origin, "*")):
            return True
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site in FROM_HERE
        return origin is None or _same(origin, headers.get("host", ""))


def _split(host: str) -> tuple[str, str]:
    """Return name and port of a Host header; an empty name for one that is malformed."""
    parts = HEADER.fullmatch(host.strip(" \t").lower())
    if parts is None:
        return "", ""
    name, port = parts.groups()
    return name.removesuffix("."), port or ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _covers(ours: str, name: str) -> bool:
    if ours.startswith("*."):
        return name.endswith(ours[1:])
    return ours in ("*", name)


def _same(origin: str, host: str) -> bool:
    """Return whether a page of `origin` was had from `host`; a proxy may have ended its TLS."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    default = PORTS.get(parts.scheme)
    if default is None:
        return False
    name, port = _split(parts.netloc)
    here, here_port = _split(host)
    return bool(name) and (name, port or default) == (here, here_port or default)
