"""What a run writes into its checkpoints, and how it goes on from one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from mismatch.specs import ScoreSpec
from mismatch.training.callbacks import announce
from mismatch.training.checkpoint import CheckpointMeta, meta_for
from mismatch.training.folder.history import PLAIN, History
from mismatch.training.folder.output import RunFolder
from mismatch.training.folder.resume import ResumePlan
from mismatch.training.folder.state import (
    Note,
    Position,
    Stateful,
    load_parts,
    states_of,
    write_state,
)
from mismatch.training.head import head_options
from mismatch.training.step import Step
from mismatch.training.trained_model import TrainedModel

__all__ = ["Saver"]


class Saver:
    """Saves a run with its state, and puts the state back. Every process calls it, as weights in
    shards are gathered; the main one writes.
    """

    def __init__(
        self,
        model: TrainedModel,
        step: Step,
        folder: RunFolder,
        history: History,
        position: Position,
    ) -> None:
        self.model = model
        self.step = step
        self.folder = folder
        self.history = history
        self.position = position
        self.config = history.config
        self.processes = step.processes
        self.main = step.processes.main
        # digest of the embeddings that `tune='head'` trains on, once they are there
        self.embeddings: str | None = None
        # what changes from step to step, by the name under which it is saved
        self.parts: dict[str, Stateful] = {
            **model.stateful_parts(),
            "step": step,
            "history": history,
            "position": position,
        }

    def resume_from(self, plan: ResumePlan, folder: Path) -> None:
        """Be where the run was that wrote the checkpoint `folder`; CheckpointError where its frozen
        weights were others.
        """
        note = self._note()
        plan.check_weights(note, self.config)
        for line in plan.remarks(note):
            announce(line)
        load_parts(folder, self.parts)
        self.processes.wait()  # until all have read, as the main one writes now
        if self.main:
            self.folder.resume_from(
                folder, self.position.epoch - 1, self.history.best_epoch, self.history.to_dict()
            )

    def save_epoch(self, epoch: int, score: ScoreSpec, *, best: bool) -> None:
        """Write the checkpoint of an epoch that is done, scored by `score`."""
        write = self._state_writer()
        with self.model.whole_weights():
            if not self.main:
                return
            meta = self._meta(score)
            stats = self.history.to_dict()
            with self.model.tuning.plain():
                self.folder.save_epoch(
                    epoch,
                    self.model.detector,
                    meta,
                    stats,
                    best=best,
                    same_backbone=self.model.tuning.frozen,
                    write_state=write,
                )

    def save_last(self) -> None:
        """Write checkpoint_last, in the middle of an epoch."""
        write = self._state_writer()
        with self.model.whole_weights():
            if not self.main:
                return
            with self.model.tuning.plain():
                self.folder.save_last(
                    self.model.detector,
                    self._meta(PLAIN),
                    self.history.to_dict(),
                    same_backbone=self.model.tuning.frozen,
                    write_state=write,
                )

    def _state_writer(self) -> Callable[[Path], None]:
        """Return what writes the state into a checkpoint. It is taken before the backbone is made
        plain, in which its weights have other names.
        """
        note = self._note()
        states = states_of(self.parts)
        return lambda folder: write_state(folder, note, states)

    def _note(self) -> Note:
        return Note(
            epoch=self.position.epoch,
            step=self.position.step,
            config=self.config.to_dict(),
            rows=self.history.facts["rows_digest"],
            rows_per_step=self.step.rows,
            frozen=self.model.frozen_digest,
            embeddings=self.embeddings,
            from_own_folder=self.folder.starts_from_own,
            engine=self._engine(),
            threads=torch.get_num_threads(),
            saved=self.folder.newest() + 1,
        )

    def _engine(self) -> str:
        """Return what computes: `cuda in bf16`, `cpu in fp32 on 2 processes, sharded`."""
        engine = f"{self.processes.device.type} in {self.step.precision}"
        if self.processes.count > 1:
            engine += f" on {self.processes.count} processes"
        if self.model.shards is not None:
            engine += ", sharded"
        return engine

    def _meta(self, score: ScoreSpec) -> CheckpointMeta:
        start = self.model.start
        spec = self.model.head.spec  # a checkpoint's own where training went on from one
        options = head_options(spec) | {"long_text": start.long_text}
        return meta_for(
            start.family,
            start.model_id,
            spec,
            score=replace(score, long_text=start.long_text),
            train=self.config.to_dict() | options,
            commit=start.detector.backbone.commit,
        )
