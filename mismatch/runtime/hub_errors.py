"""What goes wrong with a model hub, in one line with its remedy."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

from mismatch.errors import CheckpointError, MachineError, MismatchError

__all__ = ["hub_errors", "hub_host", "hub_page", "is_unreachable", "pushing"]

OS_ERROR = re.compile(r"\(os error (\d+)\)")  # as libraries in Rust say it, hf_xet among them
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNAUTHORISED = 401
FORBIDDEN = 403
SERVER_FAILED = 500
LOG_IN = "log in by `hf auth login`, or set HF_TOKEN"


def hub_host() -> str:
    """Return the host of the hub that is asked, without a user's name and password."""
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return (parts.hostname or "the hub") + (f":{parts.port}" if parts.port else "")


def hub_page(repository: str) -> str:
    """Return the address of a repository's page."""
    from huggingface_hub import constants

    return f"{urlsplit(constants.ENDPOINT).scheme}://{hub_host()}/{repository}"


def is_unreachable(error: BaseException) -> bool:
    """Return whether a hub did not answer, must not be asked, or failed itself."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return _status(error) >= SERVER_FAILED
    is_network = isinstance(error, (errors.OfflineModeIsEnabled, *_network_errors()))
    return is_network or isinstance(error, ConnectionError | TimeoutError)


@contextmanager
def hub_errors(repository: str, revision: str | None, cache: Path) -> Iterator[None]:
    """Raise CheckpointError, or MachineError where the disk is at fault, for what huggingface_hub
    raises within the block.
    """
    try:
        yield
    except MismatchError:
        raise
    except Exception as error:
        full = _disk_error(error, cache)
        if full is not None:
            raise full from error
        name = repository if revision is None else f"{repository}@{revision}"
        raise CheckpointError(_explain(repository, name, error, cache)) from error


@contextmanager
def pushing(repository: str) -> Iterator[None]:
    """Raise CheckpointError, within the block, for what keeps a model from being pushed."""
    from huggingface_hub import errors, get_token

    host = hub_host()
    if get_token() is None:
        raise CheckpointError(f"pushing to '{repository}' needs a token of {host}: {LOG_IN}")
    try:
        yield
    except MismatchError:
        raise
    except Exception as error:
        is_refused = isinstance(error, errors.RepositoryNotFoundError)
        if is_refused or _status(error) in (UNAUTHORISED, FORBIDDEN):
            raise CheckpointError(
                f"{host} does not let your token write to '{repository}': {LOG_IN} to one with the"
                " right to write there"
            ) from error
        if is_unreachable(error):
            why = "HF_HUB_OFFLINE forbids to ask it" if _is_offline(error) else _first_line(error)
            raise CheckpointError(
                f"nothing was pushed to '{repository}', as {host} can't be reached ({why}); try"
                " again"
            ) from error
        raise CheckpointError(
            f"'{repository}' can't be pushed to {host} ({_first_line(error)}); nothing was changed"
            " there; try again"
        ) from error


def _is_offline(error: BaseException) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled)


def _network_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the library over which huggingface_hub asks, whichever it is."""
    kinds: list[type[Exception]] = []
    for module in ("httpx", "httpx2"):
        try:
            library = import_module(module)
        except ModuleNotFoundError:
            continue
        kinds.append(library.TransportError)
    return tuple(kinds)


def _status(error: BaseException) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0) or 0)


def _disk_error(error: BaseException, cache: Path) -> MachineError | None:
    """Return what a disk's failure means; None for another one."""
    number = error.errno if isinstance(error, OSError) else None
    if in_rust := OS_ERROR.search(str(error)):
        number = int(in_rust[1])
    if number in FULL:
        return MachineError(
            f"the disk of {cache}, where downloads are kept, is full; make room, or let HF_HOME"
            " name a folder on another disk; files that are whole stay"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(
            f"{cache}, where downloads are kept, can't be written; let HF_HOME name a folder that"
            " can"
        )
    return None


def _explain(repository: str, name: str, error: BaseException, cache: Path) -> str:
    """Return what is wrong and what to do about it."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    page = hub_page(repository)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return (
            f"'{name}' is not in the cache of the model hub ({cache}), or not whole, and"
            " HF_HUB_OFFLINE forbids to ask; download it once without that"
        )
    if isinstance(error, errors.GatedRepoError):
        return f"'{name}' is gated: ask for access at {page}, then {LOG_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"'{repository}' has no such revision: '{name}'; {page}/commits/main lists commits"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{hub_host()} has no '{repository}', or it is private: check the name, or {LOG_IN}"
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(name, _status(error))
    if is_unreachable(error):
        return (
            f"'{name}' is not in the cache of the model hub, or not whole, and {hub_host()} can't"
            f" be reached ({_first_line(error)}); try again, which goes on with the file that is"
            " missing"
        )
    return f"'{name}' can't be had from {hub_host()} ({_first_line(error)}); try again"


def _explain_status(name: str, status: int) -> str:
    if status in (UNAUTHORISED, FORBIDDEN):
        return f"{hub_host()} refuses your token for '{name}' ({status}): {LOG_IN} to another one"
    return f"{hub_host()} answers {status} for '{name}'; try again later"


def _first_line(error: BaseException) -> str:
    """Return the first line that an error says; no address in it, which may be signed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or "://" in lines[0]:
        return type(error).__name__
    return lines[0].rstrip(".:")[:200]
