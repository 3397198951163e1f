"""What a run needs to go on exactly: the parts that have a state, and the two files next to a
checkpoint that hold it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from torch import Tensor

from mismatch.errors import CheckpointError
from mismatch.io.atomic import SEAL, is_sealed, sealed, sha256_file, write_json
from mismatch.io.reading import read_json
from mismatch.training.checkpoint import NOTE, PARTS
from mismatch.training.detector import Detector

__all__ = [
    "Note",
    "Position",
    "Stateful",
    "Weights",
    "drop_state",
    "load_parts",
    "read_note",
    "states_of",
    "write_state",
]

FORMAT_VERSION = 1
DIGEST = "sha256"  # key, in the note, of the other file's; none in older ones


class Stateful(Protocol):
    """A part of a run that changes from step to step."""

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, nested in dicts and lists: what
        `torch.load(weights_only=True)` reads.
        """

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Be as the part was that gave this."""


@dataclass
class Position:
    """How far a run is: what is done of the epoch that is under way, and what its losses
    sum up to.
    """

    epoch: int = 1  # under way
    step: int = 0  # steps of it that are done
    rows: int = 0  # in those
    seconds: float = 0.0  # that they took
    # binary and contrastive loss times rows, nats
    sums: Tensor = field(default_factory=lambda: torch.zeros(2))

    def next_epoch(self) -> None:
        """Go on to the next epoch, of which nothing is done yet."""
        self.epoch += 1
        self.step = 0
        self.rows = 0
        self.seconds = 0.0
        self.sums = torch.zeros_like(self.sums)

    def state_dict(self) -> dict[str, Any]:
        """Return all of it."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up, on the device that `sums` is on."""
        for name, value in state_dict.items():
            setattr(self, name, value.to(self.sums.device) if isinstance(value, Tensor) else value)


class Weights:
    """A detector's weights as they are trained: all but the frozen ones, buffers included. What a
    checkpoint shows may be others (averaged, merged).
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    def state_dict(self) -> dict[str, Any]:
        """Return name → tensor, none copied."""
        frozen = {
            name
            for name, parameter in self.detector.named_parameters()
            if not parameter.requires_grad
        }
        return {
            name: tensor
            for name, tensor in self.detector.state_dict().items()
            if name not in frozen
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy them into the detector's own tensors, which an optimizer holds on to; ValueError for
        other names or shapes.
        """
        current = self.state_dict()
        unlike = current.keys() ^ state_dict.keys() or {
            name for name in current if current[name].shape != state_dict[name].shape
        }
        if unlike:
            raise ValueError(
                f"the weights {', '.join(sorted(unlike)[:3])} are not those of this model"
            )
        for name, tensor in current.items():
            tensor.copy_(state_dict[name])


@dataclass(frozen=True)
class Note:
    """What a state says of the run that it is of; small, and read before anything
    heavy is loaded.
    """

    epoch: int  # under way when it was written
    step: int  # of it that were done
    config: Mapping[str, Any]  # TrainConfig.to_dict
    rows: str  # digest of the rows
    rows_per_step: int  # of all processes together
    frozen: str  # digest of the weights that aren't trained
    embeddings: str | None  # digest of the embeddings that `tune='head'` trains on
    from_own_folder: bool  # whether the run started from a checkpoint that is now started_from
    engine: str  # device and precision
    threads: int  # that torch computed with
    # nanoseconds since 1970, or, where the clock was set back, just above that of the state before
    saved: int = 0

    @property
    def place(self) -> str:
        """Return how far the run is, for people."""
        epochs = self.config["epochs"]
        return (
            f"in epoch {self.epoch} of {epochs}, {self.step:,} step{'s' * (self.step != 1)} done"
            if self.step
            else f"{self.epoch - 1} of {epochs} epochs done"
        )


def states_of(parts: Mapping[str, Stateful]) -> dict[str, dict[str, Any]]:
    """Return each part's state; no tensor is copied."""
    return {name: part.state_dict() for name, part in parts.items()}


def write_state(folder: Path, note: Note, states: Mapping[str, Any]) -> None:
    """Write both files into a checkpoint that is being made; the note last, as a state counts as
    there when its note is.
    """
    with (folder / PARTS).open("wb") as file:
        _save(dict(states), file)
    facts = {
        "format_version": FORMAT_VERSION,
        **asdict(note),
        "saved": max(time.time_ns(), note.saved),
        DIGEST: sha256_file(folder / PARTS),
    }
    write_json(folder / NOTE, sealed(facts))


def read_note(folder: Path) -> Note | None:
    """Return what the state in a checkpoint says of itself; None where there is none.
    CheckpointError for one of another format or damaged.
    """
    if not ((folder / NOTE).is_file() and (folder / PARTS).is_file()):
        return None
    try:
        data = read_json(folder / NOTE)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; train again without `resume`") from error
    version = data.pop("format_version", None) if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder / NOTE} has format_version {version!r}, this mismatch reads {FORMAT_VERSION};"
            " upgrade mismatch-clip or train again"
        )
    if not is_sealed({"format_version": version, **data}):
        raise CheckpointError(
            f"{folder / NOTE} differs from its own checksum: damaged or changed by hand;"
            " train again without `resume`"
        )
    try:
        return Note(**{name: value for name, value in data.items() if name not in (DIGEST, SEAL)})
    except TypeError as error:
        raise CheckpointError(
            f"{folder / NOTE} is incomplete or damaged ({error}); train again without `resume`"
        ) from error


def load_parts(folder: Path, parts: Mapping[str, Stateful]) -> None:
    """Give every part its state back; CheckpointError where the file is damaged or is not of these
    parts.
    """
    path = folder / PARTS
    try:
        if read_json(folder / NOTE).get(DIGEST) not in (None, sha256_file(path)):
            raise ValueError(f"it differs from the sha256 in {NOTE}: damaged or changed")
        states = torch.load(path, map_location="cpu", weights_only=True)
        if states.keys() != parts.keys():
            raise ValueError(
                f"it has {', '.join(sorted(states))}; {', '.join(sorted(parts))} are needed"
            )
        for name, part in parts.items():
            part.load_state_dict(states[name])
    except Exception as error:  # torch and zipfile have many for a damaged file
        raise CheckpointError(
            f"{path} can't be resumed from: {' '.join(str(error).split())}; train again without"
            " `resume`"
        ) from error


def drop_state(folder: Path) -> None:
    """Remove a state that a later one supersedes; it is two to three times as large as its
    checkpoint.
    """
    for name in (NOTE, PARTS):
        (folder / name).unlink(missing_ok=True)


class _Noting:
    """A file that remembers why it could not be written: of a full disk torch says "unexpected
    pos".
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        try:
            self.file.flush()
        except OSError as error:
            self.error = error
            raise


def _save(data: Any, file: BinaryIO) -> None:
    noting = _Noting(file)
    try:
        torch.save(data, noting)  # type: ignore[arg-type]
        noting.flush()
    except RuntimeError:
        if noting.error is None:
            raise
        raise noting.error from None
