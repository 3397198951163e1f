"""Commands that are killed, interrupted, hung up on or stopped, at random moments and at every
operation on a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import command_line, finished, started
from tests.support.rows import read_rows, write_rows
from tests.support.web_host import LOOPBACK, web_host

SAME = "with --resume the same bytes as an undisturbed run; no temporary file stays"
WEIGHTS = (
    "with --resume the same weights and figures as an undisturbed run; no temporary file stays"
)


def windows_done(shop: Path) -> int:
    record = shop / "out.csv.part.json"
    return int(json.loads(record.read_text())["counts"]["rows"]) // 4 if record.exists() else 0


@pytest.mark.fault("SIGKILL at six random moments, again and again", "predict", SAME)
def test_predict_killed_at_random_moments(cases: Any, shop: Path) -> None:
    chance = random.Random(3)
    for _ in range(6):
        process = cases.start_predict(shop, "--resume")
        time.sleep(chance.uniform(0.05, 0.6))
        process.kill().wait()
    cases.resumed(shop)


@pytest.mark.fault("SIGKILL before the 1st, 4th, 7th, … operation on a file", "predict", SAME)
def test_predict_killed_before_changes_of_the_disk(cases: Any, shop: Path) -> None:
    windows = "pipeline.WINDOW = 12\n"
    for number in range(1, 99, 3):
        if (
            cases.predict(shop, fault=f"change:out.csv:{number}:1:kill", prelude=windows).code
            != -signal.SIGKILL
        ):
            break
        cases.predict(shop, "--resume", prelude=windows).fine()
        cases.check_predicted(shop)
        (shop / "out.csv").unlink()
    assert number >= 17


@pytest.mark.fault("SIGKILL in the middle of a write, half a row on the disk", "predict", SAME)
def test_predict_killed_in_the_middle_of_a_row(cases: Any, shop: Path) -> None:
    assert cases.predict(shop, fault="write:out.csv.part:4:1:half").code == -signal.SIGKILL
    assert not (shop / "out.csv.part").read_bytes().endswith(b"\n")
    cases.resumed(shop)


@pytest.mark.fault(
    "SIGTERM, as schedulers and container runtimes send it",
    "predict",
    f"exit code 143, done rows are kept; {SAME}",
)
def test_predict_terminated(cases: Any, shop: Path) -> None:
    ended_by(cases, shop, signal.SIGTERM, 143)


@pytest.mark.fault("SIGINT, Ctrl-C", "predict", f"exit code 130, done rows are kept; {SAME}")
def test_predict_interrupted(cases: Any, shop: Path) -> None:
    ended_by(cases, shop, signal.SIGINT, 130)


@pytest.mark.fault(
    "SIGHUP, the terminal is closed", "predict", f"exit code 129, done rows are kept; {SAME}"
)
def test_predict_hung_up(cases: Any, shop: Path) -> None:
    ended_by(cases, shop, signal.SIGHUP, 129)


SLOW = (
    "import time; from mismatch.jobs.output.resumable_file import ResumableFile as File;"
    " real = File.commit; File.commit = lambda *a: (time.sleep(0.05), real(*a))[1]\n"
)


def ended_by(cases: Any, shop: Path, number: int, code: int) -> None:
    process = cases.start_predict(shop, prelude=SLOW).until(lambda: windows_done(shop) >= 2)
    done = process.kill(number).wait()
    assert done.code == code, done
    assert "rows are kept in" in done.err
    assert "Traceback" not in done.err
    cases.resumed(shop)


@pytest.mark.fault("SIGHUP to a command that nohup started", "predict", "it goes on to the end")
def test_nohup_holds(cases: Any, shop: Path) -> None:
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    process = cases.start_predict(shop, prelude=SLOW + ignore).until(
        lambda: windows_done(shop) >= 1
    )
    process.kill(signal.SIGHUP).wait().fine()
    cases.check_predicted(shop)


@pytest.mark.fault(
    "SIGSTOP for a while, then SIGCONT, as a laptop that sleeps",
    "predict",
    "the same bytes as an undisturbed run",
)
def test_predict_stopped_and_continued(cases: Any, shop: Path) -> None:
    process = (
        cases.start_predict(shop, prelude=SLOW)
        .until(lambda: windows_done(shop) >= 2)
        .kill(signal.SIGSTOP)
    )
    time.sleep(0.3)
    process.kill(signal.SIGCONT).wait().fine()
    cases.check_predicted(shop)


@pytest.mark.fault(
    "SIGKILL while embeddings are written to a cache",
    "predict --cache",
    "a half-written segment counts as absent; same bytes",
)
def test_a_cache_writer_is_killed(cases: Any, shop: Path) -> None:
    for number in (1, 2, 3, 5):
        assert (
            cases.predict(shop, "--cache", "cache", fault=f"change:cache/:{number * 3}:1:kill").code
            == -signal.SIGKILL
        )
    cases.predict(shop, "--cache", "cache").fine()
    assert (shop / "out.csv").read_bytes() == cases.whole


@pytest.mark.fault("SIGKILL at four random moments", "train", WEIGHTS)
def test_train_killed_at_random_moments(cases: Any, shop: Path) -> None:
    chance = random.Random(5)
    for _ in range(4):
        process = cases.start_train(shop, "full", "--resume", "--checkpoint-steps", 1)
        time.sleep(chance.uniform(0.2, 1.5))
        process.kill().wait()
    cases.train_resumed(shop, "full", "--checkpoint-steps", 1)


@pytest.mark.fault(
    "SIGKILL before a rename, a link, a removal or a write of a checkpoint, eight of them",
    "train",
    WEIGHTS,
)
def test_train_killed_between_operations_on_its_checkpoints(cases: Any, shop: Path) -> None:
    kills = 0
    for number in (1, 20, 33, 5, 40, 14, 27, 50):
        kills += (
            cases.train(
                shop,
                "full",
                "--resume",
                "--checkpoint-steps",
                1,
                fault=f"change:run/:{number}:1:kill",
            ).code
            == -signal.SIGKILL
        )
    assert kills >= 4
    cases.train_resumed(shop, "full", "--checkpoint-steps", 1)


@pytest.mark.fault(
    "SIGKILL while a frozen backbone's embeddings are cached",
    "train --tune head",
    "what is cached is used, and it trains",
)
def test_train_of_a_head_killed_as_it_caches(cases: Any, shop: Path) -> None:
    for number in (2, 5):
        assert (
            cases.train(shop, "head", "--resume", fault=f"change:cache/:{number}:1:kill").code
            == -signal.SIGKILL
        )
    cases.train(shop, "head", "--resume").fine()
    assert not [path for path in (shop / "run").rglob("*") if ".part" in path.name]


def trained_after(cases: Any, shop: Path, number: int, code: int) -> None:
    slow = "import time; from mismatch.training.step import Step; real = Step.__call__\n"
    slow += "Step.__call__ = lambda *a, **k: (time.sleep(0.1), real(*a, **k))[1]\n"
    process = cases.start_train(shop, "full", "--checkpoint-steps", 1, prelude=slow).until(
        (shop / "run" / "checkpoint_last").exists
    )
    done = process.kill(number).wait()
    assert done.code == code, done
    assert "the same command with --resume goes on from there" in done.out
    assert "Traceback" not in done.err
    cases.train_resumed(shop, "full", "--checkpoint-steps", 1)


@pytest.mark.fault(
    "SIGTERM, as schedulers send it before they kill",
    "train",
    f"exit code 143 behind the step that is under way; {WEIGHTS}",
)
def test_train_terminated(cases: Any, shop: Path) -> None:
    trained_after(cases, shop, signal.SIGTERM, 143)


@pytest.mark.fault(
    "SIGHUP, the connection to the machine breaks",
    "train",
    f"exit code 129 behind the step that is under way; {WEIGHTS}",
)
def test_train_hung_up(cases: Any, shop: Path) -> None:
    trained_after(cases, shop, signal.SIGHUP, 129)


def bundle_of(cases: Any, shop: Path) -> Path:
    shutil.copytree(cases.model.bundle, shop / "bundle")
    return shop / "bundle"


@pytest.mark.fault(
    "SIGKILL before each of several operations on the new bundle",
    "export-onnx",
    "the older bundle is whole; the next one removes what was left",
)
def test_export_killed(cases: Any, shop: Path, files: Any) -> None:
    bundle = bundle_of(cases, shop)
    before = files(bundle)
    args = ("export-onnx", "--model", cases.model.checkpoint, "--output", "bundle")
    for calls, number in (
        ("open", 1),
        ("write", 1),
        ("rename", 1),
        ("rename", 3),
        ("rename", 4),
        ("unlink", 1),
    ):
        done = cases.commands.run(
            shop, *args, fault=f"{calls}:.bundle.:{number}:1:kill", prelude=cases.quick_export
        )
        assert done.code == -signal.SIGKILL, (calls, number)
        assert calls == "unlink" or files(bundle) == before
    cases.commands.run(shop, *args, prelude=cases.quick_export).fine()
    assert sorted(path.name for path in shop.iterdir() if "bundle" in path.name) == ["bundle"]
    cases.predict(shop, "--model", "bundle").fine()
    assert (shop / "out.csv").read_bytes() == cases.whole


@pytest.mark.fault(
    "SIGKILL between the two renames that replace a folder, where the system can't exchange names",
    "export-onnx",
    "the older bundle comes back",
)
def test_export_killed_between_its_renames(cases: Any, shop: Path, files: Any) -> None:
    before = files(bundle_of(cases, shop))
    write = (
        "from mismatch.io import atomic as files; files._exchange = lambda *a: False\nwith"
        " files.atomic_directory('bundle') as part: (part / 'x').touch()"
    )
    env = cases.commands.fresh | {"FAULT": "rename:.bundle:2:1:kill"}
    assert (
        subprocess.run([sys.executable, "-c", write], cwd=shop, env=env).returncode
        == -signal.SIGKILL
    )
    assert not (shop / "bundle").exists()
    args = ("export-onnx", "--model", cases.model.checkpoint, "--output", "bundle")
    done = cases.commands.run(shop, *args, "--max-score-difference", 0, prelude=cases.quick_export)
    assert done.code == 2, done
    assert files(shop / "bundle") == before
    assert sorted(path.name for path in shop.iterdir() if "bundle" in path.name) == ["bundle"]


@pytest.mark.fault(
    "SIGKILL before each operation on the model's file",
    "tune-threshold",
    "the model has the old threshold or the new one",
)
def test_tune_threshold_killed(cases: Any, shop: Path) -> None:
    bundle = bundle_of(cases, shop)
    before = (bundle / "manifest.json").read_bytes()
    args = ("tune-threshold", "--model", "bundle", "--csv", "all.csv", "--threads", 1)
    kills = 0
    while (
        cases.commands.run(shop, *args, fault=f"change:manifest.json:{kills + 1}:1:kill").code
        == -signal.SIGKILL
    ):
        kills += 1
        assert (bundle / "manifest.json").read_bytes() == before
    assert kills >= 3
    assert (
        json.loads((bundle / "manifest.json").read_text())["score"] != json.loads(before)["score"]
    )
    assert sorted(path.name for path in bundle.iterdir()) == sorted(
        path.name for path in cases.model.bundle.iterdir()
    )
    cases.predict(shop, "--model", "bundle").fine()


@pytest.mark.fault(
    "SIGKILL while a calibrated copy of a model is made",
    "calibrate --output",
    "there is no half model; calibrating again succeeds",
)
def test_calibrate_killed(cases: Any, shop: Path) -> None:
    args = (
        "calibrate",
        "--model",
        cases.model.bundle,
        "--csv",
        "all.csv",
        "--output",
        "calibrated",
        "--threads",
        1,
    )
    for number in (1, 3, 8, 12):
        assert (
            cases.commands.run(shop, *args, fault=f"change:calibrated:{number}:1:kill").code
            == -signal.SIGKILL
        )
        assert not (shop / "calibrated").exists()
    cases.commands.run(shop, *args).fine()
    assert sorted(path.name for path in shop.iterdir() if "calibrated" in path.name) == [
        "calibrated"
    ]


@pytest.mark.fault(
    "SIGKILL before each operation on its report",
    "validate --report",
    "the report is absent or whole; the next one removes what was left",
)
def test_validate_killed(cases: Any, shop: Path) -> None:
    args = ("validate", "train.csv", "--report", "report.json", "--num-workers", 1)
    kills = 0
    while (
        cases.commands.run(shop, *args, fault=f"change:report.json:{kills + 1}:1:kill").code
        == -signal.SIGKILL
    ):
        kills += 1
        assert (
            not (shop / "report.json").exists()
            or json.loads((shop / "report.json").read_text())["ok"]
        )
    assert kills >= 4
    assert json.loads((shop / "report.json").read_text())["files"][0]["rows"] == 48
    assert [path.name for path in shop.iterdir() if "report" in path.name] == ["report.json"]


@pytest.mark.fault(
    "SIGKILL before each operation on its files",
    "split",
    "each file is absent or whole; --overwrite gives the undisturbed files",
)
def test_split_killed(cases: Any, shop: Path, files: Any) -> None:
    args = ("split", "all.csv", "--num-workers", 1, "--overwrite")
    cases.commands.run(shop, *args, "--output-dir", "whole").fine()
    whole = files(shop / "whole")
    kills = 0
    while (
        cases.commands.run(
            shop, *args, "--output-dir", "parts", fault=f"change:parts/:{kills + 1}:1:kill"
        ).code
        == -signal.SIGKILL
    ):
        kills += 1
        found = (
            {
                name: digest
                for name, digest in files(shop / "parts").items()
                if not name.startswith(".")
            }
            if (shop / "parts").exists()
            else {}
        )
        assert found.items() <= whole.items()
    assert kills >= 9
    assert files(shop / "parts") == whole


@pytest.mark.fault(
    "SIGKILL while a report is written",
    "evaluate --report",
    "each of its files is absent or whole; the next one removes what was left",
)
def test_evaluate_killed(cases: Any, shop: Path) -> None:
    args = (
        "evaluate",
        "--model",
        cases.model.bundle,
        "--csv",
        "val.csv",
        "--report",
        "report",
        "--threads",
        1,
    )
    for number in (2, 6, 9):
        assert (
            cases.commands.run(shop, *args, fault=f"change:report/:{number}:1:kill").code
            == -signal.SIGKILL
        )
        for name in ("report.html", "report.json", "predictions.csv"):
            assert not (shop / "report" / name).exists() or (
                shop / "report" / name
            ).read_text().endswith("\n")
    cases.commands.run(shop, *args).fine()
    assert sorted(path.name for path in (shop / "report").iterdir()) == [
        "predictions.csv",
        "report.html",
        "report.json",
    ]


@pytest.mark.fault(
    "SIGKILL while images are on their way, three times",
    "fetch",
    "the next run fetches what is missing; images are whole, and named by their digests",
)
def test_fetch_killed(tmp_path: Path) -> None:
    with web_host() as host:
        images = [(host.url(f"slow/0.05/{number}.png"), "a") for number in range(150)]
        rows = write_rows(tmp_path / "rows.csv", [("image_path", "text"), *images])
        networks = [part for network in LOOPBACK for part in ("--fetch-network", network)]
        command = command_line("fetch", rows, "--output", tmp_path / "out", *networks)
        for kill in range(1, 4):
            with started(command) as process:
                while host.requests.total() < 30 * kill and process.poll() is None:
                    time.sleep(0.005)
                process.kill()
        assert not (tmp_path / "out" / "rows.csv").exists()
        done = finished(command)
        assert (done.returncode, len(read_rows(tmp_path / "out" / "rows.csv"))) == (0, 150)
        assert host.requests.total() <= 150 + 3 * 40  # what was under way at a kill is asked again
    for path in (tmp_path / "out" / "images").rglob("*.png"):
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        assert path.stem == digest


@pytest.mark.fault("SIGINT twice in a row, an impatient Ctrl-C", "predict", SAME)
def test_predict_interrupted_twice(cases: Any, shop: Path) -> None:
    process = (
        cases.start_predict(shop, prelude=SLOW)
        .until(lambda: windows_done(shop) >= 2)
        .kill(signal.SIGINT)
    )
    if Path(f"/proc/{process.pid}").exists():
        os.kill(process.pid, signal.SIGINT)
    done = process.wait()
    assert done.code in (130, 1), done
    cases.resumed(shop)
