"""A bundle on disk: three graphs, a tokenizer and a manifest that knows the hash of each file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mismatch.errors import CheckpointError, InputError
from mismatch.files import is_sealed, read_json, sealed, sha256_file, write_json
from mismatch.retries import reason
from mismatch.specs import HeadSpec, ImageSpec, ScoreSpec, TextSpec

__all__ = [
    "FORMAT_VERSION",
    "GRAPHS",
    "MANIFEST",
    "PARITY",
    "TOKENIZER",
    "Manifest",
    "looks_like_bundle",
    "read_bundle",
    "seen_by",
    "write_manifest",
]

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
PARITY = "parity.json"
GRAPHS = ("image_encoder.onnx", "text_encoder.onnx", "head.onnx")
NEEDED = (*GRAPHS, TOKENIZER)


@dataclass(frozen=True)
class Manifest:
    """Everything about a bundle but its graphs."""

    backbone: dict[str, Any]  # family, model_id, distribution, version, api_version
    image_spec: ImageSpec
    text_spec: TextSpec
    head: HeadSpec
    score: ScoreSpec
    precision: str  # of the weights: fp32
    opset: int
    files: dict[str, str] = field(default_factory=dict)  # name → sha256, hex
    mismatch_version: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "format_version": FORMAT_VERSION,
            "mismatch_version": self.mismatch_version,
            "backbone": self.backbone,
            "image_spec": self.image_spec.to_dict(),
            "text_spec": self.text_spec.to_dict(),
            "head": self.head.to_dict(),
            "score": self.score.to_dict(),
            "precision": self.precision,
            "opset": self.opset,
            "files": self.files,
        }


def seen_by(head: HeadSpec) -> tuple[str, str]:
    """Which output of the image graph and which of the text graph the head takes, by their names."""
    return "image_features" if head.image_features else "image_embedding", "text_features" if head.text_features else "text_embedding"


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write manifest.json over the files that lie in `folder`, hashing each; returns the manifest as written."""
    hashes = {file.name: sha256_file(file) for file in sorted(folder.iterdir()) if file.name != MANIFEST}
    complete = Manifest(**{**vars(manifest), "files": hashes})
    write_json(folder / MANIFEST, sealed(complete.to_dict()))
    return complete


def read_bundle(folder: Path) -> Manifest:
    """Read and check a bundle; raises CheckpointError for another format, a missing file or one whose hash differs."""
    data = _read_manifest(folder)
    try:
        tokenizer = _checked_files(folder, data["files"])
        return Manifest(
            backbone=data["backbone"],
            image_spec=ImageSpec.from_dict(data["image_spec"]),
            text_spec=TextSpec.from_dict(data["text_spec"], tokenizer_json=tokenizer),
            head=HeadSpec.from_dict(data["head"]),
            score=ScoreSpec.from_dict(data["score"]),
            precision=data["precision"],
            opset=data["opset"],
            files=data["files"],
            mismatch_version=data["mismatch_version"],
        )
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise CheckpointError(f"{folder / MANIFEST} is incomplete or damaged ({error!r}); export the bundle again") from error


def looks_like_bundle(folder: Path) -> bool:
    """Whether manifest.json is one of ours, of any format version; many tools call a file so."""
    try:
        data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and {"format_version", "image_spec", "text_spec", "files"} <= set(data)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        data = read_json(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; export the bundle again") from error
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path} has format_version {version!r}, this mismatch reads {FORMAT_VERSION}; upgrade mismatch-clip or export the bundle again")
    if not is_sealed(data):
        raise CheckpointError(f"{path} differs from its own checksum: damaged or changed by hand; copy or export the bundle again")
    return dict(data)


def _checked_files(folder: Path, hashes: dict[str, str]) -> str:
    """Compare every file with its hash; returns the tokenizer's text."""
    for name in sorted({*NEEDED, *hashes}):
        if Path(name).name != name or name not in hashes:
            raise CheckpointError(f"{folder / MANIFEST} names no hash for {name}, or a path outside the bundle; export the bundle again")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing from the bundle; copy the folder again, whole")
        if _sha256(folder / name) != hashes[name]:
            raise CheckpointError(f"{folder / name} differs from the manifest's sha256: damaged or changed; copy or export the bundle again")
    return (folder / TOKENIZER).read_text(encoding="utf-8")


def _sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {reason(error)}") from error
