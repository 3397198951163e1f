"""The score that a model folder carries, written back: another calibration or threshold changes one
JSON file and no weights.
"""

from __future__ import annotations

from pathlib import Path

from mismatch.errors import CheckpointError
from mismatch.io.atomic import is_sealed, sealed, write_json
from mismatch.io.reading import parse_json, read_text
from mismatch.runtime.bundle import MANIFEST
from mismatch.specs import ScoreSpec

__all__ = ["score_file", "write_score"]

CHECKPOINT = "mismatch.json"  # as training/checkpoint.py names it
FORMAT_VERSION = 1  # of both


def score_file(folder: str | Path) -> Path:
    """Return the file of a bundle or a checkpoint that holds its score; CheckpointError where the
    folder is neither.
    """
    for name in (MANIFEST, CHECKPOINT):
        if (path := Path(folder) / name).is_file():
            return path
    raise CheckpointError(
        f"{folder} is neither a checkpoint nor a bundle, so nothing can be stored in it; pass"
        " `output`, or the folder of a trained model"
    )


def write_score(folder: str | Path, score: ScoreSpec) -> None:
    """Replace a checkpoint's or a bundle's calibration and thresholds, at once or not at all."""
    path = score_file(folder)
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
    write_json(path, sealed(data | {"score": score.to_dict()}))
