"""Find the run to go on with, and check that it is the one that is asked for. Its options, rows and
frozen weights must be the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mismatch.errors import CheckpointError, InputError
from mismatch.io.reading import read_json
from mismatch.io.remote import Remote
from mismatch.training.callbacks import announce
from mismatch.training.checkpoint import STATS, is_checkpoint
from mismatch.training.config import TrainConfig
from mismatch.training.detector import Detector
from mismatch.training.distributed.processes import Processes
from mismatch.training.distributed.shared_rows import text_keys
from mismatch.training.feeds.batches import PairSet
from mismatch.training.feeds.feeds import EmbeddingFeed, Feed
from mismatch.training.folder.earlier import FINAL, STARTED_FROM, is_own, resumable, unfinished
from mismatch.training.folder.state import Note

__all__ = [
    "ResumePlan",
    "embeddings_digest",
    "frozen_digest",
    "make_plan",
    "rows_digest",
    "with_start",
]

START_AGAIN = "or start again without `resume`"
# how a digest of the rows begins that is made of hashes of each image's path and each text
DIGEST = "keys:"


@dataclass(frozen=True)
class ResumePlan:
    """What a run goes on from: nothing, a state, or a run that is finished already."""

    folder: Path | None = None  # checkpoint with the state
    note: Note | None = None  # of it
    finished: Mapping[str, Any] | None = None  # statistics of a run that has nothing left to do

    @property
    def rows_per_step(self) -> int | None:
        """Return the rows that a step took, and takes again whatever the number of processes; None
        for a new run.
        """
        return None if self.note is None else self.note.rows_per_step

    def check_rows(self, digest: str, sets: Sequence[PairSet], config: TrainConfig) -> None:
        """Raise InputError where the rows, with that digest, are no longer those that the run has
        trained on.
        """
        if self.note:
            earlier_digest = self.note.rows
        elif self.finished:
            earlier_digest = self.finished["rows_digest"]
        else:
            return
        if not earlier_digest.startswith(DIGEST):
            digest = _older_digest(sets, str(config.image_base_path))
        if earlier_digest != digest:
            files = (
                config.train_csv
                if config.val_csv is None
                else f"{config.train_csv} or {config.val_csv}"
            )
            raise InputError(
                f"`resume`: {files} has other rows than the run in {config.output_dir} was started"
                f" with; restore them, {START_AGAIN}"
            )

    def check_weights(self, now: Note, config: TrainConfig) -> None:
        """Raise CheckpointError where the weights that aren't trained are others."""
        then = self.note
        if then and then.frozen != now.frozen:
            name = config.model_name or config.backbone
            raise CheckpointError(
                f"`resume`: the weights of {name} are not those that the run in {config.output_dir}"
                f" was started with; restore them, {START_AGAIN}"
            )

    def remarks(self, now: Note) -> list[str]:
        """Return what makes the last digits differ from those of an uninterrupted run."""
        if self.note is None:
            return []
        changes = (
            (self.note.engine, now.engine),
            (f"{self.note.threads} threads", f"{now.threads} threads"),
        )
        differences = [f"{then} then, {here} now" for then, here in changes if then != here]
        if self.note.embeddings != now.embeddings:
            differences.append("cached embeddings were made again, in other batches")
        if not differences:
            return []
        remark = (
            "the result will differ in its last digits from that of a run without an"
            f" interruption: {'; '.join(differences)}"
        )
        return [remark]


def make_plan(config: TrainConfig) -> ResumePlan:
    """Look into the output folder; InputError where `resume` is asked for and the run there was
    started with other options.
    """
    folder = Path(config.output_dir)
    if not config.resume:
        if run := unfinished(folder):
            announce(
                f"{folder} holds an unfinished run ({run[1].place}): `resume` would go on with"
                " it; without, it is removed after the first epoch"
            )
        return ResumePlan()
    if run := resumable(folder):
        _check_options(config, run[1].config)
        announce(f"resuming the run in {run[0]}: {run[1].place}")
        return ResumePlan(*run)
    if stats := _finished(folder):
        _check_options(config, stats["config"])
        return ResumePlan(finished=stats)
    announce(f"`resume`: there is no unfinished run in {folder}, so one is started")
    return ResumePlan()


def with_start(config: TrainConfig, plan: ResumePlan) -> TrainConfig:
    """Return the same options, naming the checkpoint that a run starts from by where it is now. One
    in the run's own folder has become started_from.
    """
    started = Path(config.output_dir) / STARTED_FROM
    if not is_checkpoint(started):
        return config

    def moved(name: str | None) -> bool:
        if not name or not is_own(Path(config.output_dir), Path(name)):
            return False
        return not is_checkpoint(name) or (plan.note is not None and plan.note.from_own_folder)

    names = {
        name: str(started) for name in ("backbone", "model_name") if moved(getattr(config, name))
    }
    return replace(config, **names)  # type: ignore[arg-type]


def rows_digest(sets: Sequence[PairSet], image_base_path: str, processes: Processes) -> str:
    """Return a hash of image paths below the base, texts and labels, in order: the folder itself
    may have moved. Each process takes its part, and the digest is the same whatever their number.
    """
    digest = hashlib.sha256()
    for pairs in sets:
        images = [
            _below(path, image_base_path)
            for path in pairs.images[processes.part(len(pairs.images))]
        ]
        for strings in (images, pairs.texts[processes.part(len(pairs.texts))]):
            digest.update(np.concatenate(processes.gather(text_keys(strings))).tobytes())
        for array in (pairs.image_of, pairs.text_of, pairs.labels):
            digest.update(np.ascontiguousarray(array).tobytes())
    return f"{DIGEST}{digest.hexdigest()}"


def _older_digest(sets: Sequence[PairSet], image_base_path: str) -> str:
    """Return what stands for rows in runs that were begun when each process read all of them."""
    digest = hashlib.sha256()
    for pairs in sets:
        digest.update(
            json.dumps(
                [[_below(path, image_base_path) for path in pairs.images], list(pairs.texts)]
            ).encode()
        )
        for array in (pairs.image_of, pairs.text_of, pairs.labels):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def frozen_digest(detector: Detector) -> str:
    """Return a hash, hex, of the parameters that aren't trained."""
    digest = hashlib.sha256()
    for name, parameter in sorted(detector.named_parameters()):
        if not parameter.requires_grad:
            digest.update(name.encode())
            digest.update(_bytes(parameter))
    return digest.hexdigest()


def embeddings_digest(feeds: Sequence[Feed | None]) -> str | None:
    """Return a hash, hex, of what `tune='head'` trains on; None where the towers run each step."""
    embedded = [feed for feed in feeds if isinstance(feed, EmbeddingFeed)]
    digest = hashlib.sha256()
    for feed in embedded:
        digest.update(_bytes(feed.images))
        digest.update(_bytes(feed.pieces))
    return digest.hexdigest() if embedded else None


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _below(path: Path | Remote, base: str) -> str:
    if isinstance(path, Remote):
        return str(path)
    if not base:
        return os.fspath(path)
    return (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()


def _finished(folder: Path) -> Mapping[str, Any] | None:
    """Return the statistics of a run that is done; None where it isn't."""
    if not (folder / STATS).is_file() or not is_checkpoint(folder / FINAL):
        return None
    stats = read_json(folder / STATS)
    return (
        stats
        if isinstance(stats, dict) and stats.get("finished") and "rows_digest" in stats
        else None
    )


def _check_options(config: TrainConfig, stored: Mapping[str, Any]) -> None:
    """Raise InputError for the first option that would alter the result."""
    asked = json.loads(json.dumps(config.to_dict()))
    for option in fields(config):
        name = option.name
        if option.metadata.get("free") or name not in stored or asked[name] == stored[name]:
            continue
        why = (
            "; the rates fall over all epochs. For more of them start from final_model with"
            " `model_name`"
            if name == "epochs"
            else ""
        )
        raise InputError(
            f"`resume`: `{name}` is {_shown(asked[name])}, but the run in {config.output_dir} was"
            f" started with {_shown(stored[name])}{why}; give that, {START_AGAIN}"
        )


def _shown(value: Any) -> str:
    return "its default" if value is None else str(value)
