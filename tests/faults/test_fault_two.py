"""Two commands that write to one place at once: the second is refused, and a crash locks nobody
out.
"""

from __future__ import annotations

import errno
import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import OLDER

REFUSED = (
    "the second is refused in one line that names the first one's process; the first ends as if"
    " alone"
)


def held(process: Any, lock: Path) -> None:
    """Stop a command as soon as it holds its lock, so that another can come."""
    process.until(lambda: lock.exists() and lock.read_bytes()).kill(signal.SIGSTOP)


def who(process: Any) -> str:
    return f"process {process.pid} on {socket.gethostname()} has been writing it since "


@pytest.mark.fault("a second prediction into the same file", "predict", REFUSED)
@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
def test_two_predictions_into_one_file(cases: Any, shop: Path, output: str, clean: Any) -> None:
    first = cases.start_predict(shop, output=output)
    held(first, shop / f".{output}.lock")
    for more in ([], ["--resume"] if output == "out.csv" else []):
        cases.predict(shop, *more, output=output).refused(
            output, who(first), "wait until it is done, or choose another name"
        )
    first.kill(signal.SIGCONT).wait().fine()
    assert output != "out.csv" or (shop / output).read_bytes() == cases.whole
    clean(shop)


@pytest.mark.fault(
    "a second prediction into the same file, under another name of it: a link, a path with ..",
    "predict",
    REFUSED,
)
def test_two_names_of_one_file(cases: Any, shop: Path) -> None:
    (shop / "out.csv").write_text(OLDER)
    (shop / "link.csv").symlink_to(shop / "out.csv")
    first = cases.start_predict(shop, output="images/../out.csv")
    held(first, shop / ".out.csv.lock")
    cases.predict(shop, output="link.csv").refused("out.csv", who(first))
    first.kill(signal.SIGCONT).wait().fine()
    assert (shop / "out.csv").read_bytes() == cases.whole


@pytest.mark.fault(
    "a second training into the same folder, from the start and with --resume", "train", REFUSED
)
def test_two_trainings_into_one_folder(cases: Any, shop: Path) -> None:
    first = cases.start_train(shop)
    held(first, shop / ".run.lock")
    for more in ([], ["--resume"]):
        cases.train(shop, "full", *more).refused(
            "run", who(first), "wait until it is done, or choose another name"
        )
    first.kill(signal.SIGCONT).wait().fine()
    cases.check_trained(shop)


@pytest.mark.fault("a second export into the same folder", "export-onnx", REFUSED)
def test_two_exports_into_one_folder(cases: Any, shop: Path, files: Any) -> None:
    args = ("export-onnx", "--model", cases.model.checkpoint, "--output", "bundle")
    first = cases.commands.start(shop, *args, prelude=cases.quick_export)
    held(first, shop / ".bundle.lock")
    cases.commands.run(shop, *args).refused("bundle", who(first))
    first.kill(signal.SIGCONT).wait().fine()
    assert sorted(path.name for path in shop.iterdir() if "bundle" in path.name) == ["bundle"]


@pytest.mark.fault(
    "a threshold is stored while the model is being calibrated",
    "tune-threshold, calibrate",
    f"{REFUSED}: no change is lost",
)
def test_two_that_change_one_model(cases: Any, shop: Path) -> None:
    shutil.copytree(cases.model.bundle, shop / "bundle")
    args = ("--model", "bundle", "--csv", "all.csv", "--threads", 1)
    first = cases.commands.start(shop, "calibrate", *args)
    held(first, shop / ".bundle.lock")
    cases.commands.run(shop, "tune-threshold", *args).refused("bundle", who(first))
    cases.commands.run(shop, "tune-threshold", *args, "--dry-run").fine()
    first.kill(signal.SIGCONT).wait().fine()
    assert (
        json.loads((shop / "bundle" / "manifest.json").read_text())["score"]["calibration"]["rows"]
        == 72
    )


@pytest.mark.fault(
    "a second split, negatives, an audit's report at the same place",
    "split, make-negatives, validate",
    REFUSED,
)
@pytest.mark.parametrize(
    ("args", "lock"),
    [
        (["split", "all.csv", "--output-dir", "parts", "--overwrite"], ".parts.lock"),
        (["make-negatives", "all.csv", "--output", "made.csv"], ".made.csv.lock"),
        (["validate", "all.csv", "--report", "report.json"], ".report.json.lock"),
    ],
    ids=["split", "make-negatives", "validate"],
)
def test_two_at_one_place(cases: Any, shop: Path, args: list[str], lock: str, clean: Any) -> None:
    first = cases.commands.start(shop, *args)
    held(first, shop / lock)
    cases.commands.run(shop, *args).refused(
        lock.removeprefix(".").removesuffix(".lock"), who(first)
    )
    first.kill(signal.SIGCONT).wait().fine()
    clean(shop)


@pytest.mark.fault(
    "SIGKILL of a command that holds a lock",
    "predict, train, export-onnx",
    "the next one is not locked out, and removes the lock's file",
)
def test_a_killed_command_locks_nobody_out(cases: Any, shop: Path, clean: Any) -> None:
    for start, lock in ((cases.start_predict, ".out.csv.lock"), (cases.start_train, ".run.lock")):
        process = start(shop)
        held(process, shop / lock)
        process.kill().wait()
        assert (shop / lock).exists()
    cases.predict(shop).fine()
    cases.train(shop).fine()
    cases.check_predicted(shop)
    cases.check_trained(shop)
    clean(shop)


@pytest.mark.fault(
    "a file system without locks (ENOLCK)",
    "predict",
    "the lock's file itself is the lock; of a process that is gone it counts as free",
)
def test_a_file_system_without_locks(cases: Any, shop: Path) -> None:
    without = f"flock::1:999999:{errno.ENOLCK}"
    first = cases.start_predict(shop, fault=without)
    held(first, shop / ".out.csv.lock")
    cases.predict(shop, fault=without).refused(
        who(first), "if it is gone, remove ", ".out.csv.lock"
    )
    first.kill().wait()
    assert (shop / ".out.csv.lock").exists()
    cases.predict(shop, "--resume", fault=without).fine()
    cases.check_predicted(shop)


@pytest.mark.fault(
    "a lock of another machine, on a file system without locks",
    "predict",
    "refused in one line that names the machine and the file to remove",
)
def test_a_lock_of_another_machine(cases: Any, shop: Path) -> None:
    (shop / ".out.csv.lock").write_text(
        json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00"})
    )
    done = cases.predict(shop, fault=f"flock::1:999999:{errno.ENOLCK}")
    done.refused(
        "process 1 on elsewhere has been writing it since 2026-01-01",
        f"if it is gone, remove {shop / '.out.csv.lock'}",
    )
    (shop / ".out.csv.lock").unlink()
    cases.predict(shop).fine()
    cases.check_predicted(shop)


@pytest.mark.fault(
    "a disk so full that the lock can't be signed",
    "predict",
    "it still locks; the refusal says that another process is writing",
)
def test_a_lock_that_can_not_be_signed(cases: Any, shop: Path) -> None:
    first = cases.start_predict(
        shop, fault=f"write:.lock:1:99:{errno.ENOSPC}", prelude="import os; del os.pwrite\n"
    )
    first.until((shop / ".out.csv.lock").exists).kill(signal.SIGSTOP)
    cases.predict(shop).refused("out.csv", "another process is writing it; wait until it is done")
    first.kill(signal.SIGCONT).wait().fine()
    cases.check_predicted(shop)


@pytest.mark.fault(
    "two commands fill one cache at once",
    "predict --cache",
    "both give the same bytes as undisturbed runs",
)
def test_two_writers_of_one_cache(cases: Any, shop: Path) -> None:
    running = [cases.start_predict(shop, "--cache", "cache", output=f"{i}.csv") for i in range(3)]
    for i, process in enumerate(running):
        process.wait().fine()
        assert (shop / f"{i}.csv").read_bytes() == cases.whole
    cases.predict(shop, "--cache", "cache").fine()
    assert (shop / "out.csv").read_bytes() == cases.whole


@pytest.mark.fault(
    "a bundle is read while it is replaced, two hundred times",
    "export-onnx, predict",
    "a reader finds the older one or the newer one whole, at any moment",
)
def test_a_bundle_is_replaced_under_its_readers(cases: Any, shop: Path) -> None:
    shutil.copytree(cases.model.bundle, shop / "bundle")
    swap = f"""
import shutil
from mismatch.io.atomic import atomic_directory
for _ in range(200):
    with atomic_directory("bundle") as part:
        shutil.copytree({str(cases.model.bundle)!r}, part, dirs_exist_ok=True)
"""
    with subprocess.Popen([sys.executable, "-c", swap], cwd=shop) as writer:
        readers = 0
        while writer.poll() is None:
            done = cases.predict(shop, "--model", "bundle", output=f"{readers}.csv")
            readers += 1
            # it opened one file of the older bundle and another of the newer: said, and never a
            # wrong score
            if done.code:
                done.refused("bundle/")
            else:
                assert (shop / f"{readers - 1}.csv").read_bytes() == cases.whole
    assert readers >= 1
    assert sorted(path.name for path in shop.iterdir() if "bundle" in path.name) == ["bundle"]
