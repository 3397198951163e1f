"""Rows that several processes share: the same numbers, strings and errors as `load_pairs` has, of
which the first process of a machine alone reads the file.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from mismatch.data.columns import Columns
from mismatch.data.pairs import load_pairs
from mismatch.data.readers.arrow import import_pyarrow
from mismatch.errors import CheckpointError, InputError, LabelError, MismatchError
from mismatch.runtime.long_text import split_long_text
from mismatch.runtime.tokenize import Tokenizer
from mismatch.training.distributed import shared_rows as module
from mismatch.training.distributed.processes import Processes
from mismatch.training.distributed.shared_rows import cut_together, read_together
from mismatch.training.feeds.batches import PairSet, hold_out
from mismatch.training.folder.resume import rows_digest
from tests.support.teams import in_team

quick = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
PLAIN = Columns()


def shared(path: Path, count: int, base: str = "", columns: Columns = PLAIN) -> list[Any]:
    """The set of each of `count` processes, plain, or its error."""
    return in_team(
        count, lambda processes: plain(read_together(str(path), base, columns, processes))
    )


def plain(pairs: PairSet) -> PairSet:
    """With its strings in memory."""
    return PairSet(**{field.name: to_list(getattr(pairs, field.name)) for field in fields(PairSet)})


def to_list(value: Any) -> Any:
    return (
        value
        if isinstance(value, str)
        else list(value)
        if not isinstance(value, np.ndarray)
        else value
    )


def alone(path: Path, base: str = "", columns: Columns = PLAIN) -> PairSet | MismatchError:
    try:
        return PairSet.from_rows(str(path), load_pairs(path, base, columns=columns), base)
    except MismatchError as error:
        return error


def check_same(one: Any, other: Any) -> None:
    """Sets are equal, each array's type too; errors say the same and are of one kind."""
    if isinstance(other, Exception):
        assert (type(one), str(one)) == (type(other), str(other))
        return
    assert isinstance(one, PairSet), one
    for field in fields(PairSet):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(mine, theirs), field.name
        assert getattr(mine, "dtype", None) == getattr(theirs, "dtype", None), field.name


FIELDS = some.sampled_from(
    [
        b"a.jpg",
        b"b.jpg",
        b"./a.jpg",
        "é\U0001f9e5".encode(),
        b'"one, two\nthree"',
        b'5" wide',
        b'"',
        b"",
        b"\xff",
    ]
)
GOOD = some.sampled_from(
    [
        b"a.jpg",
        b"./a.jpg",
        b"b/../a.jpg",
        "é.jpg".encode(),
        b'"one, ""two""\nthree"',
        b'5" wide',
        b"red",
        b"blue\xc2\xa0bag",
    ]
)
LABELS = some.sampled_from([b"0", b"1", b"1", b" 1", b"0", b"0", b"yes", b""])


@some.composite
def tables(draw: Any) -> bytes:
    """Mostly good rows of few images and texts; some tables have what is wrong with a row, and some
    what is wrong with the file.
    """
    kind = draw(some.sampled_from([GOOD, GOOD, FIELDS]))
    labels = draw(some.sampled_from([some.sampled_from([b"0", b"1"]), LABELS]))
    rows = draw(some.lists(some.tuples(kind, kind, labels).map(b",".join), max_size=30))
    return b"".join(
        row + draw(some.sampled_from([b"\n", b"\r\n"])) for row in [b"image_path,text,label", *rows]
    )


@quick
@given(tables(), some.integers(1, 4))
def test_several_processes_have_the_rows_and_the_errors_of_one(
    tmp_path: Path, table: bytes, count: int
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(table)
    expected = alone(path)
    for found in shared(path, count):
        check_same(found, expected)


def write(path: Path, rows: int, label: Callable[[int], object] = lambda i: i % 2) -> Path:
    path.write_text(
        "image_path,text,label\n"
        + "".join(f'{i % 37}.jpg,"a ""{i % 11}""\nshirt",{label(i)}\n' for i in range(rows))
    )
    return path


@pytest.mark.parametrize(("name", "wrong"), [("rows.csv", "yes"), ("rows.jsonl", 2)])
def test_bad_rows_of_all_processes_are_one_error_with_the_first_ten_and_the_count(
    tmp_path: Path, name: str, wrong: object
) -> None:
    path = tmp_path / name
    if name == "rows.csv":
        write(path, 100, label=lambda i: wrong if i % 5 == 4 else 1)
    else:
        path.write_text(
            "".join(
                json.dumps(
                    {"image_path": "a.jpg", "text": "é", "label": wrong if i % 5 == 4 else 1}
                )
                + "\n"
                for i in range(100)
            )
        )
    found = shared(path, 3)
    assert all(type(error) is LabelError for error in found)
    assert {str(error) for error in found} == {str(alone(path))}
    assert "(and 10 more; mismatch validate lists all)" in str(found[0])
    assert str(found[0]).count("rows.") == 10


def test_a_label_at_fault_in_one_process_and_a_text_in_another_are_no_label_error(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("image_path,text,label\na.jpg,red,yes\n" + "a.jpg,red,1\n" * 20 + "a.jpg,,1\n")
    for error in shared(path, 2):
        check_same(error, alone(path))
        assert type(error) is InputError


def test_rows_of_several_images_and_other_columns_are_read_as_the_options_say(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.tsv"
    rows = [
        f"{i}.png\tred {i % 3}\tmismatch" if i % 4 else f"{i}.png; {i + 1}.png\tred {i % 3}\tMatch"
        for i in range(40)
    ]
    path.write_text("\n".join(["photo\ttitle\tverdict", *rows]))
    columns = Columns("photo", "title", "verdict", "match/mismatch", "all")
    expected = alone(path, "photos", columns)
    assert isinstance(expected, PairSet)
    assert len(expected) == 50
    for found in shared(path, 3, "photos", columns):
        check_same(found, expected)


def test_what_is_held_out_is_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", 200)
    whole = alone(path)
    assert isinstance(whole, PairSet)

    def held(processes: Processes) -> list[PairSet]:
        pairs = read_together(str(path), "", PLAIN, processes)
        return [plain(part) for part in hold_out(pairs, 0.2, 3)]

    for parts in in_team(3, held):
        for found, expected in zip(parts, hold_out(whole, 0.2, 3), strict=True):
            check_same(found, expected)


def test_long_texts_are_cut_into_the_same_pieces_and_counted_once(
    tmp_path: Path, colour_engine: Any
) -> None:
    spec = colour_engine().text_spec
    tokenizer, length = Tokenizer(spec), spec.context_length
    texts = ["red shirt", "red. " * length, "blue " * (3 * length), "bag", "red. " * length + "bag"]
    for name, first in (("train.csv", 0), ("val.csv", 1)):
        (tmp_path / name).write_text(
            "image_path,text,label\n"
            + "".join(f"{i}.jpg,{texts[(first + i) % (4 + first)]},{i % 2}\n" for i in range(12))
        )
    whole = [alone(tmp_path / name) for name in ("train.csv", "val.csv")]
    long = [text for text in texts if tokenizer.encode([text])[1] == [True]]
    assert len(long) == 3

    def cut(processes: Processes, cut: bool) -> tuple[list[PairSet], int]:
        sets = [
            read_together(str(tmp_path / name), "", PLAIN, processes)
            for name in ("train.csv", "val.csv")
        ]
        found, count = cut_together(sets, tokenizer, processes, cut=cut)
        return [plain(pairs) for pairs in found], count

    for found, count in (
        *in_team(1, lambda processes: cut(processes, True)),
        *in_team(3, lambda processes: cut(processes, True)),
    ):
        assert count == 3
        for pairs, expected in zip(found, whole, strict=True):
            assert isinstance(expected, PairSet)
            check_same(
                pairs, expected.cut({text: split_long_text(text, tokenizer) for text in long})
            )
    for found, count in in_team(2, lambda processes: cut(processes, False)):
        assert count == 3
        for pairs, expected in zip(found, whole, strict=True):
            check_same(pairs, expected)


def test_the_digest_of_the_rows_is_one_whatever_the_number_of_processes(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", 60)
    pairs = alone(path, "photos")
    assert isinstance(pairs, PairSet)
    digests = {
        digest
        for count in (1, 2, 3)
        for digest in in_team(count, lambda processes: rows_digest([pairs], "photos", processes))
    }
    assert len(digests) == 1
    changed = alone(write(path, 60, label=lambda i: int(i != 7)), "photos")
    assert isinstance(changed, PairSet)
    [found] = in_team(1, lambda processes: rows_digest([changed], "photos", processes))
    assert isinstance(found, str)
    assert found not in digests


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file of the rows is written, and nothing else."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_file_of_the_rows_is_gone_once_it_is_mapped_and_after_an_error(
    tmp_path: Path, scratch: Path
) -> None:
    path = write(tmp_path / "rows.csv", 60)

    def read(processes: Processes) -> list[str]:
        pairs = read_together(str(path), "", PLAIN, processes)
        assert not [*scratch.iterdir()]
        return list(pairs.texts)

    assert len({tuple(texts) for texts in in_team(3, read)}) == 1
    write(path, 60, label=lambda i: "yes")
    assert all(isinstance(error, LabelError) for error in in_team(2, read))
    assert not [*scratch.iterdir()]


def test_rows_of_several_batches_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 7)
    monkeypatch.setattr(module, "BATCH_LETTERS", 90)
    path = write(tmp_path / "rows.csv", 100)
    for found in shared(path, 3):
        check_same(found, alone(path))


def test_a_full_disk_is_one_line_in_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    full = tmp_path / "full.arrow"
    full.touch()
    monkeypatch.setattr(
        tempfile,
        "mkstemp",
        lambda **_: (os.open("/dev/full", os.O_WRONLY), str(full)),
    )
    for error in shared(write(tmp_path / "rows.csv", 9_000), 2):
        assert type(error) is CheckpointError
        assert str(error) == (
            "the rows can't be written to a temporary file: No space left on device; free space in"
            f" {tmp_path}, or let TMPDIR name another folder"
        )
    assert not full.exists()


def test_a_process_that_sees_no_file_of_its_machine_is_an_error_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["one", "other", "other", "other"])
    monkeypatch.setattr(socket, "gethostname", lambda: next(names))
    for error in shared(write(tmp_path / "rows.csv", 9), 2):
        assert type(error) is CheckpointError
        assert "of 2 sees no rows in" in str(error)
        assert "let TMPDIR name a folder that they share" in str(error)


def test_machines_that_see_different_files_are_told_so(tmp_path: Path) -> None:
    for index in range(2):
        (tmp_path / str(index)).mkdir()
        write(tmp_path / str(index) / "rows.csv", 5, label=lambda i, index=index: i % 2 or index)  # type: ignore[misc]

    def read(processes: Processes) -> PairSet:
        processes.first_of_machine = True
        path = tmp_path / str(processes.index) / "rows.csv"
        return read_together(str(path), "", PLAIN, processes)

    for index, error in enumerate(in_team(2, read)):
        assert type(error) is InputError
        assert str(error) == (
            f"{tmp_path / str(index) / 'rows.csv'}: process 1 of 2 finds another file there than"
            " process 0; give all of them the same one"
        )


def test_parquet_and_datasets_are_shared_too(tmp_path: Path) -> None:
    pa, pq = import_pyarrow("this test")
    path = tmp_path / "rows.parquet"
    table = pa.table(
        {
            "image_path": [f"{i % 7}.jpg" for i in range(50)],
            "text": ["é" * (1 + i % 4) for i in range(50)],
            "label": [i % 2 for i in range(50)],
        }
    )
    pq.write_table(table, path, row_group_size=9)
    for found in shared(path, 3):
        check_same(found, alone(path))


REAL = """
import json, sys
from dataclasses import fields
from pathlib import Path

import numpy as np

from mismatch.data.readers import csv as csv_rows
from mismatch.errors import InputError
from mismatch.training.config import TrainConfig
from mismatch.training.feeds.prepare import load_sets
from mismatch.training.distributed.processes import Processes
from mismatch.training.folder.resume import rows_digest

parsed, folder = [], Path(sys.argv[1])


def counted(line, *rest, real=csv_rows._row):
    parsed.append(line)
    return real(line, *rest)


csv_rows._row = counted
processes = Processes.start("cpu")
arrays = [np.arange(3 * processes.index, dtype=np.int64).reshape(-1, 3), np.array([b"x" * 16] * (1 - processes.index), "S16"), np.zeros(0, np.float32)]
exchanged = [[str(one.dtype), one.astype("U16").tolist()] for array in arrays for one in processes.gather(array)]


def odd():
    if processes.index == 1:
        raise KeyError("odd")
    return "even"


try:
    unforeseen = processes.each(odd)
except Exception as error:
    unforeseen = [type(error).__name__, str(error)]
config = TrainConfig(train_csv=str(folder / "rows.csv"), image_base_path="photos", seed=5)
sets = load_sets(config, processes)
strings = [[list(map(str, pairs.images)), list(pairs.texts)] for pairs in sets]
numbers = [[getattr(pairs, name).tolist() for name in ("image_of", "text_of", "labels", "lines", "piece_of", "starts")] for pairs in sets]
digest, lines = rows_digest(sets, "photos", processes), list(parsed)
try:
    load_sets(TrainConfig(train_csv=str(folder / "bad.csv")), processes)
except InputError as error:
    refused = [type(error).__name__, str(error)]
said = {"exchanged": exchanged, "unforeseen": unforeseen, "sets": [strings, numbers], "digest": digest, "lines": lines, "refused": refused}
(folder / f"said{processes.index}.json").write_text(json.dumps(said))
processes.end()
"""


@pytest.mark.slow
def test_of_two_real_processes_the_first_reads_all_rows_and_both_have_the_same_sets(
    tmp_path: Path,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    write(tmp_path / "rows.csv", 400)
    write(tmp_path / "bad.csv", 400, label=lambda i: "no" if i in (3, 390) else 1)
    (tmp_path / "real.py").write_text(REAL)
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "localhost:0",
    ]
    for command in (
        [*launch, str(tmp_path / "real.py"), str(tmp_path)],
        [sys.executable, str(tmp_path / "real.py"), str(tmp_path)],
    ):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)},
        )
        assert done.returncode == 0, done.stderr
        if command[0:2] == launch[0:2]:
            two = [json.loads((tmp_path / f"said{index}.json").read_text()) for index in range(2)]
    one = json.loads((tmp_path / "said0.json").read_text())
    assert [len(said["lines"]) for said in (one, *two)] == [400, 400, 0]
    for said in two:
        assert said["exchanged"] == [
            ["int64", []],
            ["int64", [["0", "1", "2"]]],
            ["|S16", ["x" * 16]],
            ["|S16", []],
            ["float32", []],
            ["float32", []],
        ]
        assert (said["sets"], said["digest"], said["refused"]) == (
            one["sets"],
            one["digest"],
            one["refused"],
        )
    assert not [*scratch.glob("mismatch-*")]
    assert "bad.csv:8: label 'no'" in one["refused"][1]
    assert "bad.csv:782: label 'no'" in one["refused"][1]
    assert [said["unforeseen"] for said in two] == [
        ["MismatchError", "process 1 of this run failed: KeyError: 'odd'"],
        ["KeyError", "'odd'"],
    ]
