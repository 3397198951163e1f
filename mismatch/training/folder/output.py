"""The folder of a training run: a checkpoint per epoch, best_model, final_model, checkpoint_last,
run.yaml, curves, and what an earlier run left there.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from mismatch.errors import CheckpointError
from mismatch.io.atomic import atomic_file, remove_directory, sweep, write_bytes, write_json
from mismatch.io.outputs import check_outputs, json_report, picture, refuse_model_folder, text_file
from mismatch.io.reading import read_json
from mismatch.io.text import one_line
from mismatch.training.callbacks import announce, warn
from mismatch.training.checkpoint import (
    STATS,
    CheckpointMeta,
    clone_checkpoint,
    foreign_files,
    is_checkpoint,
    save_checkpoint,
    write_stats,
)
from mismatch.training.detector import Detector
from mismatch.training.folder.curves_picture import CURVES, curves_png
from mismatch.training.folder.earlier import (
    BEST,
    EPOCH,
    FINAL,
    LAST,
    OWN_NAMES,
    STARTED_FROM,
    earlier_checkpoints,
    is_clone,
    unfinished,
)
from mismatch.training.folder.history import FIGURES, MORE_FIGURES
from mismatch.training.folder.state import drop_state
from mismatch.training.settings import SETTINGS, SETTINGS_HEAD

__all__ = ["RunFolder", "WriteCard", "check_usable", "draw_curves"]

RESOLVED = "run.resolved.yaml"  # where a run.yaml of somebody's own is in the way
WRITTEN = re.compile(
    rf"{OWN_NAMES.pattern}|{re.escape(STATS)}|{re.escape(SETTINGS)}"
    rf"|{re.escape(RESOLVED)}|{re.escape(CURVES)}"
)
# files next to the checkpoints; run.yaml is never taken from its author, see `_write_settings`
_KINDS = {
    STATS: json_report("the figures of a run", FIGURES, MORE_FIGURES),
    CURVES: picture("a picture"),
    RESOLVED: text_file("the options of a run", SETTINGS_HEAD),
}
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
WriteState = Callable[[Path], object]  # is given the checkpoint that is being made
WriteCard = Callable[[Path, int], object]  # the same, and the epoch that it is of


class RunFolder:
    """Where a run writes. Nothing in it is touched before the first epoch is done, but for
    checkpoint_last.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        start: Path | None = None,
        settings: str | None = None,
        keep: int | None = None,
        write_card: WriteCard | None = None,
    ) -> None:
        """Take the folder of a run. `start`: the checkpoint that training goes on from; it is kept
        even where it lies in `folder`. `settings`: the text of run.yaml. `keep`: how many of the
        newest epochs' checkpoints stay, all by default. `write_card`: writes a checkpoint's card.
        CheckpointError where `folder` can't be used.
        """
        self.folder = Path(folder)
        self.start = start
        self.settings = settings
        self.keep = keep
        self.write_card = write_card
        self.written: list[Path] = []
        check_usable(self.folder)
        # an interruption in the first epoch must not cost an earlier run
        self.guards_other = unfinished(self.folder) is not None

    @property
    def holds_this_run(self) -> bool:
        """Return whether something is written that this run can be resumed from."""
        return bool(self.written) or (is_checkpoint(self.folder / LAST) and not self.guards_other)

    def newest(self) -> int:
        """Return when the newest state here was saved, nanoseconds since 1970; 0 without any. The
        next one counts as later, whatever the clock says.
        """
        state = unfinished(self.folder)
        return 0 if state is None else state[1].saved

    @property
    def starts_from_own(self) -> bool:
        """Return whether the run started from a checkpoint in this folder, which is now
        started_from.
        """
        return self.start == self.folder / STARTED_FROM

    def resume_from(
        self, place: Path, epoch: int, best_epoch: int, stats: Mapping[str, Any]
    ) -> None:
        """Go on from `place` with the run whose last complete epoch is `epoch`, 0 for none. Do what
        was cut short after its checkpoint was whole.
        """
        self.guards_other = False
        sweep(self.folder, WRITTEN)
        places = [self.folder / f"{EPOCH}{number}" for number in range(1, epoch + 1)]
        self.written = [path for path in places if is_checkpoint(path)]
        if not self.written:
            return  # in its first epoch, next to what an earlier run has left
        if epoch == 1:
            self._remove_earlier_run(
                [
                    path
                    for path in earlier_checkpoints(self.folder)
                    if path != self.start and not is_clone(path, self.written[0])
                ]
            )
            self._write_settings()
        best = self.folder / f"{EPOCH}{best_epoch}"
        if is_checkpoint(best) and (epoch == 1 or _best_epoch(self.folder) != best_epoch):
            self._clone(best, BEST, best_epoch, stats)
        if place.name != LAST:
            self._complete_epoch(stats, best=False)

    def save_epoch(
        self,
        epoch: int,
        detector: Detector,
        meta: CheckpointMeta,
        stats: Mapping[str, Any],
        *,
        best: bool,
        same_backbone: bool,
        write_state: WriteState | None = None,
    ) -> None:
        """Write checkpoint_epoch_N, and best_model where this epoch is the best so far.
        `same_backbone`: epochs differ in the head only.
        """
        with _how_to_go_on():
            first = not self.written
            earlier = self._begin() if first else []
            place = self.folder / f"{EPOCH}{epoch}"
            save_checkpoint(
                place,
                detector,
                meta,
                stats,
                backbone_files=self._shared(same_backbone),
                write_more=partial(self._write_more, epoch, write_state),
            )
            self.written.append(place)
            self._remove_earlier_run(earlier)
            if first:
                self._write_settings()
            self._complete_epoch(stats, best=best)

    def save_last(
        self,
        detector: Detector,
        meta: CheckpointMeta,
        stats: Mapping[str, Any],
        *,
        same_backbone: bool,
        write_state: WriteState,
    ) -> None:
        """Write checkpoint_last, from which an epoch that is under way is resumed."""
        self.guards_other = False
        with _how_to_go_on():
            sweep(self.folder, WRITTEN)
            save_checkpoint(
                self.folder / LAST,
                detector,
                meta,
                stats,
                backbone_files=self._shared(same_backbone),
                write_more=write_state,
            )

    def save_stats(self, stats: Mapping[str, Any]) -> None:
        """Write the run so far, at the top and in best_model, which covers the whole run."""
        write_stats(self.folder / BEST, stats)
        write_json(self.folder / STATS, stats)

    def finish(self, stats: Mapping[str, Any]) -> None:
        """Write final_model, the last epoch's, and drop what only resuming needs."""
        with _how_to_go_on():
            self._clone(self.written[-1], FINAL, stats["epochs"], stats)
            self.save_stats(stats)
        drop_state(self.written[-1])

    def draw(self, stats: Mapping[str, Any]) -> None:
        """Write training_curves.png, where there is an epoch to show; a picture that can't be drawn
        is a warning.
        """
        if self.written:
            draw_curves(self.folder, stats)

    def contents(self) -> str:
        """Return what this run has written, for people."""
        if not self.holds_this_run:
            return "nothing has been written"
        models = (*self.written, self.folder / BEST, self.folder / FINAL) if self.written else ()
        return (
            f"{self.folder} holds"
            f" {_listing([path for path in (*models, self.folder / LAST) if is_checkpoint(path)])}"
        )

    def _clone(self, source: Path, name: str, epoch: int, stats: Mapping[str, Any]) -> None:
        """Write the checkpoint of an epoch under another name too."""
        write_more = partial(self._write_more, epoch, None)
        clone_checkpoint(source, self.folder / name, stats, write_more=write_more)

    def _write_more(self, epoch: int, write_state: WriteState | None, part: Path) -> None:
        """Write what stands next to a checkpoint's weights, into the one that is being made."""
        if write_state is not None:
            write_state(part)
        if self.write_card is not None:
            self.write_card(part, epoch)

    def _write_settings(self) -> None:
        """Write run.yaml; one that somebody wrote by hand stays, and the run's own stands next to
        it.
        """
        if self.settings is None:
            return
        place = self.folder / SETTINGS
        if place.is_file() and not place.read_bytes().startswith(SETTINGS_HEAD.encode()):
            place = self.folder / RESOLVED
            announce(
                f"{self.folder / SETTINGS} is yours and stays; this run's own options are in"
                f" {place}"
            )
        with atomic_file(place) as file:
            file.write(self.settings)

    def _shared(self, same_backbone: bool) -> Path | None:
        """Return a checkpoint of this run whose backbone's files serve the next one too; None if
        none do.
        """
        return self.written[-1] if same_backbone and self.written else None

    def _begin(self) -> list[Path]:
        """Get ready for the first checkpoint; returns what an earlier run left. The checkpoint that
        this run started from gets out of the way.
        """
        self.guards_other = False
        sweep(self.folder, WRITTEN)
        if _is_own_picture(self.folder / CURVES):
            (self.folder / CURVES).unlink(missing_ok=True)
        earlier = earlier_checkpoints(self.folder)
        kept = [
            path
            for path in earlier
            if self.start is not None
            and path.resolve() == self.start.resolve()
            and not path.is_symlink()
        ]
        for path in kept:
            self.start = self.folder / STARTED_FROM
            if path != self.start:
                if is_checkpoint(self.start):
                    remove_directory(self.start)
                path.rename(self.start)
                announce(
                    f"{self.folder}: {path.name}, which this run started from, is now"
                    f" {STARTED_FROM}"
                )
        for path in earlier:
            if path.is_symlink():  # else a new checkpoint would replace what it points to
                path.unlink()
        return [path for path in earlier if path not in kept]

    def _remove_earlier_run(self, earlier: Sequence[Path]) -> None:
        """Remove the earlier run, as two runs are never mixed; foreign files stay. Called when the
        first checkpoint of this run is whole, which may have replaced one.
        """
        removed = [
            path
            for path in earlier
            if path.name != LAST and (path in self.written or not path.exists() or _removed(path))
        ]
        if removed:
            announce(f"{self.folder}: removed the earlier run's {_listing(removed)}")

    def _complete_epoch(self, stats: Mapping[str, Any], *, best: bool) -> None:
        """Do all that follows when an epoch's checkpoint is whole."""
        place = self.written[-1]
        if best:
            self._clone(place, BEST, stats["epochs"], stats)
        self.save_stats(stats)
        for path in earlier_checkpoints(self.folder):
            if path.name == LAST:
                remove_directory(path)
            elif path != place:
                drop_state(path)
        for path in self.written[: -self.keep] if self.keep else []:
            self.written.remove(path)
            _removed(path)


def draw_curves(folder: Path, stats: Mapping[str, Any]) -> None:
    """Write training_curves.png; one that can't be drawn is a warning."""
    if not _is_own_picture(folder / CURVES):
        warn("curves", f"{folder / CURVES} is yours and stays; no curves are drawn")
        return
    try:
        write_bytes(folder / CURVES, curves_png(stats))
    except Exception as error:  # noqa: BLE001  a run is never lost for its picture
        warn("curves", f"{folder / CURVES} can't be drawn: {one_line(error)}")


def _best_epoch(folder: Path) -> int | None:
    """Return which epoch best_model is of."""
    with suppress(CheckpointError):
        return int(read_json(folder / BEST / STATS).get("best_epoch"))
    return None


@contextmanager
def _how_to_go_on() -> Iterator[None]:
    """Say of a full disk what to do; what was there before is whole."""
    try:
        yield
    except CheckpointError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_ROOM:
            raise CheckpointError(
                f"{error}; free some, then go on with `resume`"
            ) from error.__cause__
        raise


def check_usable(folder: Path) -> None:
    """Make the folder where it is missing; CheckpointError where it can't be written to, or
    something else stands in the way.
    """
    refuse_model_folder(folder, "`output_dir`")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"`output_dir` {folder} can't be created: {error.strerror}; choose another"
        ) from error
    try:
        TemporaryFile(dir=folder).close()  # now, and not after the first epoch
    except OSError as error:
        raise CheckpointError(
            f"`output_dir` {folder} can't be written to: {error.strerror}; choose another"
        ) from error
    for path in sorted(folder.iterdir()):
        if not OWN_NAMES.fullmatch(path.name):
            continue
        if not is_checkpoint(path):
            raise CheckpointError(
                f"{path} is in the way and was not written by mismatch; move it or choose another"
                " `output_dir`"
            )
        if others := foreign_files(path):
            raise CheckpointError(
                f"{path} holds other files too ({', '.join(others[:3])}), which would be lost; move"
                " them or choose another `output_dir`"
            )
    check_outputs([("`output_dir`", folder / name, kind) for name, kind in _KINDS.items()])


def _is_own_picture(place: Path) -> bool:
    """Return whether no picture of curves but our own is there."""
    return not place.is_file() or _KINDS[CURVES].is_known(place)


def _removed(path: Path) -> bool:
    """Remove a checkpoint, unless somebody keeps files in it; return whether it went."""
    if others := foreign_files(path):
        announce(f"{path} is kept, as it holds other files too ({', '.join(others[:3])})")
        return False
    remove_directory(path)
    return True


def _listing(paths: Sequence[Path]) -> str:
    """Return names for people; more than three epochs are shown by the first and the last."""
    epochs = [path.name for path in paths if path.name.startswith(EPOCH)]
    others = [path.name for path in paths if path.name not in epochs]
    return ", ".join([*(epochs if len(epochs) < 4 else [f"{epochs[0]} to {epochs[-1]}"]), *others])
