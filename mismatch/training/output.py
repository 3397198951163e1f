"""The folder of a training run: a checkpoint per epoch, best_model, final_model, run.yaml, curves, and what an earlier run left there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from mismatch.errors import CheckpointError
from mismatch.files import atomic_file, write_bytes, write_json
from mismatch.training.checkpoint import STATS, CheckpointMeta, clone_checkpoint, is_checkpoint, save_checkpoint, write_stats
from mismatch.training.curves import CURVES, curves_png
from mismatch.training.detector import Detector
from mismatch.training.settings import SETTINGS, SETTINGS_HEAD

__all__ = ["BEST", "FINAL", "STARTED_FROM", "RunFolder"]

BEST, FINAL, STARTED_FROM = "best_model", "final_model", "started_from"
EPOCH = "checkpoint_epoch_"
RESOLVED = "run.resolved.yaml"  # where a run.yaml of somebody's own is in the way
OWN_NAMES = re.compile(rf"{BEST}|{FINAL}|{STARTED_FROM}|{EPOCH}\d+|checkpoint_last")


class RunFolder:
    """Where a run writes. Nothing in it is touched before the first epoch is done."""

    def __init__(self, folder: str | Path, *, report: Callable[[str], object], start: Path | None = None, settings: str | None = None) -> None:
        """`start`: the checkpoint that training goes on from; it is kept even where it lies in `folder`. `settings`: the text of run.yaml.

        CheckpointError where `folder` can't be used.
        """
        self.folder, self.settings = Path(folder), settings
        self.report, self.start = report, start
        self.written: list[Path] = []
        _check_usable(self.folder)

    def save_epoch(self, epoch: int, detector: Detector, meta: CheckpointMeta, stats: Mapping[str, Any], *, best: bool, same_backbone: bool) -> None:
        """Write checkpoint_epoch_N, and best_model where this epoch is the best so far. `same_backbone`: epochs differ in the head only."""
        if not self.written:
            self._clear_earlier_run()
            self._write_settings()
        known = self.written[-1] if same_backbone and self.written else None
        place = self.folder / f"{EPOCH}{epoch}"
        save_checkpoint(place, detector, meta, stats, backbone_files=known)
        self.written.append(place)
        if best:
            clone_checkpoint(place, self.folder / BEST, stats)
        self.save_stats(stats)

    def save_stats(self, stats: Mapping[str, Any]) -> None:
        """The run so far, at the top and in best_model, which covers the whole run."""
        write_stats(self.folder / BEST, stats)
        write_json(self.folder / STATS, stats)

    def finish(self, stats: Mapping[str, Any]) -> None:
        """Write final_model, the last epoch's."""
        clone_checkpoint(self.written[-1], self.folder / FINAL, stats)
        self.save_stats(stats)

    def draw(self, stats: Mapping[str, Any]) -> None:
        """Write training_curves.png, where there is an epoch to show; a picture that can't be drawn is a warning."""
        if not self.written:
            return
        try:
            write_bytes(self.folder / CURVES, curves_png(stats))
        except Exception as error:  # noqa: BLE001  a run is never lost for its picture
            self.report(f"warning: {self.folder / CURVES} can't be drawn: {type(error).__name__}: {error}")

    def contents(self) -> str:
        """What this run has written, for people."""
        if not self.written:
            return "nothing has been written"
        present = [path for path in (*self.written, self.folder / BEST, self.folder / FINAL) if is_checkpoint(path)]
        return f"{self.folder} holds {_listing(present)}"

    def _write_settings(self) -> None:
        """run.yaml; one that somebody wrote by hand stays, and the run's own stands beside it."""
        if self.settings is None:
            return
        place = self.folder / SETTINGS
        if place.is_file() and not place.read_bytes().startswith(SETTINGS_HEAD.encode()):
            place = self.folder / RESOLVED
            self.report(f"{self.folder / SETTINGS} is yours and stays; this run's own options are in {place}")
        with atomic_file(place) as file:
            file.write(self.settings)

    def _clear_earlier_run(self) -> None:
        """Remove an earlier run's checkpoints, so that two runs are never mixed; foreign files stay."""
        (self.folder / CURVES).unlink(missing_ok=True)
        earlier = _earlier(self.folder)
        kept = [path for path in earlier if self.start is not None and path.resolve() == self.start.resolve() and not path.is_symlink()]
        removed = [path for path in earlier if path not in kept]
        for path in removed:
            path.unlink() if path.is_symlink() else shutil.rmtree(path)  # of a link, what it points to stays
        if removed:
            self.report(f"{self.folder}: removed the earlier run's {_listing(removed)}")
        for path in kept:
            if path.name != STARTED_FROM:
                path.rename(self.folder / STARTED_FROM)
                self.report(f"{self.folder}: {path.name}, which this run started from, is now {STARTED_FROM}")


def _check_usable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"--output-dir {folder} can't be created: {error.strerror}; choose another") from error
    try:
        TemporaryFile(dir=folder).close()  # now, and not after the first epoch
    except OSError as error:
        raise CheckpointError(f"--output-dir {folder} can't be written to: {error.strerror}; choose another") from error
    for path in sorted(folder.iterdir()):
        if OWN_NAMES.fullmatch(path.name) and not is_checkpoint(path):
            raise CheckpointError(f"{path} is in the way and was not written by mismatch; move it or choose another --output-dir")


def _earlier(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if OWN_NAMES.fullmatch(path.name) and is_checkpoint(path)]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _listing(paths: Sequence[Path]) -> str:
    """Names for people; more than three epochs are shown by the first and the last."""
    epochs = [path.name for path in paths if path.name.startswith(EPOCH)]
    others = [path.name for path in paths if path.name not in epochs]
    return ", ".join([*(epochs if len(epochs) < 4 else [f"{epochs[0]} to {epochs[-1]}"]), *others])
