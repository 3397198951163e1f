"""Repositories of a model hub as folders of its cache: files that are asked for are downloaded
once, and read from there afterwards, offline too.
"""

from __future__ import annotations

import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mismatch.errors import CheckpointError, MachineError, MismatchError, MissingExtraError
from mismatch.io.atomic import atomic_file
from mismatch.progress import is_shown
from mismatch.runtime.hub_errors import hub_errors, hub_host, is_unreachable
from mismatch.runtime.libraries import send_nothing

__all__ = [
    "COMMIT",
    "TIMEOUT",
    "WORTH_A_BAR",
    "HubName",
    "Snapshot",
    "check_room",
    "fetch",
    "hub_bars",
    "hub_cache",
    "hub_library",
    "remember_commit",
    "remembered_commit",
    "repository_folder",
    "small_files",
]

NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)
REVISION = re.compile(r"\w[\w./-]*", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
LONGEST = 96  # characters of a name or a revision, as hubs have them
TIMEOUT = 10.0  # seconds until a silent hub counts as unreachable
MAX_FILES = 10_000  # of a repository
WORTH_A_BAR = 2**20  # bytes of a download
SMALL = (".json", ".txt", ".model")  # how files end that are read whole, beside weights
LARGEST_SMALL = 128 * 2**20  # bytes of one of them; tokenizers of many scripts have 35 MB

logger = logging.getLogger(__name__)

# names of a repository's files → those to download first
First = Callable[[Sequence[str]], Iterable[str]]
# the folder with these, and the names again → the weights; none where there are none
Weights = Callable[[Path, Sequence[str]], Iterable[str]]


@dataclass(frozen=True)
class HubName:
    """A repository's name on a hub, and the revision that is meant."""

    repository: str  # OWNER/NAME
    revision: str | None = None  # a branch, a tag or a commit; None: the default branch
    kind: Literal["model", "dataset"] = "model"

    @classmethod
    def of(cls, text: str) -> HubName:
        """Return the name that `NAME` or `NAME@REVISION` says; CheckpointError for what can be none
        on a hub.
        """
        repository, sign, revision = text.partition("@")
        is_name = NAME.fullmatch(repository) and ".." not in text and "--" not in repository
        if not is_name or len(repository) > LONGEST:
            raise CheckpointError(f"'{text}' can be no name on a model hub, as OWNER/NAME is")
        if sign and not (REVISION.fullmatch(revision) and len(revision) <= LONGEST):
            raise CheckpointError(
                f"'{text}' has no revision behind the @; give a branch, a tag or a commit"
            )
        return cls(repository, revision or None)

    @property
    def is_commit(self) -> bool:
        """Return whether the revision is a commit, which never changes."""
        return self.revision is not None and COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


@dataclass(frozen=True)
class Snapshot:
    """Files of a repository at one commit, in the hub's cache."""

    folder: Path
    commit: str  # 40 hex digits


@dataclass(frozen=True)
class _Listing:
    """What a hub says of a repository."""

    commit: str
    sizes: Mapping[str, int | None]  # name → bytes; None: it does not say


def hub_library() -> Any:
    """Return huggingface_hub, which sends nothing about its use; MissingExtraError without it."""
    send_nothing("huggingface_hub")
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise MissingExtraError("a model on a hub", "hub") from error
    return huggingface_hub


def small_files(names: Sequence[str]) -> list[str]:
    """Return the files of a model beside its weights: configurations and tokenizers, and nothing
    from folders below, no code and no pickle.
    """
    return [name for name in names if "/" not in name and name.lower().endswith(SMALL)]


def fetch(name: HubName, first: First, weights: Weights) -> Snapshot:
    """Return a repository's files, downloaded where the cache lacks them.

    `first` chooses from the names of its files, `weights` looks at those and chooses what is large;
    it may refuse them by an exception. Where the hub can't be reached or refuses it, what the cache
    has is taken if it is whole, which is logged. A name that is pinned to a commit and cached asks
    nothing.

    CheckpointError where it is not to be had, MachineError where the disk takes no more of it.
    """
    if name.is_commit and (cached := _cached(name, weights)) is not None:
        return cached
    hub = hub_library()
    with hub_errors(name.repository, name.revision, hub_cache()):
        try:
            listing = _list(hub, name)
        except MismatchError:
            raise
        except Exception as error:
            if (cached := _cached(name, weights)) is None:
                raise
            _say_cached(name, cached, error)
            return cached
        return _download(hub, name, listing, first, weights)


def _say_cached(name: HubName, cached: Snapshot, error: Exception) -> None:
    """Log that the cache's copy is used; not where the user has asked for that."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    level = logging.INFO if is_unreachable(error) else logging.WARNING
    why = "can't be reached" if is_unreachable(error) else "refuses it, or has it no more"
    copy = f"the cache's copy of '{name}' is used, of commit {cached.commit}"
    logger.log(level, "%s %s; %s", hub_host(), why, copy)


def hub_cache() -> Path:
    """Return the folder in which huggingface_hub keeps what it has downloaded."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def repository_folder(name: HubName) -> Path:
    """Return the folder of one repository in the cache, as all libraries of the hub have it."""
    return hub_cache() / f"{name.kind}s--{name.repository.replace('/', '--')}"


def _cached(name: HubName, weights: Weights) -> Snapshot | None:
    """Return what the cache has of a name; None where it has nothing, or a part."""
    hub_library()
    commit = name.revision if name.is_commit else remembered_commit(name)
    if commit is None:
        return None
    folder = repository_folder(name) / "snapshots" / commit
    if not folder.is_dir():
        return None
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    large = list(weights(folder, names))
    if not large or not all((folder / file).is_file() for file in large):
        return None
    return Snapshot(folder, commit)


def remembered_commit(name: HubName) -> str | None:
    """Return the commit that a branch or a tag was when it was last downloaded."""
    try:
        commit = (
            (repository_folder(name) / "refs" / (name.revision or "main"))
            .read_text("ascii")
            .strip()
        )
    except (OSError, ValueError):
        return None
    return commit if COMMIT.fullmatch(commit) else None


def remember_commit(name: HubName, commit: str) -> None:
    """Write down which commit a branch or a tag is, once all of it is here. An interrupted download
    leaves the earlier one.
    """
    if name.is_commit or remembered_commit(name) == commit:
        return
    path = repository_folder(name) / "refs" / (name.revision or "main")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(commit)


def _list(hub: Any, name: HubName) -> _Listing:
    """Ask the hub which commit a name is, and for its files."""
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled("HF_HUB_OFFLINE")
    about = hub.HfApi().model_info(
        name.repository, revision=name.revision, files_metadata=True, timeout=TIMEOUT
    )
    if about.id and about.id != name.repository:
        logger.warning(
            "'%s' is called '%s' on the model hub now; write the new name",
            name.repository,
            about.id,
        )
    sizes = {file.rfilename: file.size for file in about.siblings or []}
    if not COMMIT.fullmatch(about.sha or "") or len(sizes) > MAX_FILES:
        raise CheckpointError(
            f"'{name}' has no commit on {hub_host()}, or more than {MAX_FILES:,} files; it is no"
            " model's repository"
        )
    return _Listing(about.sha, sizes)


def _download(
    hub: Any, name: HubName, listing: _Listing, first: First, weights: Weights
) -> Snapshot:
    """Download what the cache lacks, weights last: where they are, all is."""
    names = sorted(listing.sizes)
    folder = repository_folder(name) / "snapshots" / listing.commit
    small = list(first(names))
    for file in small:
        if (listing.sizes.get(file) or 0) > LARGEST_SMALL:
            raise CheckpointError(
                f"'{name}' has a {file} of {listing.sizes[file]:,} bytes, more than the"
                f" {LARGEST_SMALL:,} that such a file may have"
            )
    _get(hub, name, listing, folder, small)
    large = list(weights(folder, names))
    if missing := [file for file in large if file not in listing.sizes]:
        raise CheckpointError(f"'{name}' has no {missing[0]}, which its own files name")
    if not large:
        raise CheckpointError(
            f"'{name}' has no weights, or none of the files that are needed, in a form that is read"
            " here"
        )
    _get(hub, name, listing, folder, large)
    remember_commit(name, listing.commit)
    return Snapshot(folder, listing.commit)


def _get(hub: Any, name: HubName, listing: _Listing, folder: Path, files: Sequence[str]) -> None:
    """Download these files, but for those that are there."""
    missing = [file for file in files if not (folder / file).is_file()]
    size = sum(listing.sizes[file] or 0 for file in missing)
    is_large = size >= WORTH_A_BAR
    if missing:
        check_room(size)
    if is_large:
        logger.info("downloading %s of %s, %.1f MB", ", ".join(missing), name, size / 1e6)
    with hub_bars(hub, wanted=is_large):
        for file in missing:
            hub.hf_hub_download(
                name.repository, file, revision=listing.commit, etag_timeout=TIMEOUT
            )


def check_room(size: int) -> None:
    """Raise MachineError before a download that the disk has no room for."""
    folder = hub_cache()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        raise MachineError(
            f"{hub_cache()}, where downloads are kept, has {free / 1e6:,.0f} MB free, and"
            f" {size / 1e6:,.0f} MB are needed; make room, or let HF_HOME name a folder on another"
            " disk"
        )


@contextmanager
def hub_bars(hub: Any, *, wanted: bool = True) -> Iterator[None]:
    """Let huggingface_hub draw its bars where a command shows progress on a terminal, and nowhere
    else; its warnings, which errors of ours say in one line, are silent.
    """
    shown = wanted and is_shown() and sys.stderr is not None and sys.stderr.isatty()
    were_drawn = not hub.utils.are_progress_bars_disabled()
    level = hub.logging.get_verbosity()
    hub.logging.set_verbosity(logging.CRITICAL)
    _draw_bars(hub, shown)
    try:
        yield
    finally:
        hub.logging.set_verbosity(level)
        _draw_bars(hub, were_drawn)


def _draw_bars(hub: Any, wanted: bool) -> None:
    """Let bars be drawn or not. Where the user's environment says it, that stays, which is warned
    of by huggingface_hub and not worth a line.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        act = hub.utils.enable_progress_bars if wanted else hub.utils.disable_progress_bars
        act()
