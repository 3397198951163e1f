"""--resume: a run that was killed, interrupted or out of room ends as one that never was; what doesn't fit is refused in words."""

from __future__ import annotations

import csv
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mismatch.backbones import registry
from mismatch.backbones.base import Backbone
from mismatch.runtime import cache as cache_module
from mismatch.training import TrainConfig, TrainResult, train

TIMES = {"seconds", "rows_per_second"}
EPOCHS = 4  # of 14 steps of 16 rows
STEPS = 14


class Chancy(Backbone):
    """Towers with all that has a memory or draws: batch norm and dropout."""

    image_dim, text_dim, shared_space = 12, 7, False
    logit_scale = logit_bias = zero_shot_threshold = None

    def __init__(self, specs: Any, model_id: str) -> None:
        super().__init__()
        (self.image_spec, self.text_spec), self.model_id = specs, model_id
        self.image_tower, self.text_tower = nn.Sequential(nn.Linear(3, 12), nn.BatchNorm1d(12), nn.Dropout(0.2)), nn.Embedding(11, 7)
        if Path(model_id).is_dir():
            self.load_state_dict(load_file(Path(model_id) / "towers.safetensors"))

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        return self.image_tower(pixel_values.mean((2, 3)))  # type: ignore[no-any-return]

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return (self.text_tower(input_ids) * attention_mask[..., None]).sum(1)

    def save_pretrained(self, directory: Path) -> None:
        save_file(
            {name: tensor.half() for name, tensor in self.state_dict().items()}, directory / "towers.safetensors"
        )  # not exact: a state must not rely on it


def installed(specs: Any) -> registry.Registry:
    family = registry.BackboneFamily("chancy", lambda model_id: Chancy(specs, model_id), ("small",), "small", "", 1, "none", "0", "chancy", "none")
    return registry.Registry({"chancy": family}, ())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shop(tmp_path: Path, colour_engine: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 noisy photos of one colour each, train.csv of 216 and val.csv of 24 rows; the family `chancy` is installed."""
    noise = np.random.default_rng(0)
    for i in range(60):
        pixels = noise.integers(0, 90, (10, 10, 3))
        pixels[..., i % 3] += 120
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{i}.png")
    things = ("shirt", "shoe", "bag", "red")
    rows = [(f"{i}.png", f"{colour} {things[k]}", int(k % 3 == i % 3)) for i in range(60) for k, colour in enumerate(("red", "green", "blue", "grey"))]
    for name, chosen in (("train.csv", rows[:216]), ("val.csv", rows[216:])):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows([("image_path", "text", "label"), *chosen])
    engine = colour_engine()
    specs = engine.image_spec, engine.text_spec
    (tmp_path / "specs").write_bytes(pickle.dumps(specs))
    monkeypatch.setattr(registry, "_installed", lambda: installed(specs))
    return tmp_path


class Killed(BaseException):
    """What a test raises to end a run at once, without any farewell."""


def config(folder: Path, tune: str, name: str, **more: Any) -> TrainConfig:
    common = {"train_csv": str(folder / "train.csv"), "val_csv": str(folder / "val.csv"), "image_base_path": str(folder), "backbone": "chancy", "tune": tune}
    common |= {"output_dir": str(folder / name), "cache": str(folder / f"cache-{name}"), "device": "cpu", "num_workers": 1, "epochs": EPOCHS, "batch_size": 16}
    rates = {"head_learning_rate": 1e-2} | ({} if tune == "head" else {"learning_rate": 1e-2})
    return TrainConfig(**common | rates | more)  # type: ignore[arg-type]


def run(folder: Path, tune: str, name: str, *, after: Callable[[int], object] = int, **more: Any) -> tuple[TrainResult, list[str]]:
    """A run to its end, and what it said, which an exception carries as a note; `after` is called after each step, with their number in this process."""
    said: list[str] = []
    done = [0]

    class Bar:
        def __init__(self, label: str, total: int, unit: str) -> None:
            self.steps = label.startswith("epoch")

        def __enter__(self) -> Callable[[int], None]:
            return self.advance

        def advance(self, rows: int) -> None:
            if self.steps and 0 < rows <= 16:
                done[0] += 1
                after(done[0])

        def __exit__(self, *_: object) -> None:
            return None

    try:
        return train(config(folder, tune, name, **more), report=said.append, progress=Bar), said
    except BaseException as error:
        error.add_note("\n".join(said))
        raise


def at(step: int, act: Callable[[], object]) -> Callable[[int], object]:
    return lambda done: act() if done == step else None


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {f"{path.name} {name}": value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


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


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def interrupt(number: int = signal.SIGTERM) -> Callable[[], object]:
    return lambda: os.kill(os.getpid(), number)


# --- killed -------------------------------------------------------------------------------------------------------------------------------------------


def drive(folder: Path, tune: str, seed: int) -> None:
    """In a process of its own, which forks a run, kills it three times, each at another kind of moment, and lets the fourth end."""
    torch.set_num_threads(1)
    specs = pickle.loads((folder / "specs").read_bytes())
    registry._installed = lambda: installed(specs)  # type: ignore[assignment]
    cache_module.SEGMENT_ROWS = 32
    chance = random.Random(seed)
    moments = [("step", chance.randint(2, 12)), ("writing", chance.randint(1, 3)), ("seconds", chance.uniform(0.05, 0.4))]
    chance.shuffle(moments)
    for kind, moment in [*moments, ("never", 0)]:
        reader, writer = os.pipe()
        if not (child := os.fork()):
            _be_the_run(folder, tune, writer)
        os.close(writer)
        _wait_for(kind, moment, reader, folder / "killed")
        if kind != "never":
            os.kill(child, signal.SIGKILL)
        os.close(reader) if kind != "never" else None
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(kind, moment, status, sorted(path.name for path in (folder / "killed").iterdir()), flush=True)
        assert status in ((0,) if kind == "never" else (-signal.SIGKILL, 0))


def _be_the_run(folder: Path, tune: str, writer: int) -> None:
    try:
        more = {"resume": True, "checkpoint_steps": 5}
        run(folder, tune, "killed", after=lambda done: os.write(writer, b"."), **more)
        os._exit(0)
    finally:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        os._exit(1)


def _wait_for(kind: str, moment: float, reader: int, out: Path) -> None:
    """Until so many steps are done, until that epoch's checkpoint is being written, for so long, or until the run ends."""
    if kind == "seconds":
        time.sleep(moment)
    elif kind == "writing":
        os.set_blocking(reader, False)
        while not list(out.glob(".checkpoint_epoch_*.part")) and not _ended(reader):
            pass
    else:
        steps = 0
        while (kind == "never" or steps < moment) and (seen := os.read(reader, 1)):
            steps += len(seen)


def _ended(reader: int) -> bool:
    try:
        return os.read(reader, 4096) == b""
    except BlockingIOError:
        return False


@pytest.mark.parametrize("tune", ["full", "head"])
def test_a_run_killed_three_times_ends_as_one_that_never_was(shop: Path, tune: str) -> None:
    done = subprocess.run([sys.executable, __file__, str(shop), tune, "7"], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    run(shop, tune, "straight")
    assert_same_run(shop / "straight", shop / "killed")
    assert names(shop / "killed") == names(shop / "straight")


# --- interrupted --------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tune", ["full", "head"])
def test_an_interrupted_run_finishes_its_step_and_goes_on_from_there(shop: Path, tune: str) -> None:
    run(shop, tune, "straight")
    with pytest.raises(KeyboardInterrupt) as caught:
        run(shop, tune, "again", after=at(5, interrupt()))
    out = shop / "again"
    assert caught.value.__notes__[0].splitlines()[-1] == (
        f"interrupted in epoch 1 after 5 of 14 steps: {out} holds checkpoint_last; the same command with --resume goes on from there"
    )
    assert names(out) == ["checkpoint_last"]
    with pytest.raises(KeyboardInterrupt):
        run(shop, tune, "again", after=at(10, interrupt(signal.SIGINT)), resume=True, num_workers=0)  # one step into the second epoch
    note = json.loads((out / "checkpoint_last" / "training_state.json").read_text())
    assert (note["epoch"], note["step"]) == (2, 1)
    _, said = run(shop, tune, "again", resume=True, num_workers=3)
    assert f"resuming the run in {out / 'checkpoint_last'}: in epoch 2 of 4, 1 steps done" in said
    assert_same_run(shop / "straight", out)
    assert names(out) == names(shop / "straight")


if __name__ == "__main__":
    drive(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
