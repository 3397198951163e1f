"""--resume: a run that was killed, interrupted or out of room ends as one that never was; what
doesn't fit is refused in words.
"""

from __future__ import annotations

import csv
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mismatch.backbones import registry
from mismatch.backbones.base import Backbone
from mismatch.data.pairs import Row
from mismatch.errors import CheckpointError, InputError
from mismatch.io.atomic import sealed
from mismatch.progress import shown_by
from mismatch.runtime import embedding
from mismatch.training import TrainConfig, TrainResult, checkpoint, train
from mismatch.training import run as run_module
from mismatch.training.distributed.processes import Processes
from mismatch.training.feeds.batches import PairSet
from mismatch.training.folder import output
from mismatch.training.folder.resume import ResumePlan, rows_digest
from tests.support import backbones
from tests.support.backbones import MeanColour, ToyBackbone
from tests.support.files import names
from tests.support.paths import WHOLE
from tests.support.pictures import tinted
from tests.support.training_lines import training_lines

TIMES = {"seconds", "rows_per_second", "val_seconds", "elapsed_seconds", "embedding_seconds"}
EPOCHS = 3
STEPS = 6  # of an epoch
BATCH = 36  # rows of a step

pytestmark = pytest.mark.usefixtures("one_thread")


def chancy(model_id: str) -> Backbone:
    """Towers with all that has a memory or draws: batch norm and dropout."""
    layers = (nn.Linear(3, 12), nn.BatchNorm1d(12), nn.Dropout(0.2))
    # rounded: what is resumed must not rely on what upstream reads again
    return ToyBackbone(nn.Sequential(MeanColour(), *layers), model_id=model_id, rounds=True)


CHANCY = registry.Registry({"chancy": backbones.toy_family("chancy", chancy)}, ())


def furnish(folder: Path) -> None:
    """60 noisy photos of one colour each, train.csv of 216 and val.csv of 24 rows."""
    noise = np.random.default_rng(0)
    for i in range(60):
        tinted(noise, i, 10).save(folder / f"{i}.png")
    things = ("shirt", "shoe", "bag", "red")
    rows = [
        (f"{i}.png", f"{colour} {things[k]}", int(k % 3 == i % 3))
        for i in range(60)
        for k, colour in enumerate(("red", "green", "blue", "grey"))
    ]
    for name, chosen in (("train.csv", rows[:216]), ("val.csv", rows[216:])):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([("image_path", "text", "label"), *chosen])


def install(patch: pytest.MonkeyPatch) -> None:
    """Install the family `chancy`, and leave out drawing, which takes longer than most runs."""
    patch.setattr(registry, "_installed", lambda: CHANCY)
    patch.setattr(output, "curves_png", lambda stats: b"")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows to train on; the family `chancy` is installed."""
    furnish(tmp_path)
    install(monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def straight(module_folder: Path) -> dict[str, Path]:
    """Runs that were never disturbed, of each mode."""
    furnish(module_folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        for tune in ("full", "head"):
            run(module_folder, tune, tune)
    torch.set_num_threads(threads)
    return {tune: module_folder / tune for tune in ("full", "head")}


class Killed(BaseException):
    """What a test raises to end a run at once, without any farewell."""


def config(folder: Path, tune: str, name: str, **more: Any) -> TrainConfig:
    common: dict[str, Any] = {
        "train_csv": str(folder / "train.csv"),
        "val_csv": str(folder / "val.csv"),
        "image_base_path": str(folder),
        "backbone": "chancy",
        "tune": tune,
    }
    common |= {
        "output_dir": str(folder / name),
        "cache": str(folder / f"cache-{name}"),
        "device": "cpu",
        "num_workers": 1,
        "precision": "fp32",
        "epochs": EPOCHS,
        "batch_size": BATCH,
    }
    rates = {"head_learning_rate": 1e-2} | ({} if tune == "head" else {"learning_rate": 1e-2})
    return TrainConfig(**common | rates | more)


def run(
    folder: Path,
    tune: str,
    name: str,
    *,
    after: Callable[[int], object] = int,
    **more: Any,
) -> tuple[TrainResult, list[str]]:
    """A run to its end, and what it logged, which an exception carries as a note; `after` is called
    after each step, with their number in this process.
    """
    done = [0]

    class Bar:
        def __init__(self, label: str, total: Any, unit: str) -> None:
            self.steps = label.startswith("epoch")

        def __enter__(self) -> Callable[..., None]:
            return self.advance

        def advance(self, rows: int, note: object = None) -> None:
            if self.steps and 0 < rows <= BATCH:
                done[0] += 1
                after(done[0])

        def __exit__(self, *_: object) -> None:
            return None

    with training_lines() as lines, shown_by(Bar):
        try:
            return train(config(folder, tune, name, **more)), lines
        except BaseException as error:
            error.add_note("\n".join(lines))
            raise


def at(step: int, act: Callable[[], object]) -> Callable[[int], object]:
    return lambda done: act() if done == step else None


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.name} {name}": value
        for path in sorted(folder.glob("*.safetensors"))
        for name, value in load_file(path).items()
    }


def assert_same_run(first: Path, second: Path) -> None:
    """Bit-equal weights, and equal statistics but for the time that they took."""
    for name in ("best_model", "final_model"):
        one, other = tensors(first / name), tensors(second / name)
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == [], name
    stats = [read_stats(folder) for folder in (first, second)]
    assert stats[0].keys() == stats[1].keys()
    for name in stats[0].keys() - TIMES - {"config"}:
        assert stats[0][name] == stats[1][name], name
    assert [len(one["seconds"]) for one in stats] == [stats[0]["epochs"]] * 2


def read_stats(folder: Path) -> Any:
    return json.loads((folder / "training_stats.json").read_text())


def interrupt(number: int = signal.SIGTERM) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


# --- killed


def prepare_driver(folder: Path) -> None:
    """What a fixture does, in a process that forks: one that has run no tests, so that there are no
    threads in it.
    """
    torch.set_num_threads(1)
    gc.freeze()  # else each child's collector visits, and so copies, all that was imported
    registry._installed = lambda: CHANCY  # type: ignore[assignment]
    embedding.SEGMENT_ROWS = 32
    output.curves_png = lambda stats: b""  # type: ignore[attr-defined]


def fork(act: Callable[[], object]) -> int:
    """A child that does it and ends; its id."""
    if child := os.fork():
        return child
    try:
        act()
        os._exit(0)
    finally:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def end_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_thrice(folder: Path) -> None:
    """Each time at another kind of moment; then let the run end. In a whole run for both modes."""
    chance = random.Random(7)
    for tune in MODES:
        moments = [
            ("step", chance.randint(2, 12)),
            ("writing", 0),
            ("seconds", chance.uniform(0.05, 0.4)),
        ]
        chance.shuffle(moments)
        for kind, moment in [*moments, ("never", 0)]:
            reader, writer = os.pipe()
            more: dict[str, Any] = {
                "resume": True,
                "checkpoint_steps": 5,
                "after": lambda done, writer=writer: os.write(writer, b"."),
            }
            child = fork(partial(run, folder, tune, f"killed-{tune}", **more))
            os.close(writer)
            wait_for(kind, moment, reader, folder / f"killed-{tune}")
            if kind != "never":
                os.kill(child, signal.SIGKILL)
            os.close(reader)
            status = end_of(child)
            print(
                kind,
                moment,
                status,
                names(folder / f"killed-{tune}") if (folder / f"killed-{tune}").exists() else "",
                flush=True,
            )
            assert status == (0 if kind == "never" else -signal.SIGKILL)


def wait_for(kind: str, moment: float, reader: int, out: Path) -> None:
    """Until so many steps are done, until an epoch's checkpoint is being written, for so long, or
    until the run ends.
    """
    if kind == "seconds":
        time.sleep(moment)
    elif kind == "writing":
        stale = set(out.glob(".*.part"))
        while not set(out.glob(".checkpoint_epoch_*.part")) - stale:
            time.sleep(0)
    else:
        steps = 0
        while (kind == "never" or steps < moment) and (seen := os.read(reader, 1)):
            steps += len(seen)


def driven(act: Callable[[Path], None], folder: Path) -> str:
    """What it prints, in a process of its own."""
    command = [sys.executable, "-m", "tests.training.folder.test_resume", act.__name__, str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_run_killed_at_three_random_moments_ends_as_one_that_never_was(
    shop: Path, straight: dict[str, Path]
) -> None:
    print(driven(kill_thrice, shop))
    for tune in MODES:
        assert_same_run(straight[tune], shop / f"killed-{tune}")
        assert names(shop / f"killed-{tune}") == names(straight[tune])


MODES = ("full", "head") if WHOLE else ("full",)  # of a run that is killed thrice
OPERATIONS = ("replace", "rename", "unlink", "mkdir", "rmdir", "link")


def die_at(count: int, seen: list[str]) -> None:
    """From now on this process is killed before the operation of that number, from 1, on any file;
    the names of those seen are added.
    """

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*args: Any, **more: Any) -> Any:
            seen.append(name)
            if len(seen) == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)

        return operate

    for name in OPERATIONS:
        setattr(os, name, watched(name, getattr(os, name)))
    for module, name in ((torch, "save"), (checkpoint, "save_file")):
        setattr(module, name, watched(name, getattr(module, name)))


def start_over(folder: Path, name: str, count: int) -> None:
    """A run from a checkpoint in its own folder, killed before an operation on a file; at 0 it
    ends, and operations.json has what it did to files, in order.
    """
    seen: list[str] = []
    die_at(count, seen)
    run(folder, "full", name, **over_itself(folder, name))
    done = json.dumps(seen)
    (folder / "operations.json").write_text(done)


def over_itself(folder: Path, name: str) -> dict[str, Any]:
    return {
        "epochs": 2,
        "checkpoint_steps": 4,
        "keep_checkpoints": 1,
        "model_name": str(folder / name / "checkpoint_epoch_2"),
    }


def chosen_moments(operations: list[str]) -> list[int]:
    """Numbers from 1: every thirty-second operation, and the first of each kind; all in a whole run."""
    numbers = range(1, len(operations) + 1)
    if WHOLE:
        return list(numbers)
    firsts = {operations.index(kind) + 1 for kind in operations}
    return sorted({*numbers[::32], *firsts})


def kill_everywhere(folder: Path) -> None:
    """A run that starts where an earlier one is, is killed before operations on files from its
    first to its last, each time again, and resumed.
    """
    run(folder, "full", "earlier", epochs=2)
    moments = [0]  # where it is not killed
    for count in moments:
        name = f"killed-{count}"
        shutil.copytree(folder / "earlier", folder / name)
        killed = end_of(fork(partial(start_over, folder, name, count)))
        if count == 0:
            assert killed == 0
            moments += chosen_moments(json.loads((folder / "operations.json").read_text()))
            continue
        assert killed == -signal.SIGKILL, count
        assert end_of(fork(partial(go_on, folder, name))) == 0, count
        print(count, flush=True)


def go_on(folder: Path, name: str) -> None:
    """With --resume, but where it finds the earlier run alone, and says so."""
    more = over_itself(folder, name)
    try:
        run(folder, "full", name, **more, resume=True)
    except InputError as error:
        assert "`model_name` is" in str(error)  # noqa: PT017 (in a child)
        run(folder, "full", name, **more)


@pytest.mark.slow
def test_a_run_killed_before_any_operation_on_a_file_ends_as_one_that_never_was(shop: Path) -> None:
    lines = driven(kill_everywhere, shop).splitlines()
    print("\n".join(lines))
    assert len(json.loads((shop / "operations.json").read_text())) > 40
    assert len(lines) >= len(OPERATIONS)
    straight = shop / "killed-0"
    assert names(straight) == [
        "best_model",
        "checkpoint_epoch_2",
        "final_model",
        "run.yaml",
        "started_from",
        "training_curves.png",
        "training_stats.json",
    ]
    for count in map(int, lines):
        assert_same_run(straight, shop / f"killed-{count}")
        # drawn last, when all else is done
        found = {name for name in names(shop / f"killed-{count}") if "training_curves" not in name}
        assert found == set(names(straight)) - {"training_curves.png"}, count


# --- interrupted


@pytest.mark.parametrize("tune", ["full", "head"])
def test_an_interrupted_run_finishes_its_step_and_goes_on_from_there(
    shop: Path, straight: dict[str, Path], tune: str
) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        run(shop, tune, "again", after=at(4, interrupt()))
    out = shop / "again"
    assert (
        caught.value.__notes__[0].splitlines()[-1]
        == f"interrupted in epoch 1 after 4 of 6 steps: {out} holds checkpoint_last; the same"
        " command with --resume goes on from there"
    )
    assert names(out) == ["checkpoint_last"]
    with pytest.raises(KeyboardInterrupt):
        # one step into the second epoch
        run(shop, tune, "again", after=at(3, interrupt(signal.SIGINT)), resume=True, num_workers=0)
    note = json.loads((out / "checkpoint_last" / "training_state.json").read_text())
    assert (note["epoch"], note["step"]) == (2, 1)
    _, said = run(shop, tune, "again", resume=True, num_workers=3)
    assert f"resuming the run in {out / 'checkpoint_last'}: in epoch 2 of 3, 1 step done" in said
    assert_same_run(straight[tune], out)
    assert names(out) == names(straight[tune])


# --- what is refused, and what is said


@pytest.fixture
def begun(shop: Path) -> Path:
    """An unfinished run in out, one epoch and a step old."""
    with pytest.raises(KeyboardInterrupt):
        run(shop, "head", "out", after=at(STEPS + 1, interrupt()))
    return shop


def test_options_that_alter_the_result_are_refused_with_both_values(begun: Path) -> None:
    asked: list[tuple[dict[str, Any], str]] = [
        (
            {"batch_size": 8},
            (
                r"`resume`: `batch_size` is 8, but the run in .*out was started with 36; give that,"
                r" or start again without `resume`"
            ),
        ),
        ({"seed": 1}, "`seed` is 1, but the run in .* was started with 0"),
        ({"early_stopping": 2}, "`early_stopping` is 2, but .* with its default"),
        (
            {"epochs": 9},
            (
                r"`epochs` is 9, but .* with 3; the rates fall over all epochs. For more of them"
                r" start from final_model with `model_name`"
            ),
        ),
    ]
    for options, message in asked:
        with pytest.raises(InputError, match=message):
            run(begun, "head", "out", resume=True, **options)
    with pytest.raises(InputError, match=r"`learning_rate` is 0.01, but .* with 0.0"):
        run(begun, "full", "out", resume=True)
    with (begun / "val.csv").open("a") as file:
        file.write("0.png,red shirt,1\n")
    with pytest.raises(
        InputError,
        match=(
            r"`resume`: .*train.csv or .*val.csv has other rows than the run in .*out was started"
            r" with; restore them"
        ),
    ):
        run(begun, "head", "out", resume=True)
    assert names(begun / "out" / "checkpoint_last") == sorted(
        [*names(begun / "out" / "best_model"), "training_state.json", "training_state.pt"]
    )


def test_a_run_that_was_begun_before_digests_were_made_of_keys_is_recognised_by_its_rows() -> None:
    rows = [
        Row(2, "a.png", "red", 1, {}, None),
        Row(3, "b.png", "blue é", 1, {}, None),
        Row(4, "a.png", "blue é", 0, {}, None),
    ]
    # of these rows, by that version
    then = ResumePlan(
        finished={"rows_digest": "c3ca17390a5142ead9c537d16098bf459c2215a09ac4fc96084a909dc746ae2e"}
    )
    config, alone = (
        TrainConfig(train_csv="t.csv", image_base_path="photos"),
        Processes(torch.device("cpu")),
    )
    for chosen in (rows, rows[:2]):
        sets = [PairSet.from_rows("t.csv", chosen, "photos")]
        digest = rows_digest(sets, "photos", alone)
        with (
            nullcontext()
            if chosen == rows
            else pytest.raises(InputError, match=r"t\.csv has other rows than the run in")
        ):
            then.check_rows(digest, sets, config)
        ResumePlan(finished={"rows_digest": digest}).check_rows(digest, sets, config)


def test_what_does_not_alter_the_result_may_differ_and_a_finished_run_is_returned(
    begun: Path, straight: dict[str, Path]
) -> None:
    (begun / "train.csv").rename(begun / "moved.csv")
    free: dict[str, Any] = {
        "num_workers": 0,
        "keep_checkpoints": 2,
        "checkpoint_steps": 3,
        "train_csv": str(begun / "moved.csv"),
        "cache": str(begun / "elsewhere"),
    }
    result, _ = run(begun, "head", "out", resume=True, **free)
    assert_same_run(straight["head"], begun / "out")
    assert [name for name in names(begun / "out") if "epoch" in name] == [
        "checkpoint_epoch_2",
        "checkpoint_epoch_3",
    ]
    assert not list((begun / "out").glob("*/training_state.*"))
    again, said = run(begun, "head", "out", resume=True, **free)
    assert said == [f"the run in {begun / 'out'} is finished: there is nothing to resume"]
    assert (again.best_model, again.stats["val_losses"]) == (
        result.best_model,
        result.stats["val_losses"],
    )
    with pytest.raises(InputError, match="`seed` is 5"):
        run(begun, "head", "out", resume=True, seed=5, **free)


def test_with_nothing_to_resume_a_run_begins(shop: Path) -> None:
    _, said = run(shop, "head", "out", resume=True, epochs=1)
    assert said[0] == f"--resume: there is no unfinished run in {shop / 'out'}, so one is started"


def test_a_run_that_is_begun_beside_an_unfinished_one_says_so_and_costs_nothing_in_its_first_epoch(
    begun: Path,
) -> None:
    before = names(begun / "out")
    with pytest.raises(KeyboardInterrupt) as caught:
        run(begun, "head", "out", after=at(2, interrupt()), seed=3)
    said = caught.value.__notes__[0].splitlines()
    assert (
        said[0]
        == f"{begun / 'out'} holds an unfinished run (in epoch 2 of 3, 1 step done): --resume would"
        " go on with it; without, it is removed after the first epoch"
    )
    assert said[-1] == "interrupted in epoch 1 after 2 of 6 steps: nothing has been written"
    assert names(begun / "out") == before
    run(begun, "head", "out", resume=True)


def test_an_interruption_while_validating_keeps_the_epoch(
    shop: Path, straight: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run_module.Run._validate
    calls = 0

    def validate(self: run_module.Run) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            interrupt()()
        return real(self)

    monkeypatch.setattr(run_module.Run, "_validate", validate)
    with pytest.raises(KeyboardInterrupt) as caught:
        run(shop, "full", "out")
    assert "interrupted in epoch 2 after 6 of 6 steps" in caught.value.__notes__[0]
    run(shop, "full", "out", resume=True)
    assert_same_run(straight["full"], shop / "out")


def test_early_stopping_counts_on(shop: Path) -> None:
    options: dict[str, Any] = {
        "epochs": 12,
        "early_stopping": 2,
        "best_metric": "loss",
        "head_learning_rate": 5e-2,
    }
    result, said = run(shop, "head", "straight", **options)
    assert any(line.startswith("stopped early") for line in said)
    with pytest.raises(KeyboardInterrupt):
        run(
            shop,
            "head",
            "out",
            after=at(STEPS * (result.stats["epochs"] - 1) + 1, interrupt()),
            **options,
        )
    run(shop, "head", "out", resume=True, **options)
    assert_same_run(shop / "straight", shop / "out")


def test_other_frozen_weights_are_refused(shop: Path) -> None:
    run(shop, "head", "base", epochs=1)
    more: dict[str, Any] = {"backbone": str(shop / "base" / "best_model")}
    with pytest.raises(KeyboardInterrupt):
        run(shop, "head", "out", after=at(3, interrupt()), **more)
    towers = shop / "base" / "best_model" / "towers.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(towers).items()}, towers)
    meta = json.loads((shop / "base" / "best_model" / "mismatch.json").read_text())
    (shop / "base" / "best_model" / "mismatch.json").write_text(
        json.dumps(sealed(meta | {"files": {}}))
    )
    with pytest.raises(
        CheckpointError,
        match=(
            r"`resume`: the weights of .*best_model are not those that the run in .*out was started"
            r" with; restore them"
        ),
    ):
        run(shop, "head", "out", resume=True, **more)


# --- no room


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
@pytest.mark.parametrize(
    "file",
    [
        "towers.safetensors",
        "classification_head.safetensors",
        "mismatch.json",
        "training_state.pt",
        "training_state.json",
    ],
)
def test_a_full_disk_is_one_line_and_the_checkpoint_before_stays_whole(
    shop: Path, straight: dict[str, Path], monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """What the third epoch writes under that name goes to the kernel's own full device."""
    place = "checkpoint_epoch_3"
    real_open, real_save = Path.open, save_file

    def full(path: Any) -> bool:
        return place in str(path) and file in Path(path).name

    def save(tensors: Any, path: Any, **more: Any) -> None:
        # as safetensors says it of a full tmpfs; it must not see the device, which it would replace
        # by a file
        if full(path):
            raise SafetensorError(
                "Error while serializing: I/O error: No space left on device (os error 28)"
            )
        real_save(tensors, path, **more)

    monkeypatch.setattr(
        Path,
        "open",
        lambda self, *args, **more: real_open(
            Path("/dev/full") if full(self) else self, *args, **more
        ),
    )
    monkeypatch.setattr(checkpoint, "save_file", save)
    monkeypatch.setattr(backbones, "save_file", save)
    with pytest.raises(CheckpointError) as caught:
        run(shop, "full", "out")
    assert str(caught.value).endswith(
        "No space left on device; free some, then go on with `resume`"
    )
    assert place in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    out = shop / "out"
    assert [name for name in names(out) if "." not in name] == [
        "best_model",
        "checkpoint_epoch_1",
        "checkpoint_epoch_2",
    ]
    assert not list(out.glob(".*"))
    monkeypatch.setattr(registry, "_installed", lambda: CHANCY)
    run(shop, "full", "out", resume=True)
    assert_same_run(straight["full"], out)


if __name__ == "__main__":
    prepare_driver(Path(sys.argv[2]))
    {"kill_thrice": kill_thrice, "kill_everywhere": kill_everywhere}[sys.argv[1]](Path(sys.argv[2]))
