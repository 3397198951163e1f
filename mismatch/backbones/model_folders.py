"""Folders of models, which may be a stranger's: reading one runs no code of its own, asks nobody,
and opens no file outside of it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from mismatch.errors import BackboneError, CheckpointError
from mismatch.io.reading import read_json

__all__ = ["OWN_CODE", "check_self_contained", "no_code_of_models"]

CONFIGS = (
    *("config.json", "open_clip_config.json", "generation_config.json"),
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
)
TOKENIZER = "tokenizer_config.json"  # names its author's files too, which are not read
ADAPTER = "adapter_config.json"
# keys of configurations whose values name something to load
NAMES = ("architecture", "backbone")
# keys that choose a kernel; any other name is looked up on a hub, or builds one
KERNELS = ("attn_implementation", "experts_implementation")
BUILT_IN = frozenset({"", "eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm"})
MORE_FILES = ("configuration_files", "fast_tokenizer_files")  # keys of files that are read instead
WEIGHTS = "transformers_weights"  # key of the weights' file
WEIGHT_FILES = (".safetensors", ".bin", ".index.json")
# how keys end that a class of transformers may open or download by itself
FILE_KEYS = re.compile(r"(?:^|_)(?:files?|path|dir|url|repo|repo_id)$")
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
    for index in sorted(folder.rglob("*.index.json")):
        weights = _object(index, name).get("weight_map")
        for file in weights.values() if isinstance(weights, Mapping) else ():
            if not _is_plain(file):
                raise BackboneError(f"{name}: {index.name} names '{file}', {ELSEWHERE}")
    for config in (*CONFIGS, TOKENIZER):
        if (folder / config).is_file():
            content = _object(folder / config, name)
            places = _more_files(content) if config == TOKENIZER else _elsewhere(content)
            outside = next(places, None)
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
    yield from _more_files(config)
    for key in KERNELS:
        for chosen in (key, f"_{key}", f"{key}_internal", f"_{key}_internal"):
            yield from (f"'{value}' ({chosen})" for value in _kernels(config.get(chosen)))
    weights = config.get(WEIGHTS)
    if weights is not None and not (_is_plain(weights) and str(weights).endswith(WEIGHT_FILES)):
        yield f"'{weights}' ({WEIGHTS})"
    for key, value in config.items():
        if FILE_KEYS.search(key) and not key.endswith("name_or_path"):
            yield from (f"'{item}' ({key})" for item in _texts(value) if item)
    if config.get("use_pretrained_backbone") is True:
        yield "trained weights (use_pretrained_backbone)"
    for key in ARGUMENTS:
        arguments = config.get(key)
        for name, value in arguments.items() if isinstance(arguments, Mapping) else ():
            if name.startswith(PLACES) or (isinstance(value, str) and _is_place(value)):
                yield f"'{value}' ({name})"


def _more_files(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what stands in place of a file that is checked."""
    for key in MORE_FILES:
        if config.get(key):
            yield f"'{next(_texts(config[key]), config[key])}' ({key})"


def _kernels(value: object) -> Iterator[str]:
    """Yield what is no kernel of torch or transformers: one name, or one for each part."""
    yield from (name for name in _texts(value) if name not in BUILT_IN)


def _texts(value: object) -> Iterator[str]:
    """Yield the texts of a value, which may be a list or a mapping of some."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _is_plain(name: object) -> bool:
    """Return whether it is the name of a file, in no other folder."""
    return (
        isinstance(name, str) and name != ".." and PurePath(name).name == name and "\\" not in name
    )


def _is_place(name: str) -> bool:
    """Return whether a name is a path, a URL or a repository, and not that of an architecture."""
    return any(sign in name for sign in "/\\:")
