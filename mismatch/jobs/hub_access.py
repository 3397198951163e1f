"""Whether the model hub answers: one question, within seconds, and none where that is forbidden."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from mismatch.io.text import one_line
from mismatch.runtime.time_limit import answer_within

__all__ = ["HubAccess", "hub_access"]

HUB = "https://huggingface.co"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # what huggingface_hub obeys
YES = {"1", "ON", "YES", "TRUE"}  # of the values that it takes for such a variable
SECONDS = 4.0  # until a silent hub counts as unreachable, looking up its name included
PROXY_FAILED = 407
SERVER_FAILED = 500


@dataclass(frozen=True)
class HubAccess:
    """Whether a model hub can be reached."""

    host: str
    reachable: bool | None  # None: it was not asked
    detail: str  # why not; "" where it can be reached


def hub_access(environment: Mapping[str, str] = os.environ) -> HubAccess:
    """Ask the hub that HF_ENDPOINT names, or Hugging Face's, for its first page's headers."""
    url = environment.get("HF_ENDPOINT") or HUB
    parts = urlsplit(url)
    host = parts.hostname or ""  # a user's name and password stand elsewhere in a URL
    for name in OFFLINE:
        if environment.get(name, "").upper() in YES:
            return HubAccess(host, None, f"not asked, as {name} is set")
    if parts.scheme not in ("http", "https") or not host:
        return HubAccess(host, False, "HF_ENDPOINT is no address that begins with https://")
    detail = answer_within(SECONDS, lambda: _failure(url), f"no answer within {SECONDS:.0f} s")
    return HubAccess(host, not detail, detail)


def _failure(url: str) -> str:
    """Return why a server can't be reached; "" where it answers."""
    request = Request(url, method="HEAD", headers={"User-Agent": "mismatch"})
    try:
        with urlopen(request, timeout=SECONDS):
            return ""
    except HTTPError as error:
        answers = error.code != PROXY_FAILED and error.code < SERVER_FAILED
        return "" if answers else f"it answers {error.code} {error.reason}"
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return one_line(reason) if isinstance(reason, BaseException) else str(reason)
