"""mismatch.jobs.output.prediction_file: which file is written, in which format."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from mismatch.errors import InputError, MachineError
from mismatch.jobs.output.prediction_file import STDOUT, PredictionFile
from mismatch.jobs.scored_windows import Entry
from mismatch.runtime.predictor import Prediction

ENTRY = Entry(Prediction("a.jpg", "größe", 0.5, 0.25, True, "match", "ok"), ["=1"])


@pytest.mark.parametrize(
    ("name", "kind", "is_plain"),
    [("out.tsv", "tsv", True), ("-", "csv", False), ("/dev/null", "csv", False)],
)
def test_the_name_says_what_it_is(tmp_path: Path, name: str, kind: str, is_plain: bool) -> None:
    path = name if name in ("-", "/dev/null") else tmp_path / name
    file = PredictionFile.of(path, [], safe=False)
    assert (file.kind, file.format, file.is_plain) == (kind, kind, is_plain)
    assert PredictionFile.of(path, [], safe=True).format == f"{kind} without formulas"


@pytest.mark.skipif(not Path("/dev/fd/1").exists(), reason="there is no /dev/fd")
def test_standard_output_has_one_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    for name in ("/dev/stdout", "/dev/fd/1", tmp_path / "link"):
        assert PredictionFile.of(name, [], safe=False).name == STDOUT
    assert not PredictionFile.of("/dev/fd/2", [], safe=False).is_plain


@pytest.mark.parametrize(
    ("name", "safe", "words"),
    [
        ("s3://shop/out.csv", False, "is a URL, and one file is written here"),
        ("out.csv/", False, "names a folder"),
        ("rows.csv", False, "is the input"),
        ("linked.csv", False, "the unfinished `output` .*linked.csv.part is the input"),
        ("named.csv", False, "the unfinished `output` .*named.csv.part.json is the input"),
        ("notes.csv", False, "is not an unchanged table of predictions of mismatch"),
        ("out.jsonl", True, "`safe_csv` goes with CSV"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, safe: bool, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for there in ("rows.csv", "notes.csv", "named.csv.part.json"):
        Path(there).write_text("mine")
    Path("linked.csv.part").symlink_to("rows.csv")
    inputs = [Path("rows.csv"), Path("named.csv.part.json")]
    with pytest.raises(InputError, match=words):
        PredictionFile.of(name, inputs, safe=safe)


def test_rows_on_standard_output_are_the_bytes_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii", newline="\r\n")
    monkeypatch.setattr(sys, "stdout", stream)
    for name in ("-", tmp_path / "out.csv"):
        with PredictionFile.of(name, [], safe=True).open(["sku"]) as sink:
            sink.write([ENTRY])
    assert stream.encoding == "ascii"
    assert written.getvalue() == (tmp_path / "out.csv").read_bytes()
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)  # as a notebook's, which has no bytes
    with PredictionFile.of("-", [], safe=False).open([]) as sink:
        sink.write([ENTRY])
    assert "größe" in shown.getvalue()
    monkeypatch.setattr(sys, "stdout", None)
    with (
        pytest.raises(MachineError, match="no standard output"),
        PredictionFile.of("-", [], safe=False).open([]),
    ):
        pytest.fail("never reached")


def test_a_table_with_a_column_of_somebodys_own_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    for kept, may_replace in (
        ([], True),
        (["sku", "=1"], True),
        (["sku", "=1", "my_verdict"], False),
        (["my_verdict"], False),
        (["label", "line"], False),
    ):
        for safe in (False, True):
            path.unlink(missing_ok=True)
            with PredictionFile.of(path, [], safe=safe).open(kept):
                pass
            if may_replace:
                PredictionFile.of(path, [], safe=safe, copied=["sku", "=1"])
                continue
            with pytest.raises(InputError, match="out.csv is there already"):  # noqa: RUF043
                PredictionFile.of(path, [], safe=safe, copied=["sku", "=1"])
