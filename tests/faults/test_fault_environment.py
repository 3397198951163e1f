"""Clocks that jump, memory, handles and threads that run out, and surroundings that are not as
usual.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SAME = "the same bytes as an undisturbed run"
KEPT = "one line, done rows are kept; --resume gives the same bytes"


def clock(days: float) -> str:
    """The system's clock is so many days off."""
    jump = (
        f"import time\nreal, real_ns = time.time, time.time_ns\ntime.time = lambda: real() + {days}"
        " * 86400\n"
    )
    return jump + f"time.time_ns = lambda: real_ns() + int({days} * 86400e9)\n"


@pytest.mark.fault(
    "the clock is set back a year between two checkpoints",
    "train",
    "--resume goes on from the newest one still: the same weights",
)
def test_the_clock_is_set_back_while_training(cases: Any, shop: Path) -> None:
    more = ("--checkpoint-steps", 1)
    assert (
        cases.train(shop, "full", *more, fault="rename:run/training_stats.json:1:1:kill").code == -9
    )
    assert (
        cases.train(
            shop,
            "full",
            "--resume",
            *more,
            prelude=clock(-365),
            fault="change:run/.checkpoint_epoch_2:1:1:kill",
        ).code
        == -9
    )
    assert (shop / "run" / "checkpoint_epoch_1" / "training_state.json").exists()
    done = cases.train(shop, "full", "--resume", *more, prelude=clock(-700)).fine()
    assert "resuming the run in run/checkpoint_last: in epoch 2 of 2, 2 steps done" in done.out
    cases.check_trained(shop)


@pytest.mark.fault(
    "the clock is set forward twenty years, then back",
    "train",
    "the same weights as an undisturbed run",
)
def test_the_clock_is_set_forward(cases: Any, shop: Path) -> None:
    assert (
        cases.train(shop, prelude=clock(7300), fault="change:run/.checkpoint_epoch_2:2:1:kill").code
        == -9
    )
    cases.train_resumed(shop)


@pytest.mark.fault(
    "the clock is set back between a run and its continuation, with a cache",
    "predict --resume --cache",
    SAME,
)
def test_the_clock_is_set_back_while_predicting(cases: Any, shop: Path) -> None:
    assert cases.predict(shop, "--cache", "cache", fault="change:out.csv.part:20:1:kill").code == -9
    cases.resumed(shop, "--cache", "cache", prelude=clock(-3650))


@pytest.mark.fault(
    "no more memory is to be had, at six limits (RLIMIT_AS)",
    "predict",
    "one line, or a library's own abort; nothing is half-written, and --resume gives the same"
    " bytes",
)
def test_memory_runs_out_while_predicting(cases: Any, shop: Path) -> None:
    used = (
        "import onnxruntime, numpy, resource, PIL.Image, tokenizers, mismatch.cli\nsize ="
        " int(open('/proc/self/statm').read().split()[0])\n"
    )
    ended = []
    for megabytes in (0, 8, 20, 30, 50, 70):
        limit = (
            used
            + f"resource.setrlimit(resource.RLIMIT_AS, (size * resource.getpagesize() + {megabytes}"
            " * 2**20,) * 2)\n"
        )
        done = cases.commands.really(
            shop, *cases.predict_args("out.csv", "--resume"), prelude=limit
        )
        ended.append(done.returncode)
        assert done.returncode in (0, 2, -signal.SIGABRT), done  # a library in Rust aborts
        assert "Traceback" not in done.stderr
        assert done.returncode != 2 or any(
            words in done.stderr.splitlines()[-1] for words in ("memory", "bad_alloc", "new thread")
        ), done
        assert not (shop / "out.csv").exists() or (shop / "out.csv").read_bytes() == cases.whole
    assert ended.count(2) >= 2
    cases.resumed(shop)


@pytest.mark.fault("no memory for an image", "predict", f"{KEPT}: the image is not called damaged")
def test_no_memory_for_an_image(cases: Any, shop: Path) -> None:
    greedy = "from mismatch.runtime import open_image\nreal = open_image._load\ncalls = [0]\n"
    greedy += (
        "def load(*a):\n    calls[0] += 1\n    if calls[0] == 9:\n        raise MemoryError\n   "
        " return real(*a)\nopen_image._load = load\n"
    )
    cases.predict(shop, prelude=greedy).refused(
        "can't be decoded: there is not enough memory; use a smaller --batch-size or fewer"
        " --num-workers"
    )
    cases.resumed(shop)


@pytest.mark.fault(
    "no memory in the middle of an epoch", "train", "one line; --resume gives the same weights"
)
def test_memory_runs_out_while_training(cases: Any, shop: Path) -> None:
    greedy = "from mismatch.training.step import Step\nreal = Step.__call__\ncalls = [0]\n"
    greedy += (
        "def step(self, *a):\n    calls[0] += 1\n    if calls[0] == 5:\n        import torch;"
        " torch.empty(2**46)\n"
    )
    greedy += "    return real(self, *a)\nStep.__call__ = step\n"
    done = cases.train(shop, prelude=greedy)
    done.refused("memory")
    cases.train_resumed(shop)


@pytest.mark.fault("no more file handles, at several limits (RLIMIT_NOFILE)", "predict", KEPT)
def test_handles_run_out(cases: Any, shop: Path) -> None:
    failed = 0
    for handles in (5, 6, 7, 8, 9, 10, 12):
        done = cases.predict(shop, "--resume", limits={"RLIMIT_NOFILE": handles})
        assert done.code in (0, 2), done
        if done.code:
            failed += 1
            assert "Too many open files" in done.err, done
            assert "Traceback" not in done.err
    assert failed
    cases.resumed(shop)


@pytest.mark.fault(
    "no file handle for an image (EMFILE)", "predict", f"{KEPT}: the image is not called unreadable"
)
def test_no_handle_for_an_image(cases: Any, shop: Path) -> None:
    cases.predict(shop, fault=f"open:images/08.png:1:99:{errno.EMFILE}").refused(
        "08.png' can't be opened: Too many open files", "ulimit -n"
    )
    cases.resumed(shop)


@pytest.mark.fault(
    "no thread can be started",
    "predict, validate",
    "one line; when threads can be had, it succeeds",
)
def test_no_thread_can_be_started(cases: Any, shop: Path) -> None:
    none = (
        "import threading\ndef start(self): raise RuntimeError(\"can't start new"
        ' thread")\nthreading.Thread.start = start\n'
    )
    cases.predict(shop, prelude=none).refused("can't start new thread")
    cases.commands.run(shop, "validate", "train.csv", prelude=none).refused(
        "can't start new thread"
    )
    cases.predict(shop).fine()
    cases.check_predicted(shop)


BUG = "a library fails on an image in a way that nobody foresaw"


@pytest.mark.fault(
    BUG,
    "predict",
    "its rows' status says why, all other rows are the undisturbed ones; exit code 0",
)
def test_a_library_fails_on_an_image(cases: Any, shop: Path) -> None:
    cases.predict(shop, prelude=failing("08.png")).fine()
    rows, whole = read_scores((shop / "out.csv").read_bytes()), read_scores(cases.whole)
    failed = [row for row in rows if row["image_path"].endswith("08.png")]
    assert failed
    assert all(
        row["prediction"] == "error"
        and "can't be prepared" in row["status"]
        and "KeyError" not in row["status"]
        for row in failed
    )
    assert [row for row in rows if row not in failed] == [
        row for row in whole if not row["image_path"].endswith("08.png")
    ]


@pytest.mark.fault(
    "a library fails on every image",
    "predict",
    "it ends with exit code 70, done rows are kept; --resume gives the same bytes",
)
def test_a_library_fails_on_every_image(cases: Any, shop: Path) -> None:
    bug = (
        "from mismatch.runtime.preprocess import Preprocessor\nreal = Preprocessor.__call__\ncalls"
        " = [0]\n"
    )
    bug += (
        "def call(self, *a, **k):\n    calls[0] += 1\n    if calls[0] >= 9:\n        raise"
        " KeyError('a bug')\n"
    )
    bug += "    return real(self, *a, **k)\nPreprocessor.__call__ = call\n"
    done = cases.predict(shop, prelude=bug)
    assert done.code == 70, done
    assert "unexpected KeyError: 'a bug'; this is a bug" in done.err
    assert "rows are kept in" in done.err
    cases.resumed(shop)


@pytest.mark.fault(
    BUG, "train", "one line that names the image and the row; when it is replaced, the same weights"
)
def test_a_library_fails_on_an_image_of_training(cases: Any, shop: Path) -> None:
    cases.train(shop, prelude=failing("08.png")).refused("train.csv:", "can't be prepared")
    cases.train_resumed(shop)


def failing(name: str) -> str:
    """Preparing an image of this name raises what no library should."""
    bug = "from mismatch.runtime.preprocess import Preprocessor\nreal = Preprocessor.picture\n"
    bug += (
        f"def picture(self, source):\n    if str(source).endswith({name!r}):\n        raise"
        " KeyError('a bug')\n"
    )
    return bug + "    return real(self, source)\nPreprocessor.picture = picture\n"


def read_scores(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


@pytest.mark.fault(
    "a locale of plain ASCII (LC_ALL=C, no UTF-8 mode), texts and names that are not",
    "predict",
    f"{SAME}, in a file and on standard output",
)
def test_a_locale_of_ascii(cases: Any, shop: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = cases.commands.really(shop, *cases.predict_args("größe.csv"), env=ascii_only)
    assert done.returncode == 0, done
    assert (shop / "größe.csv").read_bytes() == cases.whole
    done = cases.commands.really(shop, *cases.predict_args("-"), env=ascii_only)
    assert (done.returncode, done.stdout) == (0, cases.whole.decode()), done
    with_name = cases.commands.really(shop, "validate", "grün.csv", env=ascii_only)
    assert with_name.returncode == 2
    assert len(with_name.stderr.splitlines()) == 1


@pytest.mark.fault(
    "the working directory was removed",
    "predict",
    "with absolute paths it works; with relative ones it is one line",
)
def test_the_working_directory_is_gone(cases: Any, shop: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    remove = f"import os; os.rmdir({str(gone)!r})\n"
    args = [
        "predict",
        "--model",
        cases.model.bundle,
        "--csv",
        shop / "rows.csv",
        "--image-base-path",
        shop,
        "--threads",
        1,
    ]
    cases.commands.run(gone, *args, "--output", shop / "out.csv", prelude=remove).fine()
    cases.check_predicted(shop)
    gone.mkdir()
    cases.commands.run(gone, *args, "--output", "out.csv", prelude=remove).refused(
        "the working directory"
    )


@pytest.mark.fault("TMPDIR is absent and not writable", "predict, train, export-onnx", SAME)
def test_there_is_no_place_for_temporary_files(cases: Any, shop: Path) -> None:
    none = {"TMPDIR": "/proc/none", "TMP": "/proc/none", "TEMP": "/proc/none"}
    cases.predict(shop, env=none).fine()
    cases.check_predicted(shop)
    cases.train(shop, "full", env=none).fine()
    cases.check_trained(shop)
    cases.commands.run(
        shop,
        "export-onnx",
        "--model",
        cases.model.checkpoint,
        "--output",
        "bundle",
        env=none,
        prelude=cases.quick_export,
    ).fine()


@pytest.mark.fault(
    "no home directory: HOME is unset, or names what is not there",
    "predict, train --tune head",
    "it works; where the cache would lie there, one line names --cache",
)
def test_there_is_no_home(cases: Any, shop: Path) -> None:
    done = subprocess.run(
        ["env", "-u", "HOME", "-u", "XDG_CACHE_HOME", *really(cases.predict_args())],
        cwd=shop,
        env=cases.commands.fresh,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done
    cases.check_predicted(shop)
    env = {"HOME": "/proc/none", "XDG_CACHE_HOME": ""}
    data = [
        "--train-csv",
        "train.csv",
        "--val-csv",
        "val.csv",
        "--backbone",
        "openclip",
        "--model-name",
        cases.model.backbone,
        "--tune",
        "head",
    ]
    cases.commands.run(shop, "train", *data, "--output-dir", "run", env=env).refused(
        "the cache folder /proc/none/.cache/mismatch can't be created", "--cache"
    )


def really(args: list[object]) -> list[str]:
    code = (
        "import sys; from mismatch.runtime import pipeline; pipeline.WINDOW = 4\nfrom mismatch.cli"
        " import main; main(sys.argv[1:])"
    )
    return [sys.executable, "-c", code, *map(str, args)]


@pytest.mark.fault("standard input, output and error are closed", "predict", SAME)
def test_the_standard_streams_are_closed(cases: Any, shop: Path) -> None:
    command = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *really(cases.predict_args())]
    assert subprocess.run(command, cwd=shop, env=cases.commands.fresh).returncode == 0
    cases.check_predicted(shop)


@pytest.mark.fault("standard error is full, so that nothing can be reported", "predict", SAME)
def test_standard_error_is_full(cases: Any, shop: Path) -> None:
    with Path("/dev/full").open("w") as full:
        cases.commands.really(shop, *cases.predict_args(), stderr=full)
    cases.check_predicted(shop)


@pytest.mark.fault(
    "another number of threads and another hash seed when a run goes on", "predict --resume", SAME
)
def test_other_threads_when_it_goes_on(cases: Any, shop: Path) -> None:
    assert cases.predict(shop, fault="change:out.csv.part:20:1:kill").code == -9
    done = cases.commands.really(
        shop,
        *cases.predict_args("out.csv", "--resume", "--num-workers", 5),
        env={"PYTHONHASHSEED": "77"},
    )
    assert done.returncode == 0, done
    cases.check_predicted(shop)


@pytest.mark.fault(
    "the images and the output move to another folder before a run goes on",
    "train --resume",
    "the same weights as an undisturbed run",
)
def test_everything_moves_before_it_goes_on(cases: Any, shop: Path) -> None:
    assert cases.train(shop, fault="change:run/.checkpoint_epoch_2:2:1:kill").code == -9
    moved = shop / "moved"
    moved.mkdir()
    for name in ("images", "train.csv", "val.csv", "run"):
        shutil.move(shop / name, moved / name)
    cases.train(moved, "full", "--resume").fine()
    cases.check_trained(moved)


@pytest.mark.fault("a umask under which nobody may read what is written", "predict", SAME)
def test_a_strict_umask(cases: Any, shop: Path) -> None:
    cases.predict(shop, prelude="import os; os.umask(0o777)\n").fine()
    os.chmod(shop / "out.csv", 0o600)
    cases.check_predicted(shop)
