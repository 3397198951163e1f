"""mismatch.io.streams: a closed or full standard stream, a locale of ASCII and names that are no
text end no command as a bug.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mismatch.io.streams import open_closed_streams, settle, show_all_letters, stream_error
from tests.support.processes import command_line

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="streams are closed by a POSIX shell, names are bytes"
)

MISMATCH = f"{sys.executable} -m mismatch"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ROWS = "image_path,text,label\na.png,red,1\n"


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["/bin/sh", "-c", command],
        capture_output=True,
        cwd=folder,
        env={**os.environ, **environment},
        timeout=100,
    )


def is_clean(done: subprocess.CompletedProcess[bytes]) -> bool:
    """Whether an error is one line, and none of Python's own."""
    said = done.stderr + done.stdout
    return (
        b"this is a bug" not in said
        and b"Traceback" not in said
        and b"Exception ignored" not in said
    )


@pytest.mark.parametrize(
    "arguments", ["--help", "--version", "backbones list", "validate rows.csv", "predict --help"]
)
@pytest.mark.parametrize(
    ("redirection", "words"), [(">&-", "it is closed"), ("> /dev/full", "No space left on device")]
)
def test_what_cannot_be_printed_is_one_line(
    tmp_path: Path, arguments: str, redirection: str, words: str
) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    done = shell(f"{MISMATCH} {arguments} {redirection}", tmp_path)
    assert (done.returncode, is_clean(done)) == (2, True), done.stderr
    assert f"can't write standard output: {words}" in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("redirection", ["2>&-", "<&-", "<&- 2>&-"])
def test_other_closed_streams_change_nothing(tmp_path: Path, redirection: str) -> None:
    done = shell(f"{MISMATCH} --version {redirection}", tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith(b"mismatch ")


def test_a_file_never_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """What is printed would be in it."""
    (tmp_path / "rows.csv").write_text(ROWS)
    done = shell(f"{MISMATCH} validate rows.csv --report o.json >&- 2>&- <&-", tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "o.json").read_bytes().startswith(b'{\n  "ok": ')


@pytest.mark.parametrize(
    "zone", ["UTC+30", "UTC-99:99:99", "<+99>99", ":", "Nowhere/None", "x" * 300]
)
def test_no_time_zone_is_a_bug(tmp_path: Path, zone: str) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    done = shell(f"{MISMATCH} validate rows.csv --report o.json", tmp_path, TZ=zone)
    assert (done.returncode, is_clean(done)) == (1, True), done.stderr
    assert (tmp_path / "o.json").is_file()


@pytest.mark.parametrize(
    "environment",
    [{}, ASCII, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "POSIX"}],
    ids=["as here", "ASCII", "ASCII terminal", "POSIX"],
)
@pytest.mark.parametrize("name", ["é".encode(), b"n\xff"], ids=["UTF-8", "bytes"])
def test_names_in_every_locale(tmp_path: Path, environment: dict[str, str], name: bytes) -> None:
    """An argument, a folder, an image, an output and what is said of them."""
    folder = os.path.join(os.fsencode(tmp_path), name)
    os.mkdir(folder)
    Path(os.fsdecode(folder), "é.csv").write_text(
        "image_path,text,label\né.png,é,1\nabsenté.png,é,0\n", encoding="utf-8"
    )
    text = os.fsdecode(name)
    reports = ("--report", f"{text}/ö.json", "--report", f"{text}/ö.html")
    done = subprocess.run(
        command_line("validate", f"{text}/é.csv", "--image-base-path", text, *reports),
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, **environment},
        timeout=100,
    )
    assert (done.returncode, is_clean(done)) == (1, True), done.stderr
    assert sorted(os.listdir(folder)) == ["é.csv".encode(), "ö.html".encode(), "ö.json".encode()]
    assert "absenté.png" in Path(os.fsdecode(folder), "ö.json").read_text(encoding="utf-8")
    assert b"not found" in done.stdout


def test_a_command_that_does_not_exist_is_said_in_ascii_too(tmp_path: Path) -> None:
    done = subprocess.run(
        command_line("é"),
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, **ASCII},
        timeout=100,
    )
    assert (done.returncode, is_clean(done)) == (2, True), done.stderr


def test_in_an_ordinary_process_nothing_is_changed(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    open_closed_streams()
    settle(sys.stdout)
    settle(None)
    show_all_letters(None)
    assert (sys.stdout, sys.stderr) == before
    error = OSError(5, "Input/output error")
    assert stream_error(error) is error
