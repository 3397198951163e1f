"""A bundle on disk: three graphs, a tokenizer and a manifest that knows the hash of each file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mismatch.errors import CheckpointError, InputError
from mismatch.io.atomic import is_sealed, sealed, sha256_file, write_json
from mismatch.io.reading import check_regular, read_bytes, read_json
from mismatch.io.retries import reason
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
    "read_manifest",
    "seen_by",
    "write_manifest",
]

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
PARITY = "parity.json"
GRAPHS = ("image_encoder.onnx", "text_encoder.onnx", "head.onnx")
NEEDED = (*GRAPHS, TOKENIZER)
# that may lie next to them: no code opens them
UNHASHED = {
    "readme.md",
    "license",
    "license.txt",
    "license.md",
    "notice",
    "thumbs.db",
    "desktop.ini",
}
# bytes; the largest in use, of 256,000 words in many scripts, have 35 MB
LARGEST_TOKENIZER = 128 * 2**20
MAX_NESTING = 20  # of what a backbone says of itself
SHA256 = re.compile(r"[0-9a-f]{64}")


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
        """Return plain JSON types."""
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
    """Return which output of the image graph and which of the text graph the head takes, by their
    names.
    """
    return (
        "image_features" if head.image_features else "image_embedding",
        "text_features" if head.text_features else "text_embedding",
    )


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write manifest.json over the files that lie in `folder`, hashing each; returns the manifest
    as written.
    """
    hashes = {
        file.name: sha256_file(file) for file in sorted(folder.iterdir()) if file.name != MANIFEST
    }
    complete = Manifest(**{**vars(manifest), "files": hashes})
    write_json(folder / MANIFEST, sealed(complete.to_dict()))
    return complete


def read_bundle(folder: Path) -> Manifest:
    """Read and check a bundle; raises CheckpointError for another format, a missing file, one whose
    hash differs, or one that has none.
    """
    manifest = read_manifest(folder)
    for name, digest in sorted(manifest.files.items()):
        if name in GRAPHS and _sha256(folder / name) != digest:
            raise _differs(folder / name)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle as `read_bundle`, but check of the graphs only whether they are there. Who
    loads them compares what is loaded (`graph_file.read_graph`).
    """
    data = _read_manifest(folder)
    try:
        files = data["files"]
        _check_names(folder, files)
        tokenizer = _checked_files(folder, files)
        return Manifest(
            backbone=_checked_backbone(data["backbone"]),
            image_spec=ImageSpec.from_dict(data["image_spec"]),
            text_spec=TextSpec.from_dict(data["text_spec"], tokenizer_json=tokenizer),
            head=HeadSpec.from_dict(data["head"]),
            score=ScoreSpec.from_dict(data["score"]),
            precision=_of_type(data, "precision", str),
            opset=_of_type(data, "opset", int),
            files=files,
            mismatch_version=_of_type(data, "mismatch_version", str),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, InputError) as error:
        raise CheckpointError(
            f"{folder / MANIFEST} is incomplete or damaged ({error!r}); export the bundle again"
        ) from error


def looks_like_bundle(folder: Path) -> bool:
    """Return whether manifest.json is one of ours, of any format version; many tools call a file
    so.
    """
    try:
        data = read_json(folder / MANIFEST)
    except CheckpointError:
        return False
    return isinstance(data, dict) and {"format_version", "image_spec", "text_spec", "files"} <= set(
        data
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        data = read_json(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; export the bundle again") from error
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise CheckpointError(
            f"{path} has format_version {version!r}, this mismatch reads {FORMAT_VERSION}; upgrade"
            " mismatch-clip or export the bundle again"
        )
    if not is_sealed(data):
        raise CheckpointError(
            f"{path} differs from its own checksum: damaged or changed by hand; copy or export the"
            " bundle again"
        )
    return dict(data)


def _of_type(data: dict[str, Any], name: str, kind: type) -> Any:
    if not isinstance(data[name], kind) or isinstance(data[name], bool):
        raise InputError(f"{name} is no {kind.__name__}")
    return data[name]


def _checked_backbone(data: Any) -> dict[str, Any]:
    for name in ("family", "model_id"):
        _of_type(data, name, str)
    if _is_deeper(data, MAX_NESTING):
        raise InputError(f"backbone is nested more than {MAX_NESTING} times")
    return dict(data)


def _is_deeper(value: Any, levels: int) -> bool:
    """Return whether a value of JSON has objects or lists in each other at more levels."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            part
            for holder in layer
            if isinstance(holder, dict | list)
            for part in (holder.values() if isinstance(holder, dict) else holder)
        ]
    return bool(layer)


def _check_names(folder: Path, hashes: Any) -> None:
    """Check that every needed file has a hash, every hash is one, and every file in the folder has
    one. So nothing unknown lies next to a graph.
    """
    if not isinstance(hashes, dict):
        raise InputError("files is no object of hashes")
    for name in sorted({*NEEDED, *hashes}):
        if name not in hashes or not _is_plain(name):
            raise CheckpointError(
                f"{folder / MANIFEST} names no hash for {name}, or a path outside the bundle;"
                " export the bundle again"
            )
        if not isinstance(hashes[name], str) or not SHA256.fullmatch(hashes[name]):
            raise CheckpointError(
                f"{folder / MANIFEST} has no sha256 for {name}; export the bundle again"
            )
    for name in sorted(_names_in(folder)):
        if name not in hashes and not _may_lie_beside(name):
            raise CheckpointError(
                f"{folder / name} has no hash in {MANIFEST}, so it is no part of the bundle; move"
                " it elsewhere"
            )


def _is_plain(name: str) -> bool:
    """Return whether it names a file in the folder itself."""
    return Path(name).name == name and "\0" not in name and "\\" not in name and name != MANIFEST


def _may_lie_beside(name: str) -> bool:
    """Return whether a file without a hash may lie in a bundle: what systems and hubs put there,
    hidden, and what is written for people.
    """
    return name == MANIFEST or name.startswith(".") or name.lower() in UNHASHED


def _names_in(folder: Path) -> Iterable[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} can't be read: {reason(error)}") from error


def _checked_files(folder: Path, hashes: dict[str, str]) -> str:
    """Compare every file but the graphs with its hash; returns the tokenizer's text."""
    for name in sorted(hashes):
        _check_there(folder / name)
    for name in sorted({*hashes} - {*GRAPHS, TOKENIZER}):
        if _sha256(folder / name) != hashes[name]:
            raise _differs(folder / name)
    return _tokenizer(folder / TOKENIZER, hashes[TOKENIZER])


def _tokenizer(path: Path, digest: str) -> str:
    """Return its text, if it has that hash: of what is used, not of what the file was a moment
    before.
    """
    try:
        content = read_bytes(path, LARGEST_TOKENIZER)
        if hashlib.sha256(content).hexdigest() != digest:
            raise _differs(path)
        return content.decode()
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{path} is no UTF-8 text ({error}); export the bundle again"
        ) from error


def _check_there(path: Path) -> None:
    try:
        check_regular(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is missing from the bundle; copy the folder again, whole"
        ) from error
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else error
        raise CheckpointError(
            f"{path} can't be read: {why}; copy the folder again, whole"
        ) from error


def _differs(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} differs from the manifest's sha256: damaged or changed; copy or export the bundle"
        " again"
    )


def _sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {reason(error)}") from error
