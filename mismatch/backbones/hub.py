"""A backbone's files from a model hub, checked as a folder of a stranger's is: before its weights
are downloaded, and before anything of it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mismatch.backbones.model_folders import check_self_contained
from mismatch.errors import BackboneError, CheckpointError
from mismatch.io.reading import check_model_folder, read_json
from mismatch.runtime.hub import HubName, Snapshot, fetch, small_files

__all__ = ["fetch_backbone", "fetch_small", "pinned", "transformers_weights"]

# single file, and the index of one in parts, in the order in which transformers looks for them
WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)

Weights = Callable[[Path, Sequence[str]], list[str]]


def fetch_backbone(reference: str, model_id: str, family: str, weights: Weights) -> Snapshot:
    """Return the files of `NAME` or `NAME@REVISION` on the hub, in its cache: configurations,
    tokenizer and what `weights(folder, names)` chooses of the names of its files.

    `model_id`: what the user asked for. BackboneError for what is not to be had, and for one whose
    files name others elsewhere; MachineError for a full disk.
    """

    def choose(folder: Path, names: Sequence[str]) -> list[str]:
        check_model_folder(folder)
        check_self_contained(folder, family, model_id)
        return weights(folder, names)

    try:
        snapshot = fetch(HubName.of(reference), small_files, choose)
        check_model_folder(snapshot.folder)
    except CheckpointError as error:
        raise BackboneError(f"{family}: {error}") from error
    return snapshot


def fetch_small(reference: str, family: str, needed: Sequence[str]) -> Path:
    """Return the folder of a repository's configurations and tokenizer, without weights.
    BackboneError where it has none of the files that are needed.
    """

    def choose(_folder: Path, names: Sequence[str]) -> list[str]:
        return [name for name in needed if name in names][:1]

    try:
        folder = fetch(HubName.of(reference), small_files, choose).folder
        check_model_folder(folder)
    except CheckpointError as error:
        raise BackboneError(f"{family}: {error}") from error
    return folder


def transformers_weights(folder: Path, names: Sequence[str]) -> list[str]:
    """Return the files of weights that transformers would read, of the names of a repository's
    files; none where there are none.
    """
    for single, index in WEIGHTS:
        if single in names:
            return [single]
        if index in names:
            content = read_json(folder / index)
            parts = content.get("weight_map") if isinstance(content, dict) else None
            return sorted(set(parts.values())) if isinstance(parts, dict) else []
    return []


def pinned(model_id: str, commit: str) -> str | None:
    """Return a model's name with its commit; None for one that comes from no hub, or has a
    revision already.
    """
    return f"{model_id}@{commit}" if commit and "@" not in model_id else None
