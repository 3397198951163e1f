"""Files in spans: whatever stands in a file, the rows of its spans are those of the whole, with
their lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from mismatch.data import spans as module
from mismatch.data.columns import Columns
from mismatch.data.pairs import Row, read_rows, span_rows
from mismatch.data.readers.arrow import import_pyarrow
from mismatch.data.rows import SpanError
from mismatch.data.spans import find_spans
from mismatch.errors import InputError
from tests.teams import in_team

quick = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
HEADER = b"image_path,text,label"
FIELDS = some.sampled_from(
    [
        b"a.jpg",
        "é\U0001f9e5日".encode(),
        b"x",
        b"",
        b'"',
        b",",
        b"\n",
        b"\r\n",
        b"\r",
        b" ",
        b'""',
        b'"\n"',
        b",,\r",
    ]
)
ENDS = some.sampled_from([b"\n", b"\r\n"])


@pytest.fixture(autouse=True)
def _no_file_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_BYTES", 0)
    monkeypatch.setattr(module, "LEAST_ROWS", 0)


def quoted(parts: list[bytes]) -> bytes:
    return b'"' + b"".join(parts).replace(b'"', b'""') + b'"'


@some.composite
def tables(draw: Any) -> bytes:
    """CSV whose fields are quoted where they need to be, with blank lines, any line ends, a mark of
    its encoding and a last line without an end.
    """
    end = draw(ENDS)
    fields = some.lists(FIELDS, max_size=5).map(quoted) | some.sampled_from(
        [b"b.jpg", "красный".encode(), b"1", b"0", b""]
    )
    records = draw(
        some.lists(some.lists(fields, min_size=1, max_size=4).map(b",".join), max_size=25)
    )
    ends = draw(
        some.lists(
            some.sampled_from([end, end, end * 2, b"\r"]),
            min_size=len(records),
            max_size=len(records),
        )
    )
    head = (
        draw(some.sampled_from([b"", b"\xef\xbb\xbf"]))
        + draw(some.sampled_from([b"", end]))
        + HEADER
        + end
    )
    table: bytes = head + b"".join(record + end for record, end in zip(records, ends, strict=True))
    return table.rstrip(b"\r\n") if draw(some.booleans()) else table


def in_spans(path: Path, count: int) -> list[list[Row]]:
    """The rows that each of `count` processes reads."""
    found = in_team(count, lambda team: find_spans(path, Columns(), team))
    assert all(spans == found[0] for spans in found), found
    if found[0] is None:
        raise SpanError
    return [list(span_rows(path, span)) for span in found[0]]


def whole(path: Path) -> list[Row]:
    return list(read_rows(path, require_label=True))


def joined(shares: list[list[Row]]) -> list[Row]:
    return [row for share in shares for row in share]


@quick
@given(tables(), some.integers(2, 5))
def test_spans_of_csv_are_the_whole(tmp_path: Path, table: bytes, count: int) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(table)
    assert joined(in_spans(path, count)) == whole(path)


@quick
@given(
    some.lists(FIELDS | some.sampled_from([b",1\n", b",text,0\n", b"\xff"]), max_size=40),
    some.integers(2, 4),
)
def test_where_quotes_are_astray_spans_are_the_whole_or_say_that_they_are_not(
    tmp_path: Path, parts: list[bytes], count: int
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(HEADER + b"\n" + b"".join(parts))
    try:
        shares = in_spans(path, count)
    except SpanError:
        return
    assert joined(shares) == whole(path)


def test_a_quote_that_is_astray_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(HEADER + b"\n" + b'a.jpg,5" screen,1\n' + b'b.jpg,"two\nlines",0\n' * 20)
    assert len(whole(path)) == 21
    with pytest.raises(SpanError):
        in_spans(path, 2)


def test_each_process_reads_about_as_much_as_the_others(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(
        HEADER
        + b"\n"
        + b"".join(
            b'%d.jpg,"a ""red""\nshirt, size %d",%d\n' % (i, i % 50, i % 2) for i in range(1000)
        )
    )
    shares = in_spans(path, 4)
    # lines of the first ones are shorter
    assert [len(share) for share in shares] == [253, 249, 249, 249]
    assert joined(shares)[500] == whole(path)[500]
    assert joined(shares)[500].line == 1002


@some.composite
def json_lines(draw: Any) -> bytes:
    """Objects, blank lines, and what is no object."""
    texts = some.text(some.characters(exclude_categories=["Cs"]), max_size=8)
    objects = some.fixed_dictionaries(
        {"image_path": texts, "text": texts}, optional={"label": some.sampled_from([0, 1, "1", 2])}
    )
    lines = objects.map(
        lambda found: json.dumps(found, ensure_ascii=False).encode()
    ) | some.sampled_from([b"", b"\r", b"[1]", b"nothing", b"\xff", b'{"text": "'])
    end = draw(ENDS)
    first = json.dumps(
        {"image_path": "a.jpg", "text": "é", "label": 1}, ensure_ascii=False
    ).encode()
    table: bytes = (
        draw(some.sampled_from([b"", b"\xef\xbb\xbf"]))
        + end.join([first, *draw(some.lists(lines, max_size=25))])
        + draw(some.sampled_from([b"", end]))
    )
    return table


@quick
@given(json_lines(), some.integers(2, 5))
def test_spans_of_json_lines_are_the_whole(tmp_path: Path, lines: bytes, count: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines)
    assert joined(in_spans(path, count)) == whole(path)


@quick
@given(some.integers(0, 40), some.integers(1, 50), some.integers(2, 5))
def test_spans_of_parquet_are_the_whole_wherever_its_row_groups_end(
    tmp_path: Path, rows: int, group: int, count: int
) -> None:
    pa, pq = import_pyarrow("this test")
    path = tmp_path / "rows.parquet"
    labels = [i % 3 for i in range(rows)]  # a third of them no labels
    table = pa.table(
        {
            "image_path": [f"{i}.jpg" for i in range(rows)],
            "text": ["é" * (i % 4) for i in range(rows)],
            "label": labels,
        }
    )
    pq.write_table(table, path, row_group_size=group)
    shares = in_spans(path, count)
    assert joined(shares) == whole(path)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def batches(rows: int) -> Iterator[list[int]]:
    numbers = list(range(rows))
    yield from (numbers[i : i + 7] for i in range(0, rows, 7))


def test_spans_of_a_dataset_are_the_whole_through_all_its_files(tmp_path: Path) -> None:
    pa, _ = import_pyarrow("this test")
    names = ["one.arrow", "two.arrow"]
    (tmp_path / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in names]})
    )
    for name, rows in zip(names, (30, 11), strict=True):
        tables = [
            pa.table(
                {
                    "image_path": [f"{name}{i}" for i in chosen],
                    "text": ["x"] * len(chosen),
                    "label": [1] * len(chosen),
                }
            )
            for chosen in batches(rows)
        ]
        with (
            pa.OSFile(str(tmp_path / name), "wb") as file,
            pa.ipc.new_stream(file, tables[0].schema) as writer,
        ):
            for table in tables:
                writer.write_table(table)
    shares = in_spans(tmp_path, 3)
    assert [len(share) for share in shares] == [13, 14, 14]
    assert joined(shares) == whole(tmp_path)
    assert joined(shares)[-1].line == 41


@pytest.mark.parametrize(
    "head",
    [
        b"path,text,label\n",
        b"",
        b"image_path,text,text\n",
        b'"image_path,text,label\n',
        b"image_path,\xff,label\n",
    ],
)
def test_a_header_at_fault_is_left_to_one_process(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(head)
    assert in_team(2, lambda team: find_spans(path, Columns(), team)) == [None, None]
    with pytest.raises(InputError):
        whole(path)


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_small_file_is_left_to_one_process(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    path.write_bytes(HEADER + b"\n" + b"x" * 2 * 2**16)
    assert isinstance(in_team(2, lambda team: find_spans(path, Columns(), team))[0], list)
    monkeypatch.setattr(module, "LEAST_BYTES", 2**16 + len(HEADER) + 1)
    assert in_team(2, lambda team: find_spans(path, Columns(), team)) == [None, None]


def test_processes_that_see_different_files_are_told_so(tmp_path: Path) -> None:
    for index in range(2):
        (tmp_path / str(index)).mkdir()
        (tmp_path / str(index) / "rows.csv").write_bytes(
            HEADER + b"\n" + b"a.jpg,red,1\n" * (5 + index)
        )
    for count in (2, 3):  # the third has none
        found = in_team(
            count, lambda team: find_spans(tmp_path / str(team.index) / "rows.csv", Columns(), team)
        )
        assert [type(error) for error in found] == [InputError] * count
        said = (
            f"process 1 of {count} finds another file there than process 0, or none; give all of"
            " them the same one"
        )
        assert [str(error) for error in found] == [
            f"{tmp_path / str(index) / 'rows.csv'}: {said}" for index in range(count)
        ]


def test_a_file_that_cant_be_opened_is_left_to_one_process(tmp_path: Path) -> None:
    for name in ("absent.csv", "absent.jsonl", "absent.parquet"):
        find = partial(find_spans, tmp_path / name, Columns())
        assert in_team(2, find) == [None, None]


def test_lines_are_counted_as_csv_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", 3)
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a\r\nbb\r\nc\rd\n\r\n")
    assert module._count_lines(path, 0, 13, returns=True) == 5
    assert module._count_lines(path, 0, 13, returns=False) == 4
