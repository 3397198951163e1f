"""A run's folder: what an earlier run left, what is foreign, and what a run that was cut short says
of itself.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import CheckpointError, InputError
from mismatch.runtime.card_file import write_card
from mismatch.training.checkpoint import load_detector, read_meta
from mismatch.training.folder import output
from mismatch.training.folder.earlier import resumable
from mismatch.training.folder.output import RunFolder
from mismatch.training.folder.state import Note, write_state
from tests.support.files import names

Loaded = tuple[Any, Any]


@pytest.fixture(scope="module")
def loaded(tiny_checkpoints: dict[str, Path]) -> Loaded:
    return load_detector(tiny_checkpoints["hf-clip"])


def figures(epochs: int, **more: Any) -> dict[str, Any]:
    """What training_stats.json says, as far as its folder knows it."""
    shape = {"best_epoch": 1, "best_metric": "f1", "train_losses": [], "config": {}}
    return {"epochs": epochs, **shape, **more}


def save(run: RunFolder, loaded: Loaded, epoch: int, *, best: bool = True) -> None:
    run.save_epoch(epoch, *loaded, figures(epoch), best=best, same_backbone=True)


def stats(path: Path) -> Any:
    return json.loads((path / "training_stats.json").read_text())


def test_a_run_writes_checkpoints_the_best_the_last_and_its_statistics(
    loaded: Loaded, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "a" / "run")
    assert run.contents() == "nothing has been written"
    for epoch, best in ((1, True), (2, True), (3, False)):
        save(run, loaded, epoch, best=best)
    run.finish(figures(3, finished=True))
    assert names(run.folder) == [
        "best_model",
        "checkpoint_epoch_1",
        "checkpoint_epoch_2",
        "checkpoint_epoch_3",
        "final_model",
        "training_stats.json",
    ]
    assert [stats(run.folder / f"checkpoint_epoch_{n}") for n in (1, 2, 3)] == [
        figures(1),
        figures(2),
        figures(3),
    ]
    assert (
        stats(run.folder)
        == stats(run.folder / "best_model")
        == stats(run.folder / "final_model")
        == figures(3, finished=True)
    )
    assert (
        run.contents()
        == f"{run.folder} holds checkpoint_epoch_1, checkpoint_epoch_2, checkpoint_epoch_3,"
        " best_model, final_model"
    )


def test_an_earlier_runs_checkpoints_go_at_the_first_write_and_foreign_files_stay(
    logged: list[str], loaded: Loaded, tmp_path: Path
) -> None:
    earlier = RunFolder(tmp_path)
    for epoch in (1, 2, 10):
        save(earlier, loaded, epoch)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "my_checkpoint").mkdir()
    run = RunFolder(tmp_path)
    assert "checkpoint_epoch_10" in names(tmp_path)
    save(run, loaded, 1)
    assert names(tmp_path) == [
        "best_model",
        "checkpoint_epoch_1",
        "my_checkpoint",
        "notes.txt",
        "training_stats.json",
    ]
    assert logged == [
        (
            f"{tmp_path}: removed the earlier run's checkpoint_epoch_1, checkpoint_epoch_2,"
            " checkpoint_epoch_10, best_model"
        )
    ]


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_that_goes_on_says_nothing_of_its_own_checkpoints(
    logged: list[str], loaded: Loaded, tmp_path: Path, epochs: int
) -> None:
    run = RunFolder(tmp_path)
    for epoch in range(1, epochs + 1):
        save(run, loaded, epoch)
    before = names(tmp_path)
    RunFolder(tmp_path).resume_from(
        tmp_path / f"checkpoint_epoch_{epochs}", epochs, epochs, figures(epochs)
    )
    assert names(tmp_path) == before
    assert not logged


def test_what_was_cut_short_before_an_earlier_run_went_is_done_when_it_goes_on(
    logged: list[str], loaded: Loaded, tmp_path: Path
) -> None:
    detector, meta = loaded
    earlier = RunFolder(tmp_path)
    for epoch in (1, 2):
        save(earlier, (detector, replace(meta, train={"seed": 1})), epoch)
    own = RunFolder(tmp_path / "own")
    save(own, loaded, 1)
    shutil.rmtree(tmp_path / "checkpoint_epoch_1")
    shutil.move(tmp_path / "own" / "checkpoint_epoch_1", tmp_path)
    RunFolder(tmp_path).resume_from(tmp_path / "checkpoint_epoch_1", 1, 1, figures(1))
    assert logged == [f"{tmp_path}: removed the earlier run's checkpoint_epoch_2, best_model"]
    assert load_detector(tmp_path / "best_model")[1] == meta


def test_of_a_linked_best_model_the_link_goes_and_its_target_stays(
    loaded: Loaded, tmp_path: Path
) -> None:
    earlier = RunFolder(tmp_path / "elsewhere")
    save(earlier, loaded, 1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best_model").symlink_to(
        earlier.folder / "best_model", target_is_directory=True
    )
    before = names(earlier.folder / "best_model")
    save(RunFolder(tmp_path / "run", start=earlier.folder / "best_model"), loaded, 2)
    assert names(tmp_path / "run") == ["best_model", "checkpoint_epoch_2", "training_stats.json"]
    assert not (tmp_path / "run" / "best_model").is_symlink()
    assert (names(earlier.folder / "best_model"), stats(earlier.folder / "best_model")) == (
        before,
        figures(1),
    )


def test_a_folder_that_cant_be_written_to_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(options["dir"]))

    RunFolder(tmp_path)
    assert names(tmp_path) == []
    monkeypatch.setattr(output, "TemporaryFile", refuse)  # root may write anywhere
    with pytest.raises(
        CheckpointError, match=r"can't be written to: Permission denied; choose another"
    ):
        RunFolder(tmp_path)


@pytest.mark.parametrize("start", ["checkpoint_epoch_2", "best_model"])
def test_the_checkpoint_that_a_run_started_from_is_kept(
    logged: list[str], loaded: Loaded, tmp_path: Path, start: str
) -> None:
    earlier = RunFolder(tmp_path)
    save(earlier, loaded, 1)
    save(earlier, loaded, 2)
    save(RunFolder(tmp_path, start=tmp_path / start), loaded, 1)
    assert names(tmp_path) == [
        "best_model",
        "checkpoint_epoch_1",
        "started_from",
        "training_stats.json",
    ]
    assert read_meta(tmp_path / "started_from") == loaded[1]
    assert logged[0] == f"{tmp_path}: {start}, which this run started from, is now started_from"


@pytest.mark.parametrize("name", ["best_model", "final_model", "checkpoint_epoch_3"])
def test_a_folder_of_that_name_that_mismatch_did_not_write_is_refused_and_kept(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "pytorch_model.bin").write_bytes(b"weights")
    with pytest.raises(
        CheckpointError,
        match=(
            rf"{name} is in the way and was not written by mismatch; move it or choose another"
            r" `output_dir`"
        ),
    ):
        RunFolder(tmp_path)
    assert (tmp_path / name / "pytorch_model.bin").read_bytes() == b"weights"


@pytest.mark.parametrize(
    "name", ["training_stats.json", "training_curves.png", "run.resolved.yaml"]
)
def test_a_file_beside_the_checkpoints_that_mismatch_did_not_write_is_refused_and_kept(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=rf"{name} is there already"):
        RunFolder(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("mine", [{"epochs": [1, 2], "mine": 1}, {"epochs": 3}, [{}]])
def test_figures_of_somebody_elses_run_are_kept(tmp_path: Path, mine: Any) -> None:
    path = tmp_path / "training_stats.json"
    path.write_text(json.dumps(mine))
    with pytest.raises(InputError, match=r"training_stats\.json is there already"):
        RunFolder(tmp_path)
    assert json.loads(path.read_text()) == mine


@pytest.mark.parametrize("name", ["notes.txt", "bundle/manifest.json"])
def test_what_a_user_keeps_in_a_checkpoint_does_not_go_with_it(
    loaded: Loaded, tmp_path: Path, name: str
) -> None:
    save(RunFolder(tmp_path), loaded, 1)
    place = tmp_path / "best_model" / name
    place.parent.mkdir(exist_ok=True)
    place.write_text("mine")
    with pytest.raises(
        CheckpointError, match=rf"best_model holds other files too \({name}\), which would be lost"
    ):
        RunFolder(tmp_path)
    assert place.read_text() == "mine"


def test_an_epoch_in_which_a_user_keeps_something_is_not_removed(
    loaded: Loaded, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path, keep=1)
    save(run, loaded, 1)
    (tmp_path / "checkpoint_epoch_1" / "notes.txt").write_text("mine")
    (tmp_path / "best_model" / "notes.txt").write_text("mine")
    for epoch in (2, 3):
        save(run, loaded, epoch)
    assert names(tmp_path)[:3] == ["best_model", "checkpoint_epoch_1", "checkpoint_epoch_3"]
    assert (tmp_path / "checkpoint_epoch_1" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "best_model" / "notes.txt").read_text() == "mine"


def test_no_run_is_written_into_a_checkpoint(loaded: Loaded, tmp_path: Path) -> None:
    save(RunFolder(tmp_path), loaded, 1)
    with pytest.raises(CheckpointError, match=r"`output_dir` .* lies in the model"):
        RunFolder(tmp_path / "best_model" / "again")


def test_many_epochs_are_named_by_the_first_and_the_last(loaded: Loaded, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for epoch in range(1, 6):
        save(run, loaded, epoch)
    assert (
        run.contents() == f"{tmp_path} holds checkpoint_epoch_1 to checkpoint_epoch_5, best_model"
    )


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(
        CheckpointError, match=r"`output_dir` .*out can't be created: File exists; choose another"
    ):
        RunFolder(tmp_path / "out")


def test_a_write_that_fails_leaves_no_folder(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    save(run, loaded, 1)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr(Path, "hardlink_to", full)
    with pytest.raises(CheckpointError, match="checkpoint_epoch_2: No space left on device"):
        save(run, loaded, 2)
    assert names(tmp_path) == ["best_model", "checkpoint_epoch_1", "training_stats.json"]


def test_the_options_are_written_with_the_first_epoch_and_somebodys_own_file_stays(
    logged: list[str], loaded: Loaded, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path, settings="# mismatch 1: first\n")
    assert names(tmp_path) == []
    save(run, loaded, 1)
    assert (tmp_path / "run.yaml").read_text() == "# mismatch 1: first\n"
    save(RunFolder(tmp_path, settings="# mismatch 1: second\n"), loaded, 1)
    assert (tmp_path / "run.yaml").read_text() == "# mismatch 1: second\n"
    (tmp_path / "run.yaml").write_text("epochs: 3  # mine\n")
    save(RunFolder(tmp_path, settings="# mismatch 1: third\n"), loaded, 1)
    assert ((tmp_path / "run.yaml").read_text(), (tmp_path / "run.resolved.yaml").read_text()) == (
        "epochs: 3  # mine\n",
        "# mismatch 1: third\n",
    )
    assert (
        logged[-1] == f"{tmp_path / 'run.yaml'} is yours and stays; this run's own options are in"
        f" {tmp_path / 'run.resolved.yaml'}"
    )


def test_the_picture_of_an_earlier_run_goes_and_none_is_drawn_before_an_epoch(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "curves_png", lambda stats: f"{stats}".encode())
    old = b"\x89PNG with Software\0mismatch"
    (tmp_path / "training_curves.png").write_bytes(old)
    run = RunFolder(tmp_path)
    run.draw({})
    assert (tmp_path / "training_curves.png").read_bytes() == old
    save(run, loaded, 1)
    assert not (tmp_path / "training_curves.png").exists()
    run.draw({"epochs": 1})
    assert (tmp_path / "training_curves.png").read_bytes() == b"{'epochs': 1}"


def test_a_picture_of_the_users_own_stays(
    logged: list[str], loaded: Loaded, tmp_path: Path
) -> None:
    """One that comes while the first epoch is under way; earlier ones are refused."""
    mine = tmp_path / "training_curves.png"
    run = RunFolder(tmp_path)
    mine.write_bytes(b"mine")
    save(run, loaded, 1)
    run.draw({"epochs": 1})
    assert mine.read_bytes() == b"mine"
    assert logged == [f"warning: {mine} is yours and stays; no curves are drawn"]
    with pytest.raises(InputError, match=r"training_curves\.png"):
        RunFolder(tmp_path)


def test_what_a_user_puts_into_an_earlier_run_meanwhile_stays(
    logged: list[str], loaded: Loaded, tmp_path: Path
) -> None:
    earlier = RunFolder(tmp_path)
    for epoch in (1, 2, 3):
        save(earlier, loaded, epoch)
    run = RunFolder(tmp_path)
    place = tmp_path / "checkpoint_epoch_2"
    (place / "notes.txt").write_text("mine")
    save(run, loaded, 1)
    assert (place / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "checkpoint_epoch_3").exists()
    assert logged == [
        f"{place} is kept, as it holds other files too (notes.txt)",
        (
            f"{tmp_path}: removed the earlier run's checkpoint_epoch_1, checkpoint_epoch_3,"
            " best_model"
        ),
    ]


def test_a_picture_that_can_not_be_written_is_a_warning(
    logged: list[str], loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "curves_png", lambda stats: b"")
    run = RunFolder(tmp_path)
    save(run, loaded, 1)
    (tmp_path / "training_curves.png").mkdir()
    run.draw({"epochs": 1})
    assert len(logged) == 1
    assert logged[0].startswith(f"warning: {tmp_path / 'training_curves.png'} ")
    assert not list(tmp_path.glob(".*"))


def test_the_newest_state_is_known_by_its_number(loaded: Loaded, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.newest() == 0
    note = Note(1, 0, figures(3), "rows", 16, "frozen", None, False, "cpu in fp32", 1)
    for epoch, saved in ((1, 2 * time.time_ns()), (2, 0)):
        write = partial(
            write_state,
            note=replace(note, epoch=epoch, saved=max(saved, run.newest() + 1)),
            states={},
        )
        run.save_epoch(
            epoch, *loaded, figures(epoch), best=True, same_backbone=True, write_state=write
        )
        found = resumable(tmp_path)
        assert found is not None
        assert (found[0].name, found[1].epoch) == (f"checkpoint_epoch_{epoch}", epoch)
    assert run.newest() > 2 * time.time_ns() - 10**12


def card(path: Path) -> str:
    return (path / "README.md").read_text()


def test_each_model_has_a_card_of_its_epoch(loaded: Loaded, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", write_card=write_epoch)
    for epoch, best in ((1, True), (2, False)):
        save(run, loaded, epoch, best=best)
    run.finish(figures(2, finished=True))
    epochs = {"checkpoint_epoch_1": 1, "checkpoint_epoch_2": 2, "best_model": 1, "final_model": 2}
    for name, epoch in epochs.items():
        assert card(run.folder / name).startswith(f"epoch {epoch}\n"), name
        assert "README.md" not in read_meta(run.folder / name).files
        load_detector(run.folder / name)


def write_epoch(part: Path, epoch: int) -> None:
    write_card(part, f"epoch {epoch}\n")


def test_a_card_goes_with_its_checkpoint_unless_somebody_has_changed_it(
    loaded: Loaded, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run", keep=1, write_card=write_epoch)
    save(run, loaded, 1)
    save(run, loaded, 2)
    assert "checkpoint_epoch_1" not in names(run.folder)
    (run.folder / "checkpoint_epoch_2" / "README.md").write_text("mine")
    (run.folder / "best_model" / "README.md").write_text("mine")
    save(run, loaded, 3)
    assert card(run.folder / "checkpoint_epoch_2") == "mine"
    assert card(run.folder / "checkpoint_epoch_3").startswith("epoch 3\n")
    assert card(run.folder / "best_model") == "mine"
    with pytest.raises(CheckpointError, match=r"holds other files too \(README\.md\)"):
        RunFolder(run.folder)


def test_a_new_run_replaces_the_cards_of_an_earlier_one(loaded: Loaded, tmp_path: Path) -> None:
    for _ in range(2):
        run = RunFolder(tmp_path / "run", write_card=write_epoch)
        save(run, loaded, 1)
        run.finish(figures(1, finished=True))
    assert card(run.folder / "best_model").startswith("epoch 1\n")


def test_a_readme_that_a_backbone_brings_stays(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, meta = loaded
    save_pretrained = detector.backbone.save_pretrained

    def with_readme(folder: Path) -> None:
        save_pretrained(folder)
        (folder / "README.md").write_text("upstream's")

    monkeypatch.setattr(detector.backbone, "save_pretrained", with_readme)
    run = RunFolder(tmp_path / "run", write_card=write_epoch)
    save(run, (detector, meta), 1)
    save(run, (detector, meta), 2)
    run.finish(figures(2, finished=True))
    for name in ("checkpoint_epoch_1", "checkpoint_epoch_2", "best_model", "final_model"):
        assert card(run.folder / name) == "upstream's"
        assert "README.md" in read_meta(run.folder / name).files
