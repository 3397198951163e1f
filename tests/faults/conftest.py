"""What injects faults: commands in processes of their own whose system calls fail as asked, small
disks, a small shop, a model of a few megabytes.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.files import hash_of, hashes, tree
from tests.support.fork_server import Command, ForkServer
from tests.support.pictures import tinted
from tests.support.processes import PATIENCE

HERE = Path(__file__).resolve().parent
# rows that are committed together, so that a few rows are many windows
SMALL_WINDOW = "from mismatch.runtime import pipeline; pipeline.WINDOW = 4\n"
HEAVY = (
    *("matplotlib.pyplot", "onnx", "onnxscript", "open_clip", "transformers"),
    *("mismatch.cli", "mismatch.export.onnx", "mismatch.training.trainer"),
)
COLOURS = ("red", "green", "blue")
TIMES = {
    "seconds",
    "rows_per_second",
    "val_seconds",
    "elapsed_seconds",
    "embedding_seconds",
    "config",
}
# a table of predictions, which a run may replace
OLDER = "image_path,text,similarity_score,threshold,is_match,prediction,status\n"
LEFT = (".part", ".lock", ".tmp")  # in names of what nobody may leave behind


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder has a row in the table of faults."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("fault") is None:
            raise pytest.UsageError(
                f"{item.nodeid} has no row in the table: mark it with pytest.mark.fault(what,"
                " where, promise)"
            )


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def refused(self, *words: str, code: int = 2) -> None:
        """It must have ended in one line that holds these words, and without a traceback."""
        lines = self.err.strip().splitlines()
        assert self.code == code, self
        assert [line for line in lines if line.startswith("mismatch: error: ")] == lines[-1:], self
        assert "unexpected" not in lines[-1], self
        assert "Traceback" not in self.err, self
        for word in words:
            assert word in lines[-1], self

    def fine(self) -> Done:
        """It must have succeeded."""
        assert self.code == 0, self
        return self


class Running:
    """A command that was started."""

    def __init__(self, commands: Commands, pid: int, out: Path, err: Path) -> None:
        self.commands, self.pid, self.out, self.err = commands, pid, out, err

    def kill(self, number: int = signal.SIGKILL) -> Running:
        """Send it a signal."""
        os.kill(self.pid, number)
        return self

    def wait(self) -> Done:
        """Until it ends."""
        code = self.commands.server.wait(self.pid)
        return Done(
            code, self.out.read_text(errors="replace"), self.err.read_text(errors="replace")
        )

    def until(self, holds: Callable[[], object]) -> Running:
        """Wait for something that it does."""
        began = time.monotonic()
        while not holds():
            if (
                not Path(f"/proc/{self.pid}").exists()
                or self.state == "Z"
                or time.monotonic() - began > PATIENCE
            ):
                raise AssertionError(f"it ended before that: {self.wait()}")
            time.sleep(0.0005)
        return self

    @property
    def state(self) -> str:
        """As `ps` has it: Z where it has ended."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][:1]


class Commands:
    """Starts `mismatch` in processes of their own, each with its fault."""

    def __init__(self, shim: Path, scratch: Path) -> None:
        self.shim, self.scratch, self.count = shim, scratch, 0
        self.fresh = os.environ | {
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "LD_PRELOAD": str(shim),
            "PYTHONWARNINGS": "ignore",
        }
        self.server = ForkServer(HEAVY, shim=shim, env=self.fresh)

    def start(
        self,
        folder: Path,
        *args: object,
        fault: str = "",
        env: dict[str, str] | None = None,
        limits: dict[str, int] | None = None,
        prelude: str = "",
        out: str | Path | None = None,
    ) -> Running:
        """`fault`: see faults.c; `limits`: by their names in `resource`; `prelude`: Python that
        runs before the command; `out`: its standard output.
        """
        self.count += 1
        streams = [self.scratch / f"{self.count}.{name}" for name in ("out", "err")]
        for stream in streams:
            stream.touch()
        command = Command(
            args=[str(arg) for arg in args],
            out=str(out or streams[0]),
            err=str(streams[1]),
            env=self.fresh | (env or {}),
            cwd=str(folder),
            prelude=SMALL_WINDOW + prelude,
            fault=fault,
            limits=limits or {},
        )
        return Running(self, self.server.start(command), *streams)

    def run(self, folder: Path, *args: object, **how: Any) -> Done:
        """A command to its end."""
        return self.start(folder, *args, **how).wait()

    def really(
        self,
        folder: Path,
        *args: object,
        prelude: str = "",
        env: dict[str, str] | None = None,
        **how: Any,
    ) -> subprocess.CompletedProcess[str]:
        """A command as a new process of the interpreter, for what is decided when that begins."""
        command = [
            sys.executable,
            "-c",
            (
                f"{SMALL_WINDOW}{prelude}\nimport sys; from mismatch.cli import main;"
                " main(sys.argv[1:])"
            ),
            *map(str, args),
        ]
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
        settings = {
            "cwd": folder,
            "text": True,
            "encoding": "utf-8",
            "errors": "replace",
            "timeout": PATIENCE,
        }
        return subprocess.run(command, env=self.fresh | (env or {}), **settings | how)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """faults.c as a library; skips where nothing compiles it or nothing preloads it."""
    compiler = next(
        (found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None
    )
    if compiler is None or sys.platform != "linux":
        pytest.skip(
            "faults are injected by a preloaded library, which needs Linux and a C compiler"
        )
    library = tmp_path_factory.mktemp("shim") / "faults.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-o", library, HERE / "faults.c", "-ldl"],
        check=True,
        capture_output=True,
    )
    return library


@pytest.fixture(scope="session")
def mismatch_command(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Runs commands."""
    commands = Commands(shim, tmp_path_factory.mktemp("streams"))
    yield commands
    commands.server.close()


@dataclass(frozen=True)
class Model:
    """One small model in all forms."""

    backbone: Path  # in open_clip's format, random weights
    checkpoint: Path
    bundle: Path


SIZES = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


def draw(folder: Path) -> None:
    """Twelve noisy pictures, rows.csv of 30 rows to predict, train.csv of 48 and val.csv of 24
    labelled ones.
    """
    chance = np.random.default_rng(0)
    (folder / "images").mkdir()
    for i in range(12):
        tinted(chance, i, 40).save(folder / "images" / f"{i:02}.png")
    texts = ("a {} shirt", "{} shoes, Größe 42", "two {} bags")
    rows = [
        (f"images/{i % 12:02}.png", texts[i % 3].format(COLOURS[i % 2]) + f" {i}")
        for i in range(30)
    ]
    labelled = [
        (
            f"images/{i % 12:02}.png",
            texts[i % 3].format(COLOURS[i // 12 % 3]),
            int(i % 3 == i // 12 % 3),
        )
        for i in range(72)
    ]
    for name, header, chosen in (
        ("rows.csv", ("image_path", "text"), rows),
        ("train.csv", ("image_path", "text", "label"), labelled[:48]),
        ("val.csv", ("image_path", "text", "label"), labelled[48:]),
        ("all.csv", ("image_path", "text", "label"), labelled),
    ):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *chosen])


@pytest.fixture(scope="session")
def model(mismatch_command: Commands, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model, trained for an epoch, and its bundle."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("model")
    draw(folder)
    (folder / "backbone").mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = {
            name: tensor.contiguous()
            for name, tensor in open_clip.CLIP(**SIZES).state_dict().items()
        }
    save_file(
        weights, folder / "backbone" / "open_clip_model.safetensors", metadata={"format": "pt"}
    )
    (folder / "backbone" / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": SIZES, "preprocess_cfg": {"size": 32}})
    )
    found = Model(folder / "backbone", folder / "run" / "best_model", folder / "bundle")
    mismatch_command.run(
        folder, *train_args(found, "full"), "--epochs", 1, "--output-dir", "run"
    ).fine()
    mismatch_command.run(
        folder, "export-onnx", "--model", found.checkpoint, "--output", found.bundle
    ).fine()
    return found


def train_args(model: Model, tune: str) -> list[object]:
    """Two epochs of three steps on train.csv; the folder is for the caller to name."""
    data = [
        "--train-csv",
        "train.csv",
        "--val-csv",
        "val.csv",
        "--backbone",
        "openclip",
        "--model-name",
        model.backbone,
    ]
    how = [
        "--tune",
        tune,
        "--epochs",
        2,
        "--batch-size",
        16,
        "--device",
        "cpu",
        "--threads",
        1,
        "--num-workers",
        1,
        "--precision",
        "fp32",
    ]
    return ["train", *data, *how, "--cache", "cache"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with pictures and rows."""
    draw(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Cases:
    """What tests do, and what must come of it."""

    commands: Commands
    model: Model
    whole: bytes  # what an undisturbed prediction of rows.csv writes
    trained: dict[str, Any]  # an undisturbed run's weights and statistics, by mode

    def predict_args(self, output: str = "out.csv", *more: object) -> list[object]:
        return [
            "predict",
            "--model",
            self.model.bundle,
            "--csv",
            "rows.csv",
            "--threads",
            1,
            "--num-workers",
            2,
            "--output",
            output,
            *more,
        ]

    def predict(self, shop: Path, *more: object, output: str = "out.csv", **how: Any) -> Done:
        return self.commands.run(shop, *self.predict_args(output, *more), **how)

    def start_predict(
        self, shop: Path, *more: object, output: str = "out.csv", **how: Any
    ) -> Running:
        return self.commands.start(shop, *self.predict_args(output, *more), **how)

    def train(self, shop: Path, tune: str = "full", *more: object, **how: Any) -> Done:
        return self.start_train(shop, tune, *more, **how).wait()

    def start_train(self, shop: Path, tune: str = "full", *more: object, **how: Any) -> Running:
        return self.commands.start(
            shop, *train_args(self.model, tune), "--output-dir", "run", *more, **how
        )

    @property
    def quick_export(self) -> str:
        """A prelude that takes the graphs from the bundle that is there, where how they are traced
        does not matter: that takes ten seconds.
        """
        traced = (
            f"lambda detector, folder: [shutil.copyfile({str(self.model.bundle)!r} + '/' + name,"
            " folder / name) for name in onnx.GRAPHS]"
        )
        return f"import shutil; from mismatch.export import onnx; onnx._write_graphs = {traced}\n"

    def check_predicted(self, shop: Path, output: str = "out.csv") -> None:
        """The same bytes as undisturbed, and nothing else was left."""
        assert (shop / output).read_bytes() == self.whole
        nothing_left(shop)

    def resumed(self, shop: Path, *more: object, **how: Any) -> None:
        """Going on gives what an undisturbed run gives."""
        self.predict(shop, "--resume", *more, **how).fine()
        self.check_predicted(shop)

    def check_trained(self, shop: Path, tune: str = "full") -> None:
        """The same weights, bit for bit, and the same statistics but for times; nothing else was
        left.
        """
        assert digest_of_run(shop / "run") == self.trained[tune]
        nothing_left(shop)

    def train_resumed(self, shop: Path, tune: str = "full", *more: object, **how: Any) -> None:
        self.train(shop, tune, "--resume", *more, **how).fine()
        self.check_trained(shop, tune)


def nothing_left(folder: Path) -> None:
    """No temporary file, no lock and no half-written file under any name that we make."""
    assert [
        str(path) for path in folder.rglob("*") if any(part in path.name for part in LEFT)
    ] == []


def digest_of_run(folder: Path) -> dict[str, Any]:
    """What must be equal in two runs."""
    weights = {
        str(path.relative_to(folder)): hash_of(path)
        for name in ("best_model", "final_model")
        for path in (folder / name).glob("*.safetensors")
    }
    stats = json.loads((folder / "training_stats.json").read_text())
    return {
        "weights": weights,
        "stats": {name: value for name, value in stats.items() if name not in TIMES},
        "names": tree(folder),
    }


@pytest.fixture(scope="session")
def cases(
    mismatch_command: Commands, model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Cases:
    """Commands, a model and what undisturbed runs give."""
    folder = tmp_path_factory.mktemp("undisturbed")
    draw(folder)
    found = Cases(mismatch_command, model, b"", {})
    found.predict(folder).fine()
    for tune in ("full", "head"):
        found.train(folder, tune).fine()
        found.trained[tune] = digest_of_run(folder / "run")
        shutil.rmtree(folder / "run")
    return Cases(mismatch_command, model, (folder / "out.csv").read_bytes(), found.trained)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts an empty disk of so many bytes as `disk` in the folder; skips where this
    user may not.
    """
    place = tmp_path / "disk"

    def mount(size: int) -> Path:
        place.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True
        ).returncode:
            place.rmdir()
            pytest.skip("only root mounts disks, and some containers let nobody")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture(scope="session")
def files() -> Callable[[Path], dict[str, str]]:
    """The hash of each file in a folder."""
    return hashes


@pytest.fixture(scope="session")
def clean() -> Callable[[Path], None]:
    """Fails where a temporary file or a lock was left in a folder."""
    return nothing_left
