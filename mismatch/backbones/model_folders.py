"""Folders of models, which may be a stranger's: reading one runs no code of its own, asks nobody,
and opens no file outside of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from mismatch.errors import BackboneError, CheckpointError
from mismatch.io.reading import read_json

__all__ = ["OWN_CODE", "check_self_contained", "no_code_of_models"]

CONFIGS = ("config.json", "open_clip_config.json")
ADAPTER = "adapter_config.json"
# keys of configurations whose values name something to load
NAMES = ("architecture", "attn_implementation", "_attn_implementation", "backbone")
ARGUMENTS = ("model_args", "backbone_kwargs")  # keys of what is handed to timm as it stands
PLACES = ("cache_dir", "checkpoint_path", "pretrained")  # how keys of these begin that load
ELSEWHERE = "which lies outside of it; a model's folder holds all of the model"

OWN_CODE = "it brings code of its own, which is never run"  # where `no_code_of_models` refuses

_lock = threading.Lock()
_asking: list[int] = []  # transformers' own time-out, once for each block that is open


def check_self_contained(folder: Path, family: str, name: str | None = None) -> None:
    """Raise BackboneError for a folder whose files name others outside of it, or on a model hub:
    weights of an index, towers of timm, attention kernels, an adapter's base model. `name`: what
    the user calls it, where that is not its path.
    """
    name = f"{family}: '{folder if name is None else name}'"
    if (folder / ADAPTER).is_file():
        raise BackboneError(
            f"{name} holds an adapter ({ADAPTER}) of a model that lies elsewhere; merge them and"
            " save the whole model"
        )
    for index in sorted(folder.glob("*.index.json")):
        weights = _object(index, name).get("weight_map")
        for file in weights.values() if isinstance(weights, Mapping) else ():
            if file == ".." or PurePath(str(file)).name != file or "\\" in str(file):
                raise BackboneError(f"{name}: {index.name} names '{file}', {ELSEWHERE}")
    for config in CONFIGS:
        if (folder / config).is_file():
            outside = next(_elsewhere(_object(folder / config, name)), None)
            if outside is not None:
                raise BackboneError(f"{name}: {config} names {outside}, {ELSEWHERE}")


@contextmanager
def no_code_of_models() -> Iterator[None]:
    """Within it transformers refuses, by ValueError, code that a model brings with it where nobody
    has said whether to trust it. By itself it asks on the terminal, and waits.
    """
    from transformers import dynamic_module_utils

    with _lock:
        _asking.append(dynamic_module_utils.TIME_OUT_REMOTE_CODE)
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        with _lock:
            earliest = _asking[0]
            _asking.pop()
            if not _asking:
                dynamic_module_utils.TIME_OUT_REMOTE_CODE = earliest


def _object(path: Path, name: str) -> Mapping[str, Any]:
    try:
        content = read_json(path)
    except CheckpointError as error:
        raise BackboneError(f"{name}: {error}") from error
    return content if isinstance(content, Mapping) else {}


def _elsewhere(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a configuration, or one within it, would load from elsewhere."""
    open_: list[Any] = [config]
    while open_:
        part = open_.pop()
        if isinstance(part, list):
            open_ += part
        if not isinstance(part, Mapping):
            continue
        open_ += part.values()
        yield from _of_one(part)


def _of_one(config: Mapping[str, Any]) -> Iterator[str]:
    for key in NAMES:
        if isinstance(value := config.get(key), str) and _is_place(value):
            yield f"'{value}' ({key})"
    if config.get("use_pretrained_backbone") is True:
        yield "trained weights (use_pretrained_backbone)"
    for key in ARGUMENTS:
        arguments = config.get(key)
        for name, value in arguments.items() if isinstance(arguments, Mapping) else ():
            if name.startswith(PLACES) or (isinstance(value, str) and _is_place(value)):
                yield f"'{value}' ({name})"


def _is_place(name: str) -> bool:
    """Return whether a name is a path, a URL or a repository, and not that of an architecture."""
    return any(sign in name for sign in "/\\:")
