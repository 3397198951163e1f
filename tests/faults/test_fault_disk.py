"""Disks that are full, read-only or broken, and targets that are something else than they should
be.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import OLDER, nothing_left

PAGE = 4096
SAME = (
    "one line that names the file, done rows are kept; when it is mended, --resume gives the same"
    " bytes"
)
FULL = f"can't write {{}}: {os.strerror(errno.ENOSPC)}"


def fill(disk: Path, room: int) -> Path:
    """Leave so many bytes; returns what to remove for more."""
    free = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(free.f_bavail * free.f_frsize - room))
    return disk / "ballast"


def words(number: int) -> str:
    return os.strerror(number)


@pytest.mark.fault("a full disk (a real one of 64 kB)", "predict", SAME)
def test_predict_on_a_full_disk(cases: Any, shop: Path, small_disk: Callable[[int], Path]) -> None:
    # 16 kB: four pages of rows
    rows = [f"images/{i % 12:02}.png,{'a long title ' * 40}{i}\n" for i in range(30)]
    (shop / "rows.csv").write_text("image_path,text\n" + "".join(rows))
    cases.predict(shop).fine()
    disk = small_disk(16 * PAGE)
    for room, kept in ((3, False), (5, True)):
        ballast = fill(disk, room * PAGE)
        done = cases.predict(shop, output="disk/out.csv")
        done.refused("can't write", "out.csv.part", "No space left on device")
        assert ("rows are kept in" in done.err) == kept
        ballast.unlink()
    cases.predict(shop, "--resume", output="disk/out.csv").fine()
    assert (disk / "out.csv").read_bytes() == (shop / "out.csv").read_bytes()
    nothing_left(shop)


@pytest.mark.fault(
    "a full disk (a real one), in the first and in the second epoch",
    "train",
    "one line; after room was made, --resume gives the same weights",
)
def test_train_on_a_full_disk(
    cases: Any, shop: Path, small_disk: Callable[[int], Path], files: Any
) -> None:
    size = sum(path.stat().st_size for path in cases.model.checkpoint.iterdir())
    disk = small_disk(40 * size)
    for room in (size // 2, 5 * size):
        ballast = fill(disk, room)
        done = cases.start_train(shop, "full", "--output-dir", "disk/run", "--resume").wait()
        done.refused("No space left on device; free some, then go on with --resume")
        ballast.unlink()
    cases.start_train(shop, "full", "--output-dir", "disk/run", "--resume").wait().fine()
    shutil.copytree(disk / "run", shop / "run")
    cases.check_trained(shop)


@pytest.mark.fault(
    "a full disk (a real one)",
    "export-onnx",
    "one line; the older bundle is untouched and nothing of the new one stays",
)
def test_export_on_a_full_disk(
    cases: Any, shop: Path, small_disk: Callable[[int], Path], files: Any
) -> None:
    disk = small_disk(40 * 2**20)
    shutil.copytree(cases.model.bundle, disk / "bundle")
    before, size = (
        files(disk / "bundle"),
        sum(path.stat().st_size for path in cases.model.bundle.iterdir()),
    )
    fill(disk, size // 2)
    cases.commands.run(
        shop, "export-onnx", "--model", cases.model.checkpoint, "--output", "disk/bundle"
    ).refused("can't write", "bundle: No space left on device")
    assert files(disk / "bundle") == before
    assert sorted(path.name for path in disk.iterdir()) == ["ballast", "bundle"]


@pytest.mark.fault("a full disk (a real one) under the cache", "predict --cache", SAME)
def test_the_caches_disk_is_full(cases: Any, shop: Path, small_disk: Callable[[int], Path]) -> None:
    ballast = fill(small_disk(64 * PAGE), 5 * PAGE)
    done = cases.predict(shop, "--cache", "disk/cache")
    done.refused(
        "the cache disk/cache can't be written: No space left on device; make room or choose"
        " another with --cache"
    )
    ballast.unlink()
    cases.resumed(shop, "--cache", "disk/cache")


@pytest.mark.fault(
    "a full disk (a real one)",
    "split",
    "one line; none of its files is half-written, and an earlier split stays",
)
def test_split_on_a_full_disk(cases: Any, shop: Path, small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(16 * PAGE)
    fill(disk, PAGE)
    cases.commands.run(
        shop, "split", "all.csv", "--output-dir", "disk/parts", "--num-workers", 1
    ).refused("No space left on device")
    assert [path for path in (disk / "parts").iterdir() if path.is_file()] == []


@pytest.mark.fault(
    "a disk that is mounted read-only (a real one)",
    "predict, train, export-onnx",
    "one line before a model is loaded; when it is mounted again, it works",
)
def test_a_read_only_disk(cases: Any, shop: Path, small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(2**20)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    cases.predict(shop, output="disk/out.csv").refused(
        "can't write", "disk/out.csv: Read-only file system"
    )
    cases.start_train(shop, "full", "--output-dir", "disk/run").wait().refused(
        "disk/run", "Read-only file system"
    )
    cases.commands.run(
        shop, "export-onnx", "--model", cases.model.checkpoint, "--output", "disk/bundle"
    ).refused("disk/bundle", "Read-only file system")
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    cases.predict(shop, output="disk/out.csv").fine()
    cases.check_predicted(shop, "disk/out.csv")


WRITES = [
    pytest.param(
        "write",
        7,
        errno.EDQUOT,
        marks=pytest.mark.fault("the quota is used up", "predict", SAME),
        id="quota",
    ),
    pytest.param(
        "write",
        7,
        errno.EIO,
        marks=pytest.mark.fault("a write fails (EIO), a broken disk", "predict", SAME),
        id="write-error",
    ),
    pytest.param(
        "fsync",
        5,
        errno.ENOSPC,
        marks=pytest.mark.fault(
            "the disk is full only when data is flushed to it", "predict", SAME
        ),
        id="late-full",
    ),
    pytest.param(
        "fsync",
        5,
        errno.EIO,
        marks=pytest.mark.fault("flushing to the disk fails (EIO)", "predict", SAME),
        id="flush-error",
    ),
    pytest.param(
        "open",
        6,
        errno.ENOSPC,
        marks=pytest.mark.fault(
            "no file can be created any more: no inodes are left", "predict", SAME
        ),
        id="no-inodes",
    ),
    pytest.param(
        "open",
        6,
        errno.EROFS,
        marks=pytest.mark.fault("the disk becomes read-only during the run", "predict", SAME),
        id="read-only",
    ),
    pytest.param(
        "rename",
        4,
        errno.EACCES,
        marks=pytest.mark.fault("a rename is refused during the run", "predict", SAME),
        id="rename",
    ),
    pytest.param(
        "rename",
        2,
        errno.ESTALE,
        marks=pytest.mark.fault(
            "the network file system lost the folder (ESTALE)", "predict", SAME
        ),
        id="stale",
    ),
]


@pytest.mark.parametrize(("call", "first", "number"), WRITES)
def test_predict_can_not_write(cases: Any, shop: Path, call: str, first: int, number: int) -> None:
    cases.predict(shop, fault=f"{call}:out.csv.part:{first}:9999:{number}").refused(
        "can't write", "out.csv", words(number)
    )
    assert not (shop / "out.csv").exists()
    cases.resumed(shop)


@pytest.mark.fault(
    "writes that take only half of what they are given",
    "predict",
    "the same bytes as an undisturbed run",
)
def test_short_writes(cases: Any, shop: Path) -> None:
    cases.predict(shop, fault="write:out.csv:1:9999:short").fine()
    cases.check_predicted(shop)


@pytest.mark.fault("a limit on the size of files (RLIMIT_FSIZE)", "predict", SAME)
def test_files_may_not_grow(cases: Any, shop: Path) -> None:
    cases.predict(shop, limits={"RLIMIT_FSIZE": 2200}).refused("can't write", "File too large")
    cases.resumed(shop)


CHECKPOINTS = [
    pytest.param(
        "write:.part/.tmp:2",
        errno.ENOSPC,
        marks=pytest.mark.fault("the disk is full as weights are written, by Rust", "train", SAME),
        id="head",
    ),
    pytest.param(
        "write:training_state:20",
        errno.EDQUOT,
        marks=pytest.mark.fault(
            "the quota is used up as the state is written, by torch", "train", SAME
        ),
        id="state",
    ),
    pytest.param(
        "open:.checkpoint_epoch_2:1",
        errno.EROFS,
        marks=pytest.mark.fault("the disk becomes read-only between epochs", "train", SAME),
        id="weights",
    ),
    pytest.param(
        "rename:checkpoint_epoch_2:1",
        errno.EIO,
        marks=pytest.mark.fault("the rename of a whole checkpoint fails", "train", SAME),
        id="rename",
    ),
]


@pytest.mark.parametrize(("call", "number"), CHECKPOINTS)
def test_train_can_not_write(cases: Any, shop: Path, call: str, number: int) -> None:
    done = cases.train(shop, fault=f"{call}:9999:{number}")
    done.refused("can't write", words(number))
    cases.train_resumed(shop)


@pytest.mark.fault(
    "the disk breaks as a graph is written (EIO)",
    "export-onnx",
    "one line; the older bundle is untouched and nothing of the new one stays",
)
def test_export_can_not_write(cases: Any, shop: Path, files: Any) -> None:
    shutil.copytree(cases.model.bundle, shop / "bundle")
    before = files(shop / "bundle")
    args = ("export-onnx", "--model", cases.model.checkpoint, "--output", "bundle")
    cases.commands.run(shop, *args, fault=f"write:text_encoder:1:9999:{errno.EIO}").refused(
        "can't write", "bundle", words(errno.EIO)
    )
    assert files(shop / "bundle") == before
    assert sorted(path.name for path in shop.iterdir() if "bundle" in path.name) == ["bundle"]


@pytest.mark.fault(
    "the threshold can't be written", "tune-threshold", "one line; the model is as it was"
)
def test_tune_threshold_can_not_write(cases: Any, shop: Path, files: Any) -> None:
    shutil.copytree(cases.model.bundle, shop / "bundle")
    before = files(shop / "bundle")
    for call, number in (("write", errno.ENOSPC), ("fsync", errno.EIO), ("rename", errno.EROFS)):
        args = ("tune-threshold", "--model", "bundle", "--csv", "all.csv", "--threads", 1)
        cases.commands.run(shop, *args, fault=f"{call}:manifest.json:1:99:{number}").refused(
            "can't write", "manifest.json", words(number)
        )
        assert files(shop / "bundle") == before


@pytest.mark.fault(
    "standard output is a full disk (/dev/full)", "predict", "one line and exit code 2"
)
def test_standard_output_is_full(cases: Any, shop: Path) -> None:
    cases.predict(shop, output="-", out="/dev/full").refused(
        "standard output", "No space left on device"
    )


@pytest.mark.fault(
    "standard output is a pipe that is closed, as by `head`",
    "predict",
    "it ends without a traceback",
)
def test_standard_output_is_closed(cases: Any, shop: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = cases.commands.really(shop, *cases.predict_args("-"), stdout=writer)
    os.close(writer)
    assert done.returncode in (1, 141)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.fault(
    "the output lies on another file system, behind a link (a real one)",
    "predict",
    "the link stays, and the file behind it is written whole",
)
def test_the_output_is_on_another_file_system(
    cases: Any, shop: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(2**20)
    (disk / "real.csv").write_text(OLDER)
    (shop / "out.csv").symlink_to(disk / "real.csv")
    assert cases.predict(shop, fault="change:real.csv:9:1:kill").code == -9
    assert (disk / "real.csv").read_text() == OLDER
    cases.resumed(shop)
    assert (shop / "out.csv").is_symlink()


@pytest.mark.fault(
    "an older output that may not be replaced (chattr +i)",
    "predict",
    "one line; all rows are kept, and when it may be, --resume only renames",
)
def test_an_immutable_output(cases: Any, shop: Path) -> None:
    (shop / "out.csv").write_text(OLDER)
    if subprocess.run(["chattr", "+i", shop / "out.csv"], capture_output=True).returncode:
        pytest.skip("this file system or this user can't make a file immutable")
    try:
        done = cases.predict(shop)
        done.refused("can't write", "out.csv: Operation not permitted")
        assert "30 rows are kept" in done.err
        assert (shop / "out.csv").read_text() == OLDER
    finally:
        subprocess.run(["chattr", "-i", shop / "out.csv"], check=True)
    cases.resumed(shop)


@pytest.mark.fault(
    "a folder in the place of the file, a file in that of the folder",
    "predict, train, export-onnx",
    "refused in one line; what is there stays",
)
def test_the_target_is_of_another_kind(cases: Any, shop: Path) -> None:
    (shop / "out.csv").mkdir()
    (shop / "run").write_text("mine")
    cases.predict(shop).refused("out.csv: it is a folder; add a file name")
    cases.train(shop).refused("--output-dir run can't be created: File exists; choose another")
    cases.commands.run(
        shop, "export-onnx", "--model", cases.model.checkpoint, "--output", "run"
    ).refused("run is a file; choose another --output")
    assert (shop / "run").read_text() == "mine"
    assert list((shop / "out.csv").iterdir()) == []


@pytest.mark.fault(
    "a named pipe as output, read by another program",
    "predict",
    "the same bytes come through, and the pipe stays",
)
def test_the_output_is_a_pipe(cases: Any, shop: Path) -> None:
    os.mkfifo(shop / "out.csv")
    found: list[bytes] = []
    reader = threading.Thread(
        target=lambda: found.append((shop / "out.csv").read_bytes()), daemon=True
    )
    reader.start()
    cases.predict(shop).fine()
    reader.join(timeout=60)
    assert found == [cases.whole]
    assert (shop / "out.csv").is_fifo()


@pytest.mark.fault(
    "the folder of the output is removed during the run",
    "predict",
    "one line that names the folder; made again, the run succeeds",
)
def test_the_outputs_folder_vanishes(cases: Any, shop: Path) -> None:
    (shop / "deep").mkdir()
    slow = (
        "import time; from mismatch.jobs.output.resumable_file import ResumableFile as File;"
        " real = File.commit; File.commit = lambda *a: (time.sleep(0.05), real(*a))[1]\n"
    )
    process = cases.start_predict(shop, output="deep/out.csv", prelude=slow).until(
        (shop / "deep" / "out.csv.part.json").exists
    )
    while (shop / "deep").exists():
        shutil.rmtree(shop / "deep", ignore_errors=True)
        time.sleep(0.001)
    process.wait().refused("can't write", "does not exist; create it")
    (shop / "deep").mkdir()
    cases.predict(shop, output="deep/out.csv").fine()
    cases.check_predicted(shop, "deep/out.csv")
