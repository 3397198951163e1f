"""Stores: their packages, and what their errors mean, whichever library raised them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mismatch.io.remote import Remote

import errno
import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from mismatch.errors import MachineError, MissingExtraError

if TYPE_CHECKING:
    pass

__all__ = [
    "NO_ACCESS",
    "OUT_OF_REACH",
    "PASSING",
    "STORES",
    "OutOfRangeError",
    "explained_error",
    "filesystem_of",
]

# scheme → its package; those where a put is whole or not at all
STORES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "memory": "fsspec"}
NO_ACCESS = re.compile(
    r"Credential|ExpiredToken|InvalidAccessKeyId|SignatureDoesNotMatch"
    r"|TokenRefreshRequired|RefreshError|ClientAuthenticationError"
)
OUT_OF_REACH = re.compile(
    r"Connect|Timeout|Endpoint|Payload|IncompleteRead|Stream|HTTPClient|Transport"
    r"|SSL|gaierror|DNS|ClientOS|ServiceRe(quest|sponse)E"
)
PASSING = {408, 409, 425, 429}  # HTTP's statuses below 500 that may pass


class OutOfRangeError(OSError):
    """Nothing is where a read begins."""


@cache
def filesystem_of(store: str) -> Any:
    """Return one file system for all threads, since each has connections and credentials of its
    own.
    """
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(f"reading or writing {store}", "remote") from error
    scheme = store.partition("://")[0]
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise MissingExtraError(f"{scheme}://", package=STORES[scheme]) from error
    try:
        return kind(use_listings_cache=False, **kind._get_kwargs_from_urls(store))
    except Exception as error:
        raise MachineError(
            f"{store} can't be reached ({type(error).__name__}); give its account and credentials"
            " by the environment"
        ) from error


def explained_error(error: Exception, place: Remote) -> OSError | MachineError:
    """Return the error of a file that says the same."""
    chain = list(_chain(error))
    status = next(filter(None, map(_status, chain)), None)
    if NO_ACCESS.search(" ".join(f"{type(cause).__name__} {_code(cause)}" for cause in chain)):
        return MachineError(
            f"{place.store} takes no credentials of this environment; set or renew them, as"
            f" {STORES[place.store.partition('://')[0]]} documents"
        )
    if status == 416:
        return OutOfRangeError(errno.EINVAL, "nothing is there")
    if isinstance(error, FileNotFoundError) or status == 404:
        return FileNotFoundError(errno.ENOENT, "there is no such object")
    if isinstance(error, PermissionError) or status in (401, 403):
        return PermissionError(
            errno.EACCES,
            "access denied; let the credentials of this environment read and write there",
        )
    if status is not None and 300 <= status < 500 and status not in PASSING:
        return OSError(errno.EINVAL, f"the store refuses it (HTTP {status})")
    if status is not None:
        return OSError(errno.EIO, f"the store fails (HTTP {status})")
    if OUT_OF_REACH.search(" ".join(kind.__name__ for kind in type(error).__mro__)):
        return OSError(errno.EHOSTUNREACH, f"the store can't be reached ({type(error).__name__})")
    return OSError(errno.EINVAL, f"the store's package refuses it ({type(error).__name__})")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """Return the HTTP status in an error of botocore, aiohttp, gcsfs or azure; None where it has
    none.
    """
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
    codes = (getattr(error, name, None) for name in ("status", "code", "status_code"))
    return next((value for value in codes if isinstance(value, int) and 100 <= value < 600), None)


def _code(error: BaseException) -> str:
    """Return S3's word for an error; empty where it has none."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
