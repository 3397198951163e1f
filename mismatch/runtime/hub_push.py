"""A model to a hub: its own files and no others, checked, without the paths of this machine, in one
commit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from mismatch.errors import CheckpointError, InputError
from mismatch.io.atomic import finite, is_sealed, sealed, sha256_file
from mismatch.io.reading import check_regular, read_json
from mismatch.io.retries import reason
from mismatch.runtime.bundle import MANIFEST, PARITY
from mismatch.runtime.card_file import CARD, published_card
from mismatch.runtime.hub import HubName, hub_bars, hub_cache, hub_library
from mismatch.runtime.hub_errors import hub_errors, hub_page, pushing
from mismatch.runtime.hub_models import CHECKPOINT, STATS, is_in_hub_cache, listed_files

__all__ = ["PushOptions", "Pushed", "push_folder"]

BESIDE = re.compile(r"(LICEN[CS]E|NOTICE)(\.(txt|md))?", re.IGNORECASE)  # that go along
# options of training that name places of the machine, or services of its user
PRIVATE = ("image_base_path", "output_dir", "cache", "track", "run_name", "resume", "num_workers")
NAMES = ("train_csv", "val_csv", "model_name", "backbone")  # of which the last part is kept
# keys of transformers' files that say from where they were loaded
PLACES = ("_name_or_path", "name_or_path", "tokenizer_file", "vocab_file", "merges_file")
PLAIN_ID = re.compile(r"(hf-hub:)?\w[\w.+-]*(/[\w.-]+)?(@[\w./-]+)?", re.ASCII)
MESSAGE = "Upload a model of mismatch"

Content = Path | bytes


class PushOptions(TypedDict, total=False):
    """How a model is pushed; see `mismatch.push`."""

    private: bool  # whether a new repository is private; False
    revision: str | None  # branch; None: main
    message: str | None  # of the commit
    dry_run: bool  # only say what would be pushed; False


@dataclass(frozen=True)
class Pushed:
    """What was pushed, and where it is."""

    repository: str  # OWNER/NAME
    commit: str  # 40 hex digits; "" where nothing was pushed
    url: str  # of the repository's page
    files: tuple[str, ...]
    bytes: int  # of all files


def push_folder(
    folder: str | Path | None,
    name: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
) -> Pushed:
    """Push a checkpoint or a bundle; see `mismatch.push`."""
    if folder is None:
        raise InputError("a model that was made of an engine has no folder to push")
    for option, value in (("revision", revision), ("message", message)):
        _check_text(option, value)
    target = _target(name, revision)
    hub = hub_library()
    contents = _contents(Path(folder), target.repository)
    size = sum(_size(content) for content in contents.values())
    commit = ""
    if not dry_run:
        with hub_errors(target.repository, None, hub_cache()), pushing(target.repository):
            commit = _push(hub, target, contents, private, message or MESSAGE)
    page = hub_page(target.repository)
    return Pushed(target.repository, commit, page, tuple(sorted(contents)), size)


def _check_text(option: str, value: object) -> None:
    """Raise InputError for a value that is neither a text nor None."""
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise InputError(f"`{option}` is {value!r}; a text is needed", option=option)


def _target(name: str, revision: str | None) -> HubName:
    if not isinstance(name, str) or "@" in name or "/" not in name:
        raise InputError(
            f"`name` is {name!r}; OWNER/NAME is needed, and a branch stands in `revision`",
            option="name",
        )
    try:
        return HubName.of(name if revision is None else f"{name}@{revision}")
    except CheckpointError as error:
        raise InputError(str(error), option="name") from error


# --- what is pushed


def _contents(folder: Path, repository: str) -> dict[str, Content]:
    """Return the files of a model by their names: those that it lists, whose hashes are compared,
    what describes them, and its card and licence.
    """
    described = _described(folder)
    record = read_json(described)
    if not isinstance(record, dict) or not is_sealed(record):
        raise CheckpointError(
            f"{described} differs from its own checksum: damaged or changed by hand; copy the model"
            " again"
        )
    contents: dict[str, Content] = {}
    hashes = dict(record.get("files") or {})
    for file in listed_files(record, str(described)):
        _check_hash(folder / file, hashes[file])
        contents[file] = folder / file
    for file, content in _rewritten(folder, contents):
        contents[file] = content
        hashes[file] = hashlib.sha256(content).hexdigest()
    contents[described.name] = _json(sealed(_public(record) | {"files": hashes}))
    if (folder / STATS).is_file() and described.name == CHECKPOINT:
        contents[STATS] = _json(_public(read_json(folder / STATS)))
    contents |= _beside(folder, contents)
    card = published_card(folder, repository, links=is_in_hub_cache(folder))
    if card is not None and CARD not in hashes:
        contents[CARD] = card.encode()
    return contents


def _described(folder: Path) -> Path:
    for file in (MANIFEST, CHECKPOINT):
        if (folder / file).is_file():
            return folder / file
    nested = sorted(path.parent.name for path in folder.glob(f"*/{CHECKPOINT}"))
    remedy = f"push one of the models in it: {', '.join(nested)}" if nested else "push one of these"
    raise CheckpointError(f"{folder} is neither a checkpoint nor a bundle; {remedy}")


def _check_hash(path: Path, digest: object) -> None:
    try:
        check_regular(path)
        same = sha256_file(path) == digest
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {reason(error)}") from error
    if not same:
        raise CheckpointError(
            f"{path} differs from its sha256: damaged or changed; copy or export the model again"
        )


def _rewritten(folder: Path, contents: Mapping[str, Content]) -> Iterator[tuple[str, bytes]]:
    """Yield listed files that name paths of this machine, without them."""
    for file in contents:
        if "/" in file or not file.endswith(".json") or file == "tokenizer.json":
            continue
        before = read_json(folder / file)
        after = _without_places(before, file)
        if after != before:
            yield file, _json(after)


def _without_places(content: Any, file: str) -> Any:
    """Return what a file says without where it lay: transformers writes down from where a model or
    a tokenizer was loaded, and parity.json which rows were compared.
    """
    if not isinstance(content, dict):
        return content
    keys = ("source",) if file == PARITY else PLACES
    names = {key: _last_part(content[key]) for key in keys if isinstance(content.get(key), str)}
    parts = {
        key: _without_places(value, file)
        for key, value in content.items()
        if isinstance(value, dict)
    }
    return content | parts | names


def _public(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model says of itself without the paths of the machine that it was trained
    on.
    """
    public = dict(record)
    for key in ("train", "config"):
        if isinstance(public.get(key), dict):
            public[key] = {
                name: _last_part(value) if name in NAMES and isinstance(value, str) else value
                for name, value in public[key].items()
                if name not in PRIVATE
            }
    backbone = public.get("backbone")
    if isinstance(backbone, dict) and isinstance(backbone.get("model_id"), str):
        public["backbone"] = backbone | {"model_id": _last_part(backbone["model_id"])}
    return public


def _last_part(place: str) -> str:
    """Return a name as it is, and of a path or a URL its last part."""
    if PLAIN_ID.fullmatch(place) and not Path(place).exists():
        return place
    plain = place.partition("?")[0] if "://" in place else place
    return re.split(r"[/\\]", plain.rstrip("/\\"))[-1]


def _beside(folder: Path, contents: Mapping[str, Content]) -> dict[str, Content]:
    """Return the licence and the notice that lie next to a model; no links."""
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if BESIDE.fullmatch(path.name)
        and path.name not in contents
        and path.is_file()
        and not path.is_symlink()
    }


def _json(data: Any) -> bytes:
    return (json.dumps(finite(data), indent=2, ensure_ascii=False) + "\n").encode()


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


# --- how


def _push(
    hub: Any, target: HubName, contents: Mapping[str, Content], private: bool, message: str
) -> str:
    """Make the repository, if need be, and one commit; return the commit."""
    api = hub.HfApi()
    with hub_bars(hub):
        api.create_repo(target.repository, private=private or None, exist_ok=True)
        about = api.model_info(target.repository)
        if private and not about.private:
            raise CheckpointError(
                f"'{target.repository}' is there already and is public; make it private at"
                f" {hub_page(target.repository)}/settings first, or leave `private` out"
            )
        if target.revision is not None:
            api.create_branch(target.repository, branch=target.revision, exist_ok=True)
        there = api.list_repo_files(target.repository, revision=target.revision)
        operations = [
            hub.CommitOperationAdd(path_in_repo=file, path_or_fileobj=content)
            for file, content in sorted(contents.items())
        ]
        # of another model, by which this one would not be seen
        operations += [
            hub.CommitOperationDelete(path_in_repo=file)
            for file in (MANIFEST, CHECKPOINT)
            if file in there and file not in contents
        ]
        done = api.create_commit(
            target.repository, operations, commit_message=message, revision=target.revision
        )
    return str(done.oid)
