"""The score that a model folder carries, written back: another calibration or threshold changes one
JSON file and no weights.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mismatch.errors import CheckpointError, InputError
from mismatch.io.atomic import SEAL, is_sealed, sealed, write_json
from mismatch.io.reading import parse_json, read_text
from mismatch.runtime.bundle import MANIFEST
from mismatch.runtime.hub_models import refuse_hub_cache
from mismatch.specs import ScoreSpec

__all__ = ["has_score", "read_score", "score_file", "weights_digest", "write_score"]

CHECKPOINT = "mismatch.json"  # as training/checkpoint.py names it
FORMAT_VERSION = 1  # that of both files
WEIGHTS = (".safetensors", ".bin", ".pt")  # how files of weights end


def has_score(folder: str | Path) -> bool:
    """Return whether a folder is a bundle or a checkpoint."""
    return any((Path(folder) / name).is_file() for name in (MANIFEST, CHECKPOINT))


def score_file(folder: str | Path) -> Path:
    """Return the file of a bundle or a checkpoint that holds its score; CheckpointError where the
    folder is neither.
    """
    for name in (MANIFEST, CHECKPOINT):
        if (path := Path(folder) / name).is_file():
            return path
    raise CheckpointError(
        f"{folder} is neither a checkpoint nor a bundle, so nothing can be stored in it; calibrate"
        " a raw backbone with `output`, or pass the folder of a trained model"
    )


def write_score(folder: str | Path, score: ScoreSpec) -> None:
    """Replace a checkpoint's or a bundle's calibration and thresholds, at once or not at all."""
    refuse_hub_cache(folder)
    path = score_file(folder)
    write_json(path, sealed(_record(path) | {"score": score.to_dict()}))


def read_score(folder: str | Path) -> ScoreSpec:
    """Return the score that a checkpoint or a bundle carries."""
    path = score_file(folder)
    try:
        return ScoreSpec.from_dict(_record(path)["score"])
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise CheckpointError(f"{path} is damaged ({error!r}); copy the model again") from error


def weights_digest(folder: str | Path) -> str | None:
    """Return a hash, hex, of all that a model's folder says of the model but its score: another one
    is another model. None where it says nothing.
    """
    try:
        path = score_file(folder)
        record = _record(path)
    except (CheckpointError, OSError, ValueError):  # the engine puts it into words
        return None
    contents = {name: value for name, value in record.items() if name not in ("score", SEAL)}
    if not contents.get("files"):  # the first versions wrote no hashes of the files
        contents["files"] = _weights_files(path.parent)
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _weights_files(folder: Path) -> list[tuple[str, int, int]]:
    """Return the name, bytes and time of each file of weights."""
    files = sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS)
    stats = [(path.name, path.stat()) for path in files]
    return [(name, about.st_size, about.st_mtime_ns) for name, about in stats]


def _record(path: Path) -> dict[str, Any]:
    """Return what a score file says; CheckpointError where it can't be read as one."""
    try:
        data = parse_json(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} can't be read ({error}); copy the model again") from error
    if (
        not isinstance(data, dict)
        or data.get("format_version") != FORMAT_VERSION
        or "score" not in data
    ):
        raise CheckpointError(
            f"{path} is of another format; upgrade mismatch-clip, or train or export the model"
            " again"
        )
    if not is_sealed(data):
        raise CheckpointError(
            f"{path} differs from its own checksum: damaged or changed by hand; copy the model"
            " again"
        )
    return data
