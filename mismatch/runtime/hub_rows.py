"""Rows of a dataset on a hub: `hf://datasets/OWNER/NAME` as files of the hub's cache, which are
read as any others. Only files of rows are downloaded, and nothing of them is run.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mismatch.data.dataset_card import LARGEST_CARD, Subset, card_subsets
from mismatch.data.dataset_layout import IMAGES, SHARDED, chosen_files, files_pattern
from mismatch.errors import CheckpointError, InputError, MissingExtraError
from mismatch.io.atomic import write_json
from mismatch.io.hub_urls import HUB_SCHEME, HubRows, remember_hub_rows
from mismatch.io.reading import read_json
from mismatch.runtime.hub import (
    COMMIT,
    TIMEOUT,
    WORTH_A_BAR,
    HubName,
    check_room,
    hub_bars,
    hub_cache,
    hub_library,
    remember_commit,
    remembered_commit,
    repository_folder,
)
from mismatch.runtime.hub_errors import hub_errors, hub_host, is_unreachable

__all__ = ["hub_rows"]

URL = re.compile(
    r"hf://datasets/([^/@]+/[^/@]+)(?:@(refs/(?:convert|pr)/[^/]+|[^/]+))?(?:/(.+?))?/*"
)
FORM = "hf://datasets/OWNER/NAME, with @REVISION and /SPLIT, /FILE or /FOLDER behind it"
# a name that is safe in a path, and in what names several files
SAFE_NAME = re.compile(r"[^\x00-\x1f\x7f\\{},]{1,512}")
MAX_FILES = 100_000  # of a repository
SHOWN = 4  # files in one line
CARD = "README.md"
LISTINGS = ".mismatch"  # folder next to a repository's snapshots: which files each commit has

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Listing:
    """The files of a repository at one commit."""

    commit: str
    sizes: Mapping[str, int | None]  # name → bytes; None: the hub does not say


def hub_rows(url: str) -> HubRows:
    """Return the files of rows that `hf://datasets/OWNER/NAME[@REVISION][/PART]` names, downloaded
    where the cache lacks them. One line says the commit and the files.

    Where the hub can't be reached, files that are whole in the cache are taken, which is logged.
    InputError where they are not to be had, MissingExtraError without the extra [datasets],
    MachineError where the disk takes no more.
    """
    name, part, repository_url = _parsed(url)
    try:
        hub = hub_library()
    except MissingExtraError as error:
        raise MissingExtraError("reading rows of a hub", "datasets") from error
    shown = f"datasets/{name.repository}"
    try:
        with hub_errors(shown, name.revision, hub_cache()):
            listing = _listing(hub, name)
            files = _chosen(hub, name, listing, part, repository_url)
            _download(hub, name, listing, files)
            _store(name, listing)
    except CheckpointError as error:
        raise InputError(str(error)) from error
    _say(url, listing, files)
    folder = _folder(name, listing)
    rows = HubRows(repository_url, listing.commit, folder, folder / files_pattern(files))
    remember_hub_rows(url, rows)
    return rows


def _parsed(url: str) -> tuple[HubName, str, str]:
    """Return what a URL names: the repository, the part of it, and the repository's URL."""
    parts = URL.fullmatch(f"{HUB_SCHEME}{url[len(HUB_SCHEME) :]}")
    if parts is None:
        raise InputError(f"{url!r} names no rows on a hub; write {FORM}")
    repository, revision, part = parts[1], parts[2], parts[3] or ""
    if ".." in part.split("/") or "//" in part:
        raise InputError(f"{url!r} has .. or // behind the repository's name; write {FORM}")
    try:
        name = HubName.of(repository)
        if revision:
            name = HubName.of(f"{repository}@{revision.replace('%2F', '/').replace('%2f', '/')}")
    except CheckpointError as error:
        raise InputError(f"{url!r} names no rows on a hub: {error}; write {FORM}") from error
    suffix = f"@{revision}" if revision else ""
    named = HubName(name.repository, name.revision, "dataset")
    return named, part, f"{HUB_SCHEME}datasets/{repository}{suffix}"


def _folder(name: HubName, listing: _Listing) -> Path:
    return repository_folder(name) / "snapshots" / listing.commit


def _listing(hub: Any, name: HubName) -> _Listing:
    """Return a repository's files: of a commit as they were written down, else as the hub says; as
    they were written down too where it can't be asked.
    """
    if name.is_commit and (listing := _stored(name)) is not None:
        return listing
    try:
        return _asked(hub, name)
    except CheckpointError:
        raise
    except Exception as error:
        listing = _stored(name)
        if listing is None or not (is_unreachable(error)):
            raise
        if not _is_offline():
            logger.info(
                "%s can't be reached; the cache's copy of 'datasets/%s' is used, of commit %s",
                hub_host(),
                name,
                listing.commit,
            )
        return listing


def _asked(hub: Any, name: HubName) -> _Listing:
    """Ask the hub."""
    if _is_offline():
        raise _offline_error()
    about = hub.HfApi().dataset_info(
        name.repository, revision=name.revision, files_metadata=True, timeout=TIMEOUT
    )
    if about.id and about.id != name.repository:
        logger.warning(
            "'datasets/%s' is called '%s' on the hub now; write the new name",
            name.repository,
            about.id,
        )
    sizes = {file.rfilename: file.size for file in about.siblings or []}
    if not COMMIT.fullmatch(about.sha or "") or len(sizes) > MAX_FILES:
        raise CheckpointError(
            f"'datasets/{name}' has no commit on {hub_host()}, or more than {MAX_FILES:,} files"
        )
    return _Listing(about.sha, sizes)


def _listing_file(name: HubName, commit: str) -> Path:
    return repository_folder(name) / LISTINGS / f"{commit}.json"


def _stored(name: HubName) -> _Listing | None:
    """Return what was written down of a repository; None where nothing was."""
    commit = name.revision if name.is_commit else remembered_commit(name)
    if commit is None:
        return None
    try:
        sizes = read_json(_listing_file(name, commit))
    except CheckpointError:
        return None
    if not isinstance(sizes, dict):
        return None
    if not all(size is None or isinstance(size, int) for size in sizes.values()):
        return None
    return _Listing(commit, sizes)


def _store(name: HubName, listing: _Listing) -> None:
    """Write down which files a commit has, and which commit the revision is, for when the hub is
    not asked: what the cache has of them may be a part.
    """
    file = _listing_file(name, listing.commit)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, dict(listing.sizes))
    remember_commit(name, listing.commit)


def _chosen(hub: Any, name: HubName, listing: _Listing, part: str, url: str) -> list[str]:
    """Return the files of rows that are meant."""
    names = list(listing.sizes)
    files = chosen_files(names, part, _subsets(hub, name, listing, part), url)
    if unsafe := [file for file in files if not _is_safe(file)]:
        raise InputError(
            f"{url} has a file {unsafe[0][:200]!r}, whose name is not read: signs such as {{}} and"
            " the comma stand for several files"
        )
    needs_arrow = files[0].lower().endswith(SHARDED) and not files[0].lower().endswith(".tar")
    if needs_arrow and find_spec("pyarrow") is None:
        raise MissingExtraError("reading rows of a hub", "datasets")
    return files


def _is_safe(file: str) -> bool:
    parts = file.split("/")
    return SAFE_NAME.fullmatch(file) is not None and not {"", ".", ".."} & set(parts)


def _subsets(hub: Any, name: HubName, listing: _Listing, part: str) -> list[Subset]:
    """Return what README.md declares; nothing where a file is named anyway."""
    if part in listing.sizes or CARD not in listing.sizes:
        return []
    if (listing.sizes[CARD] or 0) > LARGEST_CARD:
        logger.warning("'datasets/%s': its %s is too large to be read", name, CARD)
        return []
    _download(hub, name, listing, [CARD])
    with (_folder(name, listing) / CARD).open("rb") as file:
        text = file.read(LARGEST_CARD).decode("utf-8", "replace")
    subsets = card_subsets(text)
    if subsets is None:
        logger.warning(
            "'datasets/%s': the configs in its %s have a form that is not read; files are found by"
            " their names",
            name,
            CARD,
        )
    return subsets or []


def _download(hub: Any, name: HubName, listing: _Listing, files: list[str]) -> None:
    """Download what the cache lacks."""
    folder = _folder(name, listing)
    missing = [file for file in files if not _is_whole(folder / file, listing.sizes[file])]
    if not missing:
        return
    if _is_offline():
        raise _offline_error()
    size = sum(listing.sizes[file] or 0 for file in missing)
    check_room(size)
    is_large = size >= WORTH_A_BAR
    if is_large:
        logger.info("downloading %d files of datasets/%s, %.1f MB", len(missing), name, size / 1e6)
    with hub_bars(hub, wanted=is_large):
        for file in missing:
            hub.hf_hub_download(
                name.repository,
                file,
                repo_type="dataset",
                revision=listing.commit,
                etag_timeout=TIMEOUT,
            )


def _is_whole(path: Path, size: int | None) -> bool:
    try:
        there = path.stat().st_size
    except OSError:
        return False
    return size is None or there == size


def _say(url: str, listing: _Listing, files: list[str]) -> None:
    """Log the commit and the files that are read."""
    size = sum(listing.sizes[file] or 0 for file in files)
    more = f" and {len(files) - SHOWN:,} more" if len(files) > SHOWN else ""
    count = "1 file" if len(files) == 1 else f"{len(files):,} files"
    logger.info(
        "%s: commit %s, %s, %.1f MB: %s%s",
        url,
        listing.commit,
        count,
        size / 1e6,
        ", ".join(files[:SHOWN]),
        more,
    )
    has_images = any(name.lower().endswith(IMAGES) for name in listing.sizes)
    if has_images and not files[0].lower().endswith(SHARDED):
        logger.warning(
            "%s: the repository's files of images are not downloaded; paths in its rows are of this"
            " machine",
            url,
        )


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _offline_error() -> Exception:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return OfflineModeIsEnabled("HF_HUB_OFFLINE")
