"""What open_clip's models have on the hub: weights of its tags, whole repositories, tokenizers, and
configurations of text towers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from open_clip.hf_configs import arch_dict

from mismatch.backbones.hub import fetch_backbone, fetch_small
from mismatch.errors import BackboneError, CheckpointError
from mismatch.io.reading import read_json
from mismatch.runtime.hub import HubName, Snapshot, fetch
from mismatch_openclip.backbone import TEXT_CONFIG, WEIGHTS

__all__ = [
    "HUB",
    "TOKENIZERS",
    "not_had",
    "repository",
    "text_tower_options",
    "tokenizer_folder",
    "tower_folder",
    "weights_of_tag",
]

HUB = "hf-hub:"  # open_clip's own prefix
PICKLED = "open_clip_pytorch_model.bin"
# files, one of which every tokenizer of transformers has
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")


def not_had(error: Exception | str) -> BackboneError:
    """Return an error of the hub with what needs no hub."""
    return BackboneError(
        f"{error}; or give a directory that open_clip saved, ARCH/checkpoint.pt, or 'tiny', which"
        " needs no network"
    )


def repository(model_id: str) -> Snapshot:
    """Return the files of `hf-hub:OWNER/NAME` or `hf-hub:OWNER/NAME@REVISION`."""
    try:
        return fetch_backbone(model_id.removeprefix(HUB), model_id, "openclip", _weights)
    except BackboneError as error:
        raise not_had(error) from error


def weights_of_tag(
    tag: Mapping[str, Any], revision: str | None, model_id: str
) -> tuple[Path, Snapshot]:
    """Return the file of weights that a pretrained tag names, at a revision."""
    name, _, file = tag["hf_hub"].rpartition("/")
    choices = _alternatives(file) if file else [WEIGHTS, PICKLED]

    def choose(_folder: Path, names: Sequence[str]) -> list[str]:
        return [name for name in choices if name in names][:1]

    reference = name if revision is None else f"{name}@{revision}"
    try:
        snapshot = fetch(HubName.of(reference), lambda _names: (), choose)
    except CheckpointError as error:
        raise not_had(f"openclip: the weights of '{model_id}': {error}") from error
    [weights] = [file for file in choices if (snapshot.folder / file).is_file()][:1]
    return snapshot.folder / weights, snapshot


def tokenizer_folder(name: str, commit: str = "") -> Path:
    """Return the folder of a tokenizer on the hub, at a commit."""
    try:
        return fetch_small(f"{name}@{commit}" if commit else name, "openclip", TOKENIZERS)
    except BackboneError as error:
        raise not_had(error) from error


def tower_folder(folder: Path | None, config: Mapping[str, Any]) -> Path | None:
    """Return where the configuration of a text tower of transformers lies: in the model's folder,
    else in the repository that the model names. None where the text tower is open_clip's own.
    """
    name = config["text_cfg"].get("hf_model_name")
    if not name:
        return None
    if folder is not None and _is_text_tower(folder / TEXT_CONFIG):
        return folder
    try:
        return fetch_small(str(name), "openclip", [TEXT_CONFIG])
    except BackboneError as error:
        raise not_had(error) from error


def text_tower_options(config: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return options that build a text tower of transformers by the config.json of a folder."""
    text = config["text_cfg"]
    if "hf_model_name" not in text or folder is None:
        return {}
    return {"text_cfg": text | {"hf_model_name": str(folder), "hf_model_pretrained": False}}


def _weights(_folder: Path, names: Sequence[str]) -> list[str]:
    return [name for name in (WEIGHTS, PICKLED) if name in names][:1]


def _alternatives(file: str) -> list[str]:
    """Return a file of weights and, before it, the one without pickles that may lie next to it, as
    open_clip looks for them.
    """
    safe = [f"{file[:-4]}.safetensors"] if file.endswith((".bin", ".pth")) else []
    return [*([WEIGHTS] if file == PICKLED else safe), file]


def _is_text_tower(path: Path) -> bool:
    """Return whether a configuration is of a text tower, and not of a whole CLIP, which many
    repositories hold too.
    """
    config = read_json(path) if path.is_file() else None
    return isinstance(config, dict) and config.get("model_type") in arch_dict
